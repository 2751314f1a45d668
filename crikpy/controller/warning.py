"""Opted-in pods that run without our launcher: their users must learn of it before the interruption does."""

from __future__ import annotations

from collections.abc import Iterator

from crikpy.controller.actions import TellNotInjected
from crikpy.controller.viewing import ClusterView


def plan_warnings(view: ClusterView) -> Iterator[TellNotInjected]:
    """Yield the pods about which nobody has been told yet."""
    for pod in view.pods.values():
        if not pod.injected and not pod.over and not pod.deleting and pod.uid not in view.warned:
            yield TellNotInjected(pod=pod)
