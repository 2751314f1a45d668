"""Which pods are ordered to be saved because their node is under a notice.

Every pod that can be saved gets exactly one order per notice. Its name follows from pod and notice, so that an
agent that heard of the notice first and acted alone means the same order. Pods that cannot be saved are none of
an order's business: they run on until the machine goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from crikpy.controller.actions import ExpireOrder, MakeOrder
from crikpy.controller.viewing import ClusterView, can_be_saved, options_of
from crikpy.model.nodes import Node
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.model.orders import Order, OrderPhase, OrderSpec, order_name
from crikpy.model.pods import OnRebalance, Pod

_UNANSWERED = timedelta(seconds=60)
"""How long past its time, or its pod's, an order may still be answered by its agent."""


def plan_orders(view: ClusterView) -> Iterator[MakeOrder]:
    """Yield the orders that are still missing, those for the pods of the highest priority first."""
    missing = [
        (pod, notice)
        for name, notice in view.notices.items()
        if _is_worth_ordering(view, view.nodes[name], notice)
        for pod in view.pods_by_node.get(name, ())
        if can_be_saved(pod) and _is_meant(pod, notice) and not _has_order(view, pod, notice)
    ]
    missing.sort(key=lambda pair: (-priority_of(pair[0]), pair[0].namespace, pair[0].name))
    for pod, notice in missing:
        yield _order(view, pod, notice)


def priority_of(pod: Pod) -> int:
    """Return how much a pod matters: what its annotation says, else its own priority."""
    chosen = options_of(pod).priority
    return pod.priority if chosen is None else chosen


def make_order(
    pod: Pod,
    *,
    trigger: Trigger,
    occasion: str,
    notice: str = "",
    deadline: datetime | None = None,
    leave_running: bool,
) -> Order:
    """Return the order for a pod and an occasion, addressed to the agent of its node."""
    return Order(
        namespace=pod.namespace,
        name=order_name(pod.name, pod.uid, occasion),
        spec=OrderSpec(
            pod=pod.name,
            pod_uid=pod.uid,
            node=pod.node,
            containers=pod.injected,
            workload=pod.workload,
            trigger=trigger,
            notice=notice,
            deadline=deadline,
            leave_running=leave_running,
        ),
    )


def _order(view: ClusterView, pod: Pod, notice: InterruptionNotice) -> MakeOrder:
    leave_running = not notice.final and not _migrates(pod, notice)
    order = make_order(
        pod,
        trigger=notice.trigger,
        occasion=notice.id,
        notice=notice.id,
        deadline=None if notice.deadline is None else notice.deadline - view.settings.margin,
        leave_running=leave_running,
    )
    bare = pod.owner is None and options_of(pod).recreate
    return MakeOrder(order=order, pod=pod, recreates=bare and not leave_running)


def _is_worth_ordering(view: ClusterView, node: Node, notice: InterruptionNotice) -> bool:
    """Say whether an agent may still be there to obey; past the deadline it tells what it did by itself."""
    return node.ready or notice.deadline is None or view.now < notice.deadline


def _is_meant(pod: Pod, notice: InterruptionNotice) -> bool:
    return notice.final or options_of(pod).on_rebalance is not OnRebalance.IGNORE


def _migrates(pod: Pod, notice: InterruptionNotice) -> bool:
    """Say whether a rebalance recommendation moves a pod; one that came after it found no better place."""
    came_later = pod.created is not None and pod.created > notice.seen
    return options_of(pod).on_rebalance is OnRebalance.MIGRATE and not came_later


def _has_order(view: ClusterView, pod: Pod, notice: InterruptionNotice) -> bool:
    return any(known.order.spec.notice == notice.id for known in view.orders_of(pod))


def plan_expiries(view: ClusterView) -> Iterator[ExpireOrder]:
    """Yield the orders that no agent will answer any more: their time or their pod is long gone."""
    for known in view.orders:
        if known.order.status.phase.final:
            continue
        message = _why_expired(view, known.order)
        if message:
            yield ExpireOrder(order=known.order, message=message)


def _why_expired(view: ClusterView, order: Order) -> str:
    deadline = order.spec.deadline
    if deadline is not None and view.now > deadline + _UNANSWERED:
        began = order.status.phase is OrderPhase.DUMPING
        return (
            "the dump was not complete in time" if began else f"no agent of node {order.spec.node} took it in time"
        )
    pod = view.pod_of(order)
    is_young = order.created is None or view.now <= order.created + _UNANSWERED
    if is_young or (pod is not None and not pod.over):
        return ""
    return "the pod is gone" if pod is None else "the pod has ended"
