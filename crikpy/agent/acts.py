"""One save of one pod, as a record: why, for which orders, how far, and what it came to.

No act of its own is in here; crikpy.agent.saving does the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from crikpy.agent.launchers import CapsuleSession
from crikpy.agent.sessions import PodSession
from crikpy.agent.turns import Rank, Ticket
from crikpy.aio.clock import Deadline
from crikpy.flows.saving import Saved
from crikpy.kube.orders import human_size
from crikpy.model.manifest import Manifest
from crikpy.model.notices import Trigger
from crikpy.model.orders import OrderBytes, OrderPhase, OrderStatus
from crikpy.model.pods import Pod

ENDED_REASON = "JobEnded"
STOPPED_REASON = "AgentStopped"
COMPLETE_REASON = "CheckpointComplete"
SPARED_REASON = "NodeSpared"
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
    """

    trigger: Trigger
    deadline: Deadline
    leave_running: bool
    notice: str = ""
    order: str = ""
    ordered: bool = False
    ends: Deadline | None = None
    pressing: bool = False

    def is_same(self, other: Cause) -> bool:
        """Say whether two causes are one event, heard of in two ways."""
        if self.order and self.order == other.order:
            return True
        return bool(self.notice) and self.notice == other.notice and self.leave_running == other.leave_running

    def rank(self, pod: Pod) -> Rank:
        """Return how pressing it is: the pod's own priority, then how much work there is to lose."""
        urgency = 0 if self.pressing else 2 if self.leave_running else 1
        chosen = pod.options.priority if pod.options else None
        priority = pod.priority if chosen is None else chosen
        since = pod.started or pod.created
        return (urgency, -priority, since.timestamp() if since else 0.0)


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


class Act:
    """One save under way, and the time that its jobs are held afterwards.

    Attributes:
        session: the pod.
        pod: what was known of it when the act was asked for.
        causes: all that stand behind it, the first one first; when all are taken back, saved jobs run on.
        leave_running: let the jobs run on afterwards.
        orders: names of the orders that are told of it.
        notices: ids of the notices that it is for, those that were withdrawn too.
        deadline: when the checkpoint must be complete.
        ticket: its place among the acts that wait.
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
        self.leave_running = cause.leave_running
        self.orders: set[str] = set()
        self.notices: frozenset[str] = frozenset()
        self.deadline = cause.deadline
        self.ticket = Ticket(cause.rank(pod))
        self.begun = False
        self.capsules: tuple[CapsuleSession, ...] = ()
        self.status = OrderStatus()
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.saved: Saved | None = None
        self.end_wanted = False
        self.stirred = asyncio.Event()

    @property
    def facts(self) -> dict[str, str]:
        """What its log records carry."""
        return {"pod": str(self.pod), "order": ",".join(sorted(self.orders))}

    def serves(self, cause: Cause) -> bool:
        """Say whether its outcome is an answer to a cause, too.

        Jobs that are stopped for good change no more, so that their checkpoint answers every cause. One that lets
        them run on answers only what asked for it: what comes after it wants what they have done since.
        """
        if not self.leave_running:
            return not self.outcome.done() or self.saved is not None
        return not cause.pressing and any(cause.is_same(other) for other in self.causes)

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
    return replace(
        begun,
        phase=OrderPhase.COMPLETE,
        completed=datetime.now(UTC),
        bytes=moved,
        frozen_s=frozen_s,
        total_s=total_s,
        checkpoint=manifests[0].checkpoint,
        location=location,
        reason=COMPLETE_REASON,
        message=(
            f"saved {human_size(moved.memory)} in {total_s:.1f} s as {manifests[0].checkpoint} "
            f"({human_size(moved.stored)} written, {human_size(moved.reused)} known already); "
            f"stood still for {frozen_s:.1f} s"
        ),
    )


def failed_status(begun: OrderStatus, reason: str, message: str, *, expired: bool = False) -> OrderStatus:
    """Return the status of an order that came to nothing."""
    phase = OrderPhase.EXPIRED if expired else OrderPhase.FAILED
    return replace(begun, phase=phase, completed=datetime.now(UTC), reason=reason, message=message)
