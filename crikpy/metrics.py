"""Metrics of every process, in one registry that is passed on and served by whoever has a server.

Names are `crikpy_<noun>_<unit>`; labels have few values, never a pod's name.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 300, 600)


class Metrics:
    """Every metric, as attributes."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.notices = Counter(
            "crikpy_notices_total", "Interruption notices by trigger.", ["trigger"], registry=self.registry
        )
        self.metadata_reachable = Gauge(
            "crikpy_metadata_reachable", "1 while the metadata service answers.", registry=self.registry
        )
        self.notices_active = Gauge(
            "crikpy_notices_active", "Interruption notices in force on this node.", registry=self.registry
        )
        self.checkpoints = Counter(
            "crikpy_checkpoints_total",
            "Checkpoints of pods by trigger and outcome (complete, or the reason of the failure).",
            ["trigger", "outcome"],
            registry=self.registry,
        )
        self.checkpoint_seconds = Histogram(
            "crikpy_checkpoint_duration_seconds",
            "Time from the beginning of a checkpoint to its commit.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.frozen_seconds = Histogram(
            "crikpy_frozen_duration_seconds",
            "Time that a job stood still for its checkpoint.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.transferred_bytes = Counter(
            "crikpy_transferred_bytes_total",
            "Bytes exchanged with the store by direction (upload, download).",
            ["direction"],
            registry=self.registry,
        )
        self.restores = Counter(
            "crikpy_restores_total",
            "Starts of opted-in pods by outcome (resumed, cold, or the reason of the failure).",
            ["outcome"],
            registry=self.registry,
        )
        self.restore_seconds = Histogram(
            "crikpy_restore_duration_seconds",
            "Time from a claim to the job going on.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.capsules = Gauge(
            "crikpy_capsules",
            "Launchers on this node by the phase of their jobs.",
            ["phase"],
            registry=self.registry,
        )
        self.node_ready = Gauge("crikpy_node_ready", "1 when this node can save jobs.", registry=self.registry)
        self.leading = Gauge("crikpy_leading", "1 while this controller is the leader.", registry=self.registry)
        self.admissions = Counter(
            "crikpy_admissions_total",
            "Reviews of the webhook by outcome (injected, unchanged, refused, failed).",
            ["outcome"],
            registry=self.registry,
        )
        self.orders = Counter(
            "crikpy_orders_total", "Checkpoint objects made, by trigger.", ["trigger"], registry=self.registry
        )
        self.evictions = Counter(
            "crikpy_evictions_total",
            "Ends of saved pods by outcome (evicted, deleted, gone).",
            ["outcome"],
            registry=self.registry,
        )
        self.source_working = Gauge(
            "crikpy_source_working",
            "1 while a source of interruption notices works, 0 while it does not; absent when it is off.",
            ["source"],
            registry=self.registry,
        )
        self.source_notices = Counter(
            "crikpy_source_notices_total",
            "News of the controller's sources by source and outcome (acted, known, foreign, failed).",
            ["source", "outcome"],
            registry=self.registry,
        )
        self.queue_messages = Counter(
            "crikpy_queue_messages_total",
            "Messages of the queue by outcome (acted, known, foreign, ignored, test, unparsable, failed).",
            ["outcome"],
            registry=self.registry,
        )
        self.lifecycle_hooks = Counter(
            "crikpy_lifecycle_hooks_total",
            "Lifecycle actions by outcome (continued, expired).",
            ["outcome"],
            registry=self.registry,
        )
        self.order_seconds = Histogram(
            "crikpy_notice_to_order_seconds",
            "Time from a notice being read to a pod's order standing in the API server.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.planned_pods = Gauge(
            "crikpy_planned_pods",
            "Pods of this node by what the plan says of them (running, next, last, unsaved).",
            ["verdict"],
            registry=self.registry,
        )
        self.throughput = Gauge(
            "crikpy_dump_throughput_bytes_per_second",
            "Measured bytes of memory per second of one dump by path (read: all memory; write: what is new).",
            ["path"],
            registry=self.registry,
        )
        self.placements = Counter(
            "crikpy_placements_total",
            "Pods kept to nodes on which their checkpoint can be resumed, by strength (preferred, required).",
            ["strength"],
            registry=self.registry,
        )
        self.misfits = Counter(
            "crikpy_misfits_total",
            "Pods on nodes on which their checkpoint cannot be resumed, by outcome (moved, cold, refused).",
            ["outcome"],
            registry=self.registry,
        )
        self.watch_restarts = Counter(
            "crikpy_watch_restarts_total",
            "Watches begun anew, by resource and reason (closed, expired, broken, silent).",
            ["resource", "reason"],
            registry=self.registry,
        )

    def render(self) -> str:
        """Return all of it in the text format of Prometheus."""
        return generate_latest(self.registry).decode()
