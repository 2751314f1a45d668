"""Metrics of every process, in one registry that is passed on and served by whoever has a server.

Names are `crikpy_<noun>_<unit>`; labels have few values, never a pod's name.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


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
