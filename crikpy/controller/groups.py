"""Groups of pods that are one job: all of a group are ordered at once, for whatever concerns one of them.

A set of orders is made for all members with one id and one deadline. What a controller has left half made, the
next one completes, from what the orders say of each other. A group that is not whole is not ordered at all: its
pods could not go on from a part of it. People are told why, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from crikpy.controller.actions import MakeOrder, TellNotWhole
from crikpy.controller.evicting import is_done_with
from crikpy.controller.intervals import due_after, last_saved
from crikpy.controller.ordering import (
    DRAIN_MARGIN,
    has_ended,
    has_order,
    is_drained,
    is_meant,
    is_worth_ordering,
    make_order,
    migrates,
    priority_of,
)
from crikpy.controller.viewing import ClusterView, options_of
from crikpy.kube.grouping import group_order, never_whole, not_yet_whole
from crikpy.model.groups import GroupOrder
from crikpy.model.notices import InterruptionNotice, Trigger, foremost
from crikpy.model.orders import DRAIN, Order
from crikpy.model.pods import Pod

Members = Sequence[Pod]


def plan_groups(view: ClusterView) -> Iterator[MakeOrder | TellNotWhole]:
    """Yield the orders that groups lack, those of the highest priority first, and what is to be told."""
    yield from _unfinished(view)
    for members in sorted(view.groups.values(), key=lambda found: -max(map(priority_of, found))):
        fault = never_whole(members)
        occasion = _occasion(view, members)
        if not fault and occasion is not None:
            fault = not_yet_whole((*view.pods.values(), *view.strangers.values()), members)
        if fault:
            yield from _told(view, members, fault)
        elif occasion is not None:
            yield from occasion.orders(view, members)


class _Occasion:
    """Why a group is to be saved now.

    Args:
        trigger: the kind of event.
        word: tells it from others of the group.
        notice: the notice, or None.
        cause: the node whose event it is.
        deadline: when all must be saved.
        leave_running: let all run on.
    """

    def __init__(
        self,
        trigger: Trigger,
        word: str,
        *,
        notice: InterruptionNotice | None = None,
        cause: str = "",
        deadline: datetime | None = None,
        leave_running: bool,
    ) -> None:
        self._trigger = trigger
        self._word = word
        self._notice = notice
        self._cause = cause
        self._deadline = deadline
        self._leave_running = leave_running

    def orders(self, view: ClusterView, members: Members) -> Iterator[MakeOrder]:
        """Yield an order for each member."""
        group = group_order(members, self._word, cause=self._cause)
        for pod in members:
            order = make_order(
                pod,
                view.nodes.get(pod.node),
                trigger=self._trigger,
                occasion=self._word,
                notice="" if self._notice is None else self._notice.id,
                deadline=self._deadline,
                leave_running=self._leave_running,
                group=group,
            )
            yield _made(order, pod, heard=None if self._notice is None else self._notice.seen)


def _occasion(view: ClusterView, members: Members) -> _Occasion | None:
    """Return the most pressing reason to save a group that has no orders for it yet."""
    if any(_is_stopped(view, pod) for pod in members):
        return None
    return _noticed(view, members) or _drained(view, members) or _due(view, members)


def _is_stopped(view: ClusterView, pod: Pod) -> bool:
    """Say whether a pod's jobs are being stopped already, or stand still, for an event that is not over."""
    return any(
        known.order.spec.group is not None
        and not known.order.spec.leave_running
        and (known.order.status.phase.open or _goes(view, known.order))
        for known in view.orders_of(pod)
    )


def _goes(view: ClusterView, order: Order) -> bool:
    return is_done_with(order) and (not order.spec.notice or view.under_its_notice(order))


def _noticed(view: ClusterView, members: Members) -> _Occasion | None:
    """Return the notice of a member's node for which the group has no order yet."""
    found: dict[str, tuple[Pod, InterruptionNotice]] = {}
    deadlines: list[datetime] = []
    for pod in members:
        notice, node = view.notices.get(pod.node), view.nodes.get(pod.node)
        if pod.deleting or notice is None or node is None or not is_worth_ordering(view, node, notice):
            continue
        if notice.stops and notice.deadline is not None:
            deadlines.append(notice.deadline)
        if is_meant(pod, notice) and not has_order(view, pod, notice):
            found[notice.id] = (pod, notice)
    first = foremost(notice for _, notice in found.values())
    if first is None:
        return None
    pod = found[first.id][0]
    ends = min(deadlines) if first.stops and deadlines else first.deadline
    return _Occasion(
        first.trigger,
        first.id,
        notice=first,
        cause=pod.node,
        deadline=None if ends is None else ends - view.settings.margin,
        leave_running=not first.stops and not migrates(pod, first),
    )


def _drained(view: ClusterView, members: Members) -> _Occasion | None:
    """Return the end of members that are ended for their node's sake, and whose jobs wait to be saved first."""
    ended = [pod for pod in members if is_drained(view, pod) and not has_ended(view, pod)]
    if not ended:
        return None
    deadlines = [pod.deletion_deadline for pod in ended if pod.deletion_deadline is not None]
    deadline = min(deadlines) - DRAIN_MARGIN if deadlines else None
    return _Occasion(Trigger.DRAIN, DRAIN, cause=ended[0].node, deadline=deadline, leave_running=False)


def _due(view: ClusterView, members: Members) -> _Occasion | None:
    """Return the periodic checkpoint that is due, by the shortest interval of any member."""
    intervals = [interval for pod in members if (interval := options_of(pod).interval_s) is not None]
    starts = [pod.started for pod in members if pod.started is not None]
    if not intervals or len(starts) < len(members) or any(pod.deleting for pod in members):
        return None
    for pod in members:
        node, notice = view.nodes.get(pod.node), view.notices.get(pod.node)
        if node is None or not node.ready or (notice is not None and notice.final):
            return None
    interval_s, started = min(intervals), max(starts)
    lasts = [last_saved(view, pod, started) for pod in members]
    if any(last is None for last in lasts):
        return None
    last = max(time for time in lasts if time is not None)
    if view.now < last + due_after(members[0].group, interval_s):
        return None
    number = int((last - started) / timedelta(seconds=interval_s)) + 1
    return _Occasion(Trigger.INTERVAL, f"interval-{number}", leave_running=True)


def _unfinished(view: ClusterView) -> Iterator[MakeOrder]:
    """Yield the orders that sets lack of which some are open: whoever made those has not come to these."""
    sets: dict[tuple[str, str], Order] = {}
    there: set[tuple[str, str]] = set()
    for known in view.orders:
        if known.order.spec.group is not None:
            there.add((known.order.spec.group.set_id, known.order.spec.pod_uid))
            if known.order.status.phase.open:
                sets[known.order.namespace, known.order.spec.group.set_id] = known.order
    for model in sets.values():
        group = model.spec.group
        if group is None:
            continue
        for pod in _absent(view, model, group, there):
            order = make_order(
                pod,
                view.nodes.get(pod.node),
                trigger=model.spec.trigger,
                occasion=model.spec.notice or (DRAIN if model.spec.trigger is Trigger.DRAIN else group.set_id),
                notice=model.spec.notice,
                deadline=model.spec.deadline,
                leave_running=model.spec.leave_running,
                group=group,
            )
            yield _made(order, pod)


def _absent(view: ClusterView, model: Order, group: GroupOrder, there: set[tuple[str, str]]) -> Iterator[Pod]:
    for member in group.members:
        pod = view.pods.get(member.pod_uid)
        if (group.set_id, member.pod_uid) in there or pod is None or pod.over:
            continue
        if pod.namespace == model.namespace and pod.node == member.node:
            yield pod


def _made(order: Order, pod: Pod, *, heard: datetime | None = None) -> MakeOrder:
    bare = pod.owner is None and options_of(pod).recreate
    recreates = bare and bool(order.spec.notice) and not order.spec.leave_running
    return MakeOrder(order=order, pod=pod, recreates=recreates, heard=heard)


def _told(view: ClusterView, members: Members, fault: str) -> Iterator[TellNotWhole]:
    message = f"group {members[0].group} cannot be saved: {fault}"
    for pod in members:
        if pod.opted_in and (pod.uid, message) not in view.told_apart and not pod.deleting:
            yield TellNotWhole(pod=pod, message=message)
