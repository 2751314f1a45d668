"""One save of one pod, as a record: why, for which orders, how far, and what it came to.

No act of its own is in here; crikpy.agent.saving does the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count

from crikpy.agent.launchers import CapsuleSession
from crikpy.agent.planning import Candidate, UnderWay, Urgency
from crikpy.agent.sessions import PodSession
from crikpy.agent.sizing import Size
from crikpy.aio.clock import Deadline
from crikpy.flows.company import Together
from crikpy.flows.fate import Fate
from crikpy.flows.saving import Saved
from crikpy.model.groups import GroupOrder
from crikpy.model.manifest import APPLICATION_MODE, Manifest
from crikpy.model.notices import Trigger
from crikpy.model.orders import OrderBytes, OrderPhase, OrderStatus
from crikpy.model.pods import Pod
from crikpy.model.quantities import human_size

ENDED_REASON = "JobEnded"
STOPPED_REASON = "AgentStopped"
COMPLETE_REASON = "CheckpointComplete"
WITHDRAWN_REASON = "Withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a pod is to be saved.

    Attributes:
        trigger: the kind of event.
        deadline: when the checkpoint must be complete.
        leave_running: let the jobs run on afterwards.
        notice: id of the interruption notice, or empty.
        order: name of the order in the pod's namespace that tells of it, whether it is made yet or not; or empty.
        ordered: it comes from that order, so that the order's deletion takes it back.
        ends: when the machine or the pod is expected to end; None when nobody knows.
        pressing: a SIGTERM is kept from the jobs for its sake: it comes before all others, what was tried for the
            same reason does not count, and the jobs end once they are saved.
        group: the set of its group that the pod is to be saved in, where an order says so; or None.
    """

    trigger: Trigger
    deadline: Deadline
    leave_running: bool
    notice: str = ""
    order: str = ""
    ordered: bool = False
    ends: Deadline | None = None
    pressing: bool = False
    group: GroupOrder | None = None

    def is_same(self, other: Cause) -> bool:
        """Say whether two causes are one event, heard of in two ways."""
        if self.order and self.order == other.order:
            return True
        return bool(self.notice) and self.notice == other.notice and self.leave_running == other.leave_running

    @property
    def urgency(self) -> Urgency:
        """How pressing it is."""
        if self.pressing:
            return Urgency.PRESSING
        return Urgency.RUNNING_ON if self.leave_running else Urgency.FINAL

    def rank(self, pod: Pod) -> tuple[float, ...]:
        """Return how pressing it is for a pod; the lowest comes first."""
        return (self.urgency, -_priority(pod), _since(pod))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a save came to.

    Attributes:
        status: the status of its orders.
        notices: ids of the notices that it was for.
    """

    status: OrderStatus
    notices: frozenset[str] = frozenset()

    @property
    def saved(self) -> bool:
        """Whether the checkpoint is complete."""
        return self.status.phase is OrderPhase.COMPLETE


_numbers = count()


class Act:
    """One save under way, and the time that its jobs are held afterwards.

    Attributes:
        session: the pod.
        pod: what was known of it when the act was asked for.
        causes: all that stand behind it, the first one first; when all are taken back, saved jobs run on.
        orders: names of the orders that are told of it.
        notices: ids of the notices that it is for, those that were withdrawn too.
        deadline: when the checkpoint must be complete.
        group: the set of its group that it is a part of, or None.
        company: the others of that set, once it has begun; or None.
        key: names it in plans.
        urgency: how pressing it is.
        fate: what becomes of the jobs once the checkpoint stands.
        size: how much there is to be saved, as far as it is known.
        moved: how many bytes of memory were read so far, and the monotonic time at which it was so many.
        paced: its dump leaves bandwidth to others, or has done so at first.
        begun: the dump has begun.
        capsules: the pod's launchers at that moment.
        status: what the orders are to be told.
        outcome: set once, when the checkpoint is complete or given up.
        saved: the stopped jobs, from the commit until it is decided what becomes of them.
        end_wanted: a SIGTERM has come, so that saved jobs end.
        stirred: set whenever there may be reason to decide anew.
    """

    def __init__(self, session: PodSession, pod: Pod, cause: Cause) -> None:
        self.session = session
        self.pod = pod
        self.causes: list[Cause] = []
        self.trigger = cause.trigger
        self.notice = cause.notice
        self.orders: set[str] = set()
        self.notices: frozenset[str] = frozenset()
        self.deadline = cause.deadline
        self.group = cause.group
        self.company: Together | None = None
        self.key = f"{session.uid}/{next(_numbers)}"
        self.urgency = cause.urgency
        self.fate = Fate(leave_running=cause.leave_running)
        self.size = Size(memory=0, new=0, least_new=0)
        self.moved = (0, 0.0)
        self.paced = False
        self.begun = False
        self.capsules: tuple[CapsuleSession, ...] = ()
        self.status = OrderStatus()
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.saved: Saved | None = None
        self.end_wanted = False
        self.stirred = asyncio.Event()

    @property
    def leave_running(self) -> bool:
        """Whether the jobs run on afterwards."""
        return self.fate.leave_running

    @property
    def ends_jobs(self) -> bool:
        """Whether anything that stands behind it still wants the jobs to stay stopped."""
        return any(not cause.leave_running for cause in self.causes)

    @property
    def presses(self) -> bool:
        """Whether an end is near that whoever owns the pod would want to know of: of its machine, or its own."""
        return any(not cause.leave_running and (cause.pressing or cause.ends is not None) for cause in self.causes)

    @property
    def facts(self) -> dict[str, object]:
        """What its log records carry."""
        return {
            **self.pod.facts,
            "order": ",".join(sorted(self.orders)),
            "trigger": self.trigger.value,
            "checkpoint": self.status.checkpoint,
        }

    def serves(self, cause: Cause) -> bool:
        """Say whether its outcome is an answer to a cause, too.

        Jobs that are stopped for good change no more, so that their checkpoint answers every cause. One that lets
        them run on answers only what asked for it: what comes after it wants what they have done since. As long
        as it is not decided that they run on, they may still be stopped for good (see `keep`).
        """
        if not self.leave_running:
            return not self.outcome.done() or self.saved is not None
        if self.group is not None and cause.group is not None and self.group.set_id != cause.group.set_id:
            return False
        return not cause.pressing and any(cause.is_same(other) for other in self.causes)

    def keep(self) -> bool:
        """Have the jobs stay stopped once they are saved; return False when it is too late for that.

        Or when its group decides: others of it may run on already.
        """
        return self.group is None and not self.outcome.done() and self.fate.keep()

    def candidate(self, began: float | None, refusal: str = "") -> Candidate:
        """Return it as plans see it.

        Args:
            began: monotonic time at which its turn has come; None while it waits.
            refusal: why it cannot be saved, or empty.
        """
        moved, seen = self.moved
        return Candidate(
            key=self.key,
            urgency=self.urgency,
            priority=_priority(self.pod),
            since=_since(self.pod),
            deadline=self.deadline.at,
            memory=self.size.memory,
            new=self.size.new,
            least_new=self.size.least_new,
            under_way=None if began is None else UnderWay(began=began, moved=moved, seen=seen),
            refusal=refusal,
        )

    def take_back(self, *, notice: str = "", order: str = "") -> None:
        """Take back what a notice or an order has asked for; a pod that ends already ends all the same."""
        self.causes = [
            cause
            for cause in self.causes
            if cause.pressing
            or not ((notice and cause.notice == notice) or (order and cause.ordered and cause.order == order))
        ]
        self.stirred.set()

    def held_until(self, since: Deadline, spare_s: float) -> Deadline:
        """Return when its jobs run on if nobody ends them: the machine was spared then."""
        ends = [cause.ends.at for cause in self.causes if cause.ends is not None]
        return Deadline(max([since.at, *ends]) + spare_s)


def _priority(pod: Pod) -> int:
    """Return the priority that the annotation says, or the pod's own."""
    chosen = pod.options.priority if pod.options else None
    return pod.priority if chosen is None else chosen


def _since(pod: Pod) -> float:
    """Return when its work began, as far as anybody knows."""
    since = pod.started or pod.created
    return since.timestamp() if since else 0.0


def complete_status(
    begun: OrderStatus, manifests: Sequence[Manifest], *, location: str, frozen_s: float, total_s: float
) -> OrderStatus:
    """Return the status of an order whose checkpoint stands in the store."""
    sizes = [manifest.sizes for manifest in manifests]
    moved = OrderBytes(
        memory=sum(size.image_bytes for size in sizes),
        stored=sum(size.stored_bytes for size in sizes),
        reused=sum(size.reused_bytes for size in sizes),
    )
    by_itself = "by itself " if manifests[0].mode == APPLICATION_MODE else ""
    return replace(
        begun,
        phase=OrderPhase.COMPLETE,
        completed=datetime.now(UTC),
        bytes=moved,
        frozen_s=frozen_s,
        total_s=total_s,
        checkpoint=manifests[0].checkpoint,
        mode=manifests[0].mode,
        location=location,
        reason=COMPLETE_REASON,
        message=(
            f"saved {by_itself}{human_size(moved.memory)} in {total_s:.1f} s as {manifests[0].checkpoint} "
            f"({human_size(moved.stored)} written, {human_size(moved.reused)} known already); "
            f"stood still for {frozen_s:.1f} s"
        ),
    )


def failed_status(begun: OrderStatus, reason: str, message: str, *, expired: bool = False) -> OrderStatus:
    """Return the status of an order that came to nothing."""
    phase = OrderPhase.EXPIRED if expired else OrderPhase.FAILED
    return replace(begun, phase=phase, completed=datetime.now(UTC), reason=reason, message=message)


def stopped_outcome(begun: OrderStatus) -> Outcome:
    """Return what a save comes to whose agent ends."""
    return Outcome(status=failed_status(begun, STOPPED_REASON, "the agent is being stopped"))
