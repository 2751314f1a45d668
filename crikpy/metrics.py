"""Metrics of every process, in one registry that is passed on and served by whoever has a server.

Names are `crikpy_<noun>_<unit>`; labels have few values, never a pod's name.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 90, 120, 300, 600)


class Metrics:
    """Every metric, as attributes."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.checkpoints = Counter(
            "crikpy_checkpoints_total",
            "Checkpoints by trigger and how they ended.",
            ["trigger", "outcome"],
            registry=self.registry,
        )
        self.restores = Counter(
            "crikpy_restores_total", "Restores by how they ended.", ["outcome"], registry=self.registry
        )
        self.frozen = Histogram(
            "crikpy_frozen_seconds",
            "Time that a job stood still during a checkpoint.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.checkpoint_seconds = Histogram(
            "crikpy_checkpoint_seconds",
            "Time from the order to the committed manifest.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.restore_seconds = Histogram(
            "crikpy_restore_seconds",
            "Time from the claim to the running job.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.stored_bytes = Counter(
            "crikpy_stored_bytes_total", "Bytes written to the store.", registry=self.registry
        )
        self.notices = Counter(
            "crikpy_notices_total", "Interruption notices by trigger.", ["trigger"], registry=self.registry
        )
        self.metadata_reachable = Gauge(
            "crikpy_metadata_reachable", "1 while the metadata service answers.", registry=self.registry
        )
