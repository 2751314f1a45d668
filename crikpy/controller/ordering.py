"""Which pods are ordered to be saved because their node is under a notice.

Every pod that can be saved gets exactly one order per event, however many sources tell of it. Its name follows
from pod and notice, so that an agent that heard of the notice first and acted alone means the same order. Pods
that cannot be saved are none of an order's business: they run on until the machine goes.

Whoever drains a node ends its pods at a time of his own. Until then they run, so they are saved without being
stopped; the checkpoint that counts is the one at their SIGTERM, which only has to add what has changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from crikpy.controller.actions import ExpireOrder, MakeOrder
from crikpy.controller.viewing import ClusterView, can_be_saved, options_of
from crikpy.kube.signals import is_lost
from crikpy.model.groups import GroupOrder
from crikpy.model.nodes import Node
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.model.orders import DRAIN, Order, OrderPhase, OrderSpec, order_name
from crikpy.model.pods import OnRebalance, Pod

DRAIN_MARGIN = timedelta(seconds=3)
"""Before a drained pod is killed; as much as its agent keeps."""

_NODE_GONE = "node-gone"
"""Occasion of an order for a pod whose Node object was deleted."""

_SETTLED = timedelta(seconds=30)
"""How long after its start a pod's node is seen at the latest."""

_UNANSWERED = timedelta(seconds=60)
"""How long past its time, or its pod's, an order may still be answered by its agent."""


def plan_orders(view: ClusterView) -> Iterator[MakeOrder]:
    """Yield the orders that are still missing, those for the pods of the highest priority first."""
    missing = [
        (pod, notice)
        for name, notice in view.notices.items()
        if is_worth_ordering(view, view.nodes[name], notice)
        for pod in view.pods_by_node.get(name, ())
        if not pod.group and can_be_saved(pod) and is_meant(pod, notice) and not has_order(view, pod, notice)
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
    node: Node | None,
    *,
    trigger: Trigger,
    occasion: str,
    notice: str = "",
    deadline: datetime | None = None,
    leave_running: bool,
    group: GroupOrder | None = None,
) -> Order:
    """Return the order for a pod and an occasion, addressed to the agent of its node."""
    return Order(
        namespace=pod.namespace,
        name=order_name(pod.name, pod.uid, occasion),
        cpu=node.cpu if node else "",
        instance_type=node.instance_type if node else "",
        pod_started=pod.working_since,
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
            group=group,
        ),
    )


def _order(view: ClusterView, pod: Pod, notice: InterruptionNotice) -> MakeOrder:
    leave_running = not notice.stops and not migrates(pod, notice)
    order = make_order(
        pod,
        view.nodes[pod.node],
        trigger=notice.trigger,
        occasion=notice.id,
        notice=notice.id,
        deadline=None if notice.deadline is None else notice.deadline - view.settings.margin,
        leave_running=leave_running,
    )
    bare = pod.owner is None and options_of(pod).recreate
    return MakeOrder(order=order, pod=pod, recreates=bare and not leave_running, heard=notice.seen)


def is_worth_ordering(view: ClusterView, node: Node, notice: InterruptionNotice) -> bool:
    """Say whether an agent may still be there to obey; past the deadline it tells what it did by itself.

    A shutdown has a time only once EC2 says that it is over.
    """
    if is_lost(node, view.settings.signs):
        return False
    if notice.deadline is None or view.now < notice.deadline:
        return True
    return node.ready and notice.trigger is not Trigger.NODE_SHUTDOWN


def is_meant(pod: Pod, notice: InterruptionNotice) -> bool:
    """Say whether a pod is saved for a notice at all."""
    return notice.final or options_of(pod).on_rebalance is not OnRebalance.IGNORE


def migrates(pod: Pod, notice: InterruptionNotice) -> bool:
    """Say whether a rebalance recommendation moves a pod; one that came after it found no better place."""
    if notice.final:
        return False
    came_later = pod.created is not None and pod.created > notice.seen
    return options_of(pod).on_rebalance is OnRebalance.MIGRATE and not came_later


def has_order(view: ClusterView, pod: Pod, notice: InterruptionNotice) -> bool:
    """Say whether a pod is saved for a notice already, or stopped for another."""
    return any(
        notice.known_as(known.order.spec.notice) or _stops_already(view, known.order)
        for known in view.orders_of(pod)
    )


def _stops_already(view: ClusterView, order: Order) -> bool:
    """Say whether an order for another event of the node has stopped a pod's jobs, or is about to."""
    hopeless = order.status.phase in (OrderPhase.FAILED, OrderPhase.EXPIRED)
    return not order.spec.leave_running and not hopeless and view.under_its_notice(order)


def plan_drains(view: ClusterView) -> Iterator[MakeOrder]:
    """Yield the orders for pods that are ended for their node's sake: their agents save them at their SIGTERM.

    The order is what people see of it. Only a pod whose job goes on gets one: where an order has stopped it, the
    eviction is what that was for.
    """
    for pod in view.pods.values():
        if pod.group or not is_drained(view, pod) or has_ended(view, pod):
            continue
        node = view.nodes[pod.node]
        deadline = pod.deletion_deadline and pod.deletion_deadline - DRAIN_MARGIN
        order = make_order(
            pod, node, trigger=Trigger.DRAIN, occasion=DRAIN, deadline=deadline, leave_running=False
        )
        yield MakeOrder(order=order, pod=pod)


def is_drained(view: ClusterView, pod: Pod) -> bool:
    """Say whether a running pod is being ended for its node's sake, while an agent is there to save it."""
    if not pod.deleting or not pod.opted_in or not pod.injected or pod.phase != "Running":
        return False
    node, notice = view.nodes.get(pod.node), view.notices.get(pod.node)
    if not pod.disruption and (notice is None or notice.trigger is not Trigger.DRAIN):
        return False
    return node is not None and node.ready and not is_lost(node, view.settings.signs)


def has_ended(view: ClusterView, pod: Pod) -> bool:
    """Say whether an order has ended a pod's job, or is about to; or the pod has come only to be moved on."""
    if any(not known.order.spec.leave_running for known in view.orders_of(pod)):
        return True
    complete = (known.order.status for known in view.orders if known.order.status.phase is OrderPhase.COMPLETE)
    return any(status.misfit.endswith(f"/{pod.uid}") for status in complete)


def plan_losses(view: ClusterView) -> Iterator[MakeOrder]:
    """Yield the orders for pods whose Node object is gone: Kubernetes ends them within a minute.

    Their jobs are not stopped for it. Should the node only have been out of sight, nothing was lost; a pod that
    has just begun may be seen before its node is.
    """
    for pod in view.pods.values():
        lost = pod.node != "" and pod.node not in view.nodes
        if lost and not pod.group and can_be_saved(pod) and _is_settled(view, pod):
            order = make_order(pod, None, trigger=Trigger.DRAIN, occasion=_NODE_GONE, leave_running=True)
            if all(known.order.name != order.name for known in view.orders_of(pod)):
                yield MakeOrder(order=order, pod=pod)


def _is_settled(view: ClusterView, pod: Pod) -> bool:
    return pod.started is not None and view.now >= pod.started + _SETTLED


def plan_expiries(view: ClusterView) -> Iterator[ExpireOrder]:
    """Yield the orders that no agent will answer any more: their time or their pod is long gone."""
    for known in view.orders:
        if not known.order.status.phase.open:
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
