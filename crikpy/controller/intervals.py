"""Periodic checkpoints of running pods that ask for them, spread so that a node's jobs do not all stop at once.

A node that surely goes takes none: what matters there is the one checkpoint that the notice asks for. Neither
does a pod that is being saved already, or that is saved and about to be ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from crikpy.controller.actions import MakeOrder
from crikpy.controller.evicting import is_done_with
from crikpy.controller.ordering import make_order
from crikpy.controller.viewing import ClusterView, can_be_saved, options_of
from crikpy.model.notices import Trigger
from crikpy.model.orders import Order
from crikpy.model.pods import Pod

SPREAD: Final = 0.1
"""Part of the interval over which pods are spread."""


def plan_intervals(view: ClusterView) -> Iterator[MakeOrder]:
    """Yield the periodic checkpoints that are due."""
    for pod in view.pods.values():
        interval_s = options_of(pod).interval_s
        if pod.group or interval_s is None or pod.started is None or not can_be_saved(pod):
            continue
        node, notice = view.nodes.get(pod.node), view.notices.get(pod.node)
        if node is None or not node.ready or (notice is not None and notice.final):
            continue
        last = last_saved(view, pod, pod.started)
        if last is None or view.now < last + due_after(pod.uid, interval_s):
            continue
        # The number follows from what came before, not from now: whoever plans twice means the same order.
        number = int((last - pod.started).total_seconds() // interval_s) + 1
        order = make_order(pod, node, trigger=Trigger.INTERVAL, occasion=f"interval-{number}", leave_running=True)
        yield MakeOrder(order=order, pod=pod)


def due_after(key: str, interval_s: float) -> timedelta:
    """Return how long after its last checkpoint a pod or group is due: its interval and up to a tenth of it.

    That is always the same for the same key, which tells it from others.
    """
    digest = hashlib.sha256(key.encode()).digest()
    share = int.from_bytes(digest[:4], "big") / 2**32
    return timedelta(seconds=interval_s * (1 + SPREAD * share))


def last_saved(view: ClusterView, pod: Pod, started: datetime) -> datetime | None:
    """Return when a pod was last saved, or that was tried, at the latest; None while it is being saved or goes."""
    last = started
    for known in view.orders_of(pod):
        status = known.order.status
        if status.phase.open or _goes(view, known.order):
            return None
        ended = status.completed or known.order.created
        if ended is not None:
            last = max(last, ended)
    return last


def _goes(view: ClusterView, order: Order) -> bool:
    """Say whether an order's pod is to be ended, as it is saved; one whose node was spared runs on."""
    return is_done_with(order) and (not order.spec.notice or view.under_its_notice(order))
