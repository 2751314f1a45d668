"""Metrics of every process, in one registry that is passed on and served by whoever has a server.

Names are `crikpy_<noun>_<unit>`; labels have few values, never a pod's name. A process serves only what it
measures itself: a controller that said that its node is not ready would be believed.
"""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from crikpy import __version__

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 300, 600)
_MARGINS = (0, 5, 10, 20, 30, 45, 60, 75, 90, 105, 120, 300)
_ANSWERS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Component(StrEnum):
    """The processes that have metrics."""

    AGENT = "agent"
    CONTROLLER = "controller"


class Metrics:
    """Every metric, as attributes; those of other components can be set, and are not rendered.

    Args:
        component: whose process this is; None renders all of them.
    """

    def __init__(self, component: Component | None = None) -> None:
        self.registry = CollectorRegistry()
        elsewhere = CollectorRegistry()
        agent = self.registry if component in (None, Component.AGENT) else elsewhere
        controller = self.registry if component in (None, Component.CONTROLLER) else elsewhere
        self.build = Gauge(
            "crikpy_build_info", "Always 1; which release runs here.", ["version"], registry=self.registry
        )
        self.build.labels(version=__version__).set(1)
        self.notices = Counter(
            "crikpy_notices_total",
            "Interruption notices of the metadata service by trigger and strength (final, advice).",
            ["trigger", "strength"],
            registry=agent,
        )
        self.metadata_reachable = Gauge(
            "crikpy_metadata_reachable", "1 while the metadata service answers.", registry=agent
        )
        self.notices_active = Gauge(
            "crikpy_notices_active", "Interruption notices in force on this node.", registry=agent
        )
        self.checkpoints = Counter(
            "crikpy_checkpoints_total",
            "Checkpoints of pods by trigger and outcome (complete, or the reason of the failure).",
            ["trigger", "outcome"],
            registry=agent,
        )
        self.checkpoint_seconds = Histogram(
            "crikpy_checkpoint_duration_seconds",
            "Time from the beginning of a checkpoint to its commit.",
            buckets=_SECONDS,
            registry=agent,
        )
        self.frozen_seconds = Histogram(
            "crikpy_frozen_duration_seconds",
            "Time that a job stood still for its checkpoint.",
            buckets=_SECONDS,
            registry=agent,
        )
        self.transferred_bytes = Counter(
            "crikpy_transferred_bytes_total",
            "Bytes exchanged with the store by direction (upload, download).",
            ["direction"],
            registry=agent,
        )
        self.restores = Counter(
            "crikpy_restores_total",
            "Starts of opted-in pods by outcome (resumed, cold, or the reason of the failure).",
            ["outcome"],
            registry=agent,
        )
        self.restore_seconds = Histogram(
            "crikpy_restore_duration_seconds",
            "Time from a claim to the job going on.",
            buckets=_SECONDS,
            registry=agent,
        )
        self.capsules = Gauge(
            "crikpy_capsules",
            "Launchers on this node by the phase of their jobs.",
            ["phase"],
            registry=agent,
        )
        self.node_ready = Gauge("crikpy_node_ready", "1 when this node can save jobs.", registry=agent)
        self.leading = Gauge("crikpy_leading", "1 while this controller is the leader.", registry=controller)
        self.admissions = Counter(
            "crikpy_admissions_total",
            "Reviews of the webhook by outcome (injected, unchanged, refused, failed).",
            ["outcome"],
            registry=controller,
        )
        self.orders = Counter(
            "crikpy_orders_total", "Checkpoint objects made, by trigger.", ["trigger"], registry=controller
        )
        self.evictions = Counter(
            "crikpy_evictions_total",
            "Ends of saved pods by outcome (evicted, deleted, gone).",
            ["outcome"],
            registry=controller,
        )
        self.source_working = Gauge(
            "crikpy_source_working",
            "1 while a source of interruption notices works, 0 while it does not; absent when it is off.",
            ["source"],
            registry=controller,
        )
        self.source_notices = Counter(
            "crikpy_source_notices_total",
            "News of the controller's sources by source and outcome (acted, known, foreign, failed).",
            ["source", "outcome"],
            registry=controller,
        )
        self.queue_messages = Counter(
            "crikpy_queue_messages_total",
            "Messages of the queue by outcome (acted, known, foreign, ignored, test, unparsable, failed).",
            ["outcome"],
            registry=controller,
        )
        self.lifecycle_hooks = Counter(
            "crikpy_lifecycle_hooks_total",
            "Lifecycle actions by outcome (continued, expired).",
            ["outcome"],
            registry=controller,
        )
        self.order_seconds = Histogram(
            "crikpy_notice_to_order_seconds",
            "Time from a notice being read to a pod's order standing in the API server.",
            buckets=_SECONDS,
            registry=controller,
        )
        self.planned_pods = Gauge(
            "crikpy_planned_pods",
            "Pods of this node by what the plan says of them (running, next, last, unsaved).",
            ["verdict"],
            registry=agent,
        )
        self.throughput = Gauge(
            "crikpy_dump_throughput_bytes_per_second",
            "Measured bytes of memory per second of one dump by path (read: all memory; write: what is new).",
            ["path"],
            registry=agent,
        )
        self.placements = Counter(
            "crikpy_placements_total",
            "Pods kept to nodes on which their checkpoint can be resumed, by strength (preferred, required).",
            ["strength"],
            registry=controller,
        )
        self.misfits = Counter(
            "crikpy_misfits_total",
            "Pods on nodes on which their checkpoint cannot be resumed, by outcome (moved, cold, refused).",
            ["outcome"],
            registry=agent,
        )
        self.watch_restarts = Counter(
            "crikpy_watch_restarts_total",
            "Watches begun anew, by resource and reason (closed, expired, broken, silent).",
            ["resource", "reason"],
            registry=self.registry,
        )
        self.upload_seconds = Histogram(
            "crikpy_upload_duration_seconds",
            "Time for which memory was read and stored in one checkpoint.",
            buckets=_SECONDS,
            registry=agent,
        )
        self.margin_seconds = Histogram(
            "crikpy_checkpoint_margin_seconds",
            "Time that was left at the commit of a save for good before it had to be complete.",
            buckets=_MARGINS,
            registry=agent,
        )
        self.rescued_seconds = Counter(
            "crikpy_rescued_work_seconds_total",
            "Running time of pods, since their starts, that was saved for good.",
            registry=agent,
        )
        self.lost_seconds = Counter(
            "crikpy_lost_work_seconds_total",
            "Running time of pods, since their starts, whose save for good failed; at most so much is lost.",
            registry=agent,
        )
        self.store_errors = Counter(
            "crikpy_store_errors_total",
            "Requests that the store did not fulfil, by act (read, write, list, check) and reason.",
            ["act", "reason"],
            registry=agent,
        )
        self.admission_seconds = Histogram(
            "crikpy_admission_duration_seconds",
            "Time that the webhook took for a review.",
            buckets=_ANSWERS,
            registry=controller,
        )
        self.certificate_expiry = Gauge(
            "crikpy_webhook_certificate_expiry_timestamp_seconds",
            "When the certificate in use ends, in seconds since 1970; 0 while there is none.",
            registry=controller,
        )
        self.nodes = Gauge(
            "crikpy_nodes",
            "Nodes of the cluster by state (able to save, unable, noticed: going away). Only the leader counts.",
            ["state"],
            registry=controller,
        )
        self.pods = Gauge(
            "crikpy_opted_in_pods",
            "Running opted-in pods by state (savable, not_injected, node_unable). Only the leader counts.",
            ["state"],
            registry=controller,
        )
        self.action_failures = Counter(
            "crikpy_action_failures_total",
            "Acts of the leader that the API server did not fulfil, by reason; they are tried again.",
            ["reason"],
            registry=controller,
        )
        self.queue_lag_seconds = Histogram(
            "crikpy_queue_lag_seconds",
            "Time from the sending of a message to the queue to its being read.",
            buckets=_SECONDS,
            registry=controller,
        )

    def render(self) -> str:
        """Return all of it in the text format of Prometheus."""
        return generate_latest(self.registry).decode()
