"""Which saved pods are ended, and how, so that their replacements start elsewhere.

Only a pod whose final order is complete is touched: its job stands still and would not go on where it is; and one
whose job has not begun, which waits here for nothing. One that could not be saved is left alone and runs until its
machine goes. An eviction asks the pod's disruption budget; in
the last seconds of the machine the pod is deleted instead, since a budget cannot save what dies anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from crikpy.controller.actions import DeletePod, EvictPod, ForgetPod
from crikpy.controller.marking import is_marked
from crikpy.controller.viewing import ClusterView
from crikpy.model.orders import NOT_STARTED, Order, OrderPhase
from crikpy.model.pods import Pod

_LAST_MOMENT = timedelta(seconds=15)
"""Before the machine's end, as much as kubelet and agent need to end a pod that stands still."""

_MARK_WAIT = timedelta(seconds=10)
"""How long a saved pod waits for its node to be marked; after it, it is evicted all the same."""


def plan_ends(view: ClusterView) -> Iterator[EvictPod | DeletePod | ForgetPod]:
    """Yield the saved pods to end now; one that is being deleted already needs nothing more."""
    asked: set[str] = set()
    for known in view.orders:
        order = known.order
        pod = view.pod_of(order)
        if pod is None or pod.uid in asked or not (is_done_with(order) or _was_left_behind(view, order)):
            continue
        action = _end(view, pod, order)
        if action is not None:
            asked.add(pod.uid)
            yield action


def is_done_with(order: Order) -> bool:
    """Say whether an order leaves a pod behind whose job stands still, saved or not yet begun."""
    complete = order.status.phase is OrderPhase.COMPLETE
    not_begun = order.status.phase is OrderPhase.FAILED and order.status.reason == NOT_STARTED
    return (complete or (not_begun and order.spec.notice != "")) and not order.spec.leave_running


def _end(view: ClusterView, pod: Pod, order: Order) -> EvictPod | DeletePod | ForgetPod | None:
    node = view.nodes.get(order.spec.node)
    if node is None or pod.node != order.spec.node or (pod.over and not pod.deleting):
        return None
    if not order.spec.notice:
        return None if pod.deleting else EvictPod(pod=pod, order=order)
    moved = _has_moved(view, order)
    if not view.under_its_notice(order) and not moved:
        return None
    if view.is_lost(node):
        # Nobody is left to confirm the pod's end, and a StatefulSet makes no other before that. Its job cannot be
        # running: it was stopped for the checkpoint, and the machine went as announced.
        return ForgetPod(pod=pod, order=order)
    if pod.deleting:
        return None
    marked, notice = view.nodes.get(order.cause), view.notices.get(order.cause)
    if moved or marked is None or notice is None:
        return EvictPod(pod=pod, order=order, follows=True)
    deadline = notice.deadline
    if deadline is not None and view.now >= deadline - _LAST_MOMENT:
        return DeletePod(pod=pod, order=order, deadline=deadline)
    if is_marked(marked) or view.mark_for(marked) is None or _waited_for_marks(view, order):
        return EvictPod(pod=pod, order=order)
    return None


def _has_moved(view: ClusterView, order: Order) -> bool:
    """Say whether another pod of an order's group has ended, or is about to, so that this one has to follow."""
    if order.spec.group is None:
        return False
    others = [view.pods.get(member.pod_uid) for member in order.spec.group.members]
    return any(pod is None or pod.deleting or pod.over for pod in others)


def _was_left_behind(view: ClusterView, order: Order) -> bool:
    """Say whether a pod's agent has lost its part in a set that is complete: all others move without its job.

    Its checkpoint is in the set, and only of use once the pod is gone.
    """
    group, phase = order.spec.group, order.status.phase
    if group is None or order.spec.leave_running or phase.open or phase is OrderPhase.COMPLETE:
        return False
    others = (known.order for known in view.orders if known.order.namespace == order.namespace)
    return any(
        other.spec.group is not None
        and other.spec.group.set_id == group.set_id
        and is_done_with(other)
        and other.status.phase is OrderPhase.COMPLETE
        for other in others
    )


def _waited_for_marks(view: ClusterView, order: Order) -> bool:
    completed = order.status.completed
    return completed is None or view.now >= completed + _MARK_WAIT
