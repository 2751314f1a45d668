"""What becomes of Checkpoint objects that are being deleted: what the store holds for them goes first.

The controller has no access to the store. It names an agent that has, by a label; the agent says in the status
when it is done, and only then the finalizer goes. An object must never be what a namespace's deletion hangs on:
after a while it is let go of in any case, and what is left in the store goes by the rules of retention.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta

from crikpy.controller.actions import DiscardOn, KeepOrder, ReleaseOrder
from crikpy.controller.viewing import ClusterView, KnownOrder
from crikpy.kube.orders import is_label
from crikpy.model.orders import Order

_SETTLES = timedelta(seconds=5)
"""How long the order's own agent has for letting jobs run on that stand still for its sake alone."""

_PATIENCE = timedelta(minutes=10)
"""How long an object that is being deleted stays at most."""


def plan_discards(view: ClusterView) -> Iterator[DiscardOn | ReleaseOrder | KeepOrder]:
    """Yield what brings each object that is being deleted to its end, and what prepares the others for theirs."""
    for known in view.leaving:
        if known.kept and (action := _next(view, known)) is not None:
            yield action
    for known in view.orders:
        if not known.kept and known.order.status.checkpoint:
            yield KeepOrder(order=known.order)


def _next(view: ClusterView, known: KnownOrder) -> DiscardOn | ReleaseOrder | None:
    order = known.order
    if order.status.discarded is not None or _stores_nothing(order) or _is_needed(view, order):
        return ReleaseOrder(order=order)
    since = order.deleted or view.now
    if view.now > since + _PATIENCE:
        return ReleaseOrder(order=order, left=f"no agent has removed it within {_PATIENCE.seconds // 60} minutes")
    if view.now < since + _SETTLES or order.status.phase.in_use:
        return None
    if _may_discard(view, known.discarder):
        return None
    node = _choose(view, order)
    return None if node is None else DiscardOn(order=order, node=node)


def _stores_nothing(order: Order) -> bool:
    """Say whether nothing was ever stored for an order: it was not begun, or given up before its commit."""
    return not order.status.checkpoint and not order.status.phase.in_use


def _is_needed(view: ClusterView, order: Order) -> bool:
    """Say whether another object stands for the same checkpoint: one save can answer several orders."""
    others = view.orders_by_pod.get((order.namespace, order.spec.pod_uid), ())
    return any(known.order.status.checkpoint == order.status.checkpoint for known in others)


def _may_discard(view: ClusterView, name: str) -> bool:
    node = view.nodes.get(name)
    return node is not None and node.ready and node.served and not node.deleting


def _choose(view: ClusterView, order: Order) -> str | None:
    """Return the order's own node where that lives, else one of the others, each its share; None without any."""
    if _may_discard(view, order.spec.node) and is_label(order.spec.node):
        return order.spec.node
    able = sorted(name for name in view.nodes if _may_discard(view, name) and is_label(name))
    if not able:
        return None
    digest = hashlib.sha256(order.uid.encode()).digest()
    return able[int.from_bytes(digest[:4]) % len(able)]
