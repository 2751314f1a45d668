"""How it stands with each pod of a node under notice: saved, being saved, or not, and why.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from crikpy.model.notices import InterruptionNotice
from crikpy.model.orders import Order, OrderPhase
from crikpy.page.facts import Facts
from crikpy.page.lives import moment

_SAID: Final = {
    OrderPhase.PENDING: ("busy", "is to be saved"),
    OrderPhase.DUMPING: ("busy", "is being saved"),
    OrderPhase.COMPLETE: ("good", "saved"),
    OrderPhase.RESTORING: ("good", "saved, is being resumed"),
    OrderPhase.RESTORED: ("good", "saved and resumed"),
    OrderPhase.FAILED: ("bad", "not saved"),
    OrderPhase.EXPIRED: ("bad", "not saved"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescue:
    """One pod.

    Attributes:
        pod: its name, with the namespace.
        kind: `good`, `bad` or `busy`.
        state: how it stands with it.
        detail: more of that, or empty.
    """

    pod: str
    kind: str
    state: str
    detail: str


def rescues_on(node: str, notice: InterruptionNotice, facts: Facts) -> tuple[Rescue, ...]:
    """Return the pods of a node, those too that have left it since its notice, by their names."""
    orders: dict[tuple[str, str], Order] = {}
    for order in sorted(facts.orders, key=lambda order: when.timestamp() if (when := moment(order)) else 0.0):
        if order.spec.node == node and notice.known_as(order.spec.notice):
            orders[order.namespace, order.spec.pod_uid] = order
    return tuple(sorted(_rescues(node, orders, facts), key=lambda rescue: rescue.pod))


def _rescues(node: str, orders: dict[tuple[str, str], Order], facts: Facts) -> Iterator[Rescue]:
    for order in orders.values():
        kind, state = _SAID.get(order.status.phase, ("busy", order.status.phase.value))
        detail = order.status.message if kind == "bad" else ""
        if order.status.restored_by:
            detail = f"by {order.status.restored_by.rpartition('/')[0]}"
        yield Rescue(pod=f"{order.namespace}/{order.spec.pod}", kind=kind, state=state, detail=detail)
    for pod in facts.pods:
        if pod.node != node or pod.over or (pod.namespace, pod.uid) in orders:
            continue
        why = facts.refusals.get(pod.uid, "" if pod.injected else "it runs without crikpy's launcher")
        state = "cannot be saved" if why else "has no order yet"
        yield Rescue(pod=str(pod), kind="bad" if why else "busy", state=state, detail=why)
