"""Saving pods: each act once however many ask for it, so many at once, the most pressing first.

Whatever fails, the jobs run on. Saved jobs that are to move stay stopped and held here until they have to end, or
until nothing asks for their end any more. Whether a pod is to be saved is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from crikpy.agent.acts import (
    ENDED_REASON,
    SPARED_REASON,
    STOPPED_REASON,
    WITHDRAWN_REASON,
    Act,
    Cause,
    Outcome,
    complete_status,
    failed_status,
)
from crikpy.agent.dumps import Dumped, Dumper, Progress
from crikpy.agent.ending import Ending, await_end
from crikpy.agent.launchers import CapsuleSession
from crikpy.agent.reporting import FAILED_EVENT, Teller
from crikpy.agent.sessions import Activity, PodSession
from crikpy.agent.threads import in_thread
from crikpy.agent.turns import Rank, Turns
from crikpy.aio.clock import Deadline
from crikpy.errors import CapsuleError, CrikpyError, DeadlineError, LauncherError
from crikpy.flows.saving import CheckpointOrder, Member, Saved
from crikpy.metrics import Metrics
from crikpy.model.capsule import JobPhase
from crikpy.model.orders import OrderBytes, OrderPhase, OrderStatus
from crikpy.model.pods import Pod
from crikpy.model.streams import TransferProgress
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore

_log = logging.getLogger(__name__)

_MOST_OUTCOMES = 1024


class Saver:
    """Saves this node's pods.

    Attributes:
        instance: EC2 instance id of this machine, or empty.
    """

    def __init__(
        self,
        store: ObjectStore,
        settings: Settings,
        teller: Teller,
        metrics: Metrics,
        *,
        on_complete: Callable[[PodSession, Sequence[Member]], None] = lambda session, members: None,
    ) -> None:
        """Make ready.

        Args:
            store: where to.
            settings: how many at once, how much memory.
            teller: hears what becomes of orders.
            metrics: counted in.
            on_complete: called on the event loop after each commit.

        Raises:
            SettingsError: the memory does not suffice for any transfer.
        """
        self.instance = ""
        self._settings = settings
        self._dumper = Dumper(store, settings)
        self._teller = teller
        self._metrics = metrics
        self._on_complete = on_complete
        self._turns = Turns(self._dumper.at_once)
        self._acts: dict[asyncio.Task[None], Act] = {}
        self._outcomes: OrderedDict[tuple[str, str], Outcome] = OrderedDict()
        self._stopping = False

    # What others ask for.

    async def save(self, session: PodSession, cause: Cause) -> Outcome:
        """Save a pod, or take part in a save that is under way or was done for the same reason.

        Never raises: a failure is an outcome, and the jobs run on then. Jobs that are not to run on are stopped on
        return, or have ended by then.
        """
        if not cause.pressing and (known := self.known(session.uid, cause)) is not None:
            if cause.order and session.pod is not None:
                self._teller.tell_status(session.pod.namespace, cause.order, known.status)
            return known
        if self._stopping:
            return _stopped(OrderStatus())
        if (pod := session.pod) is None:
            status = failed_status(
                OrderStatus(), CapsuleError.reason, f"nothing is known yet of the pod {session}"
            )
            return Outcome(status=status)
        act = self._serving(session, cause) or self._begin(session, pod, cause)
        self._join(act, cause)
        return await asyncio.shield(act.outcome)

    def known(self, pod_uid: str, cause: Cause) -> Outcome | None:
        """Return what this process has done for a cause already, and whether it came to something."""
        keys = [(pod_uid, word) for word in (cause.order, cause.notice) if word]
        return next((self._outcomes[key] for key in keys if key in self._outcomes), None)

    def end(self, session: PodSession, by: Deadline | None = None) -> asyncio.Future[Outcome] | None:
        """Say that a pod has to end; its jobs do so once they are saved, if they are to move.

        Returns:
            The outcome, perhaps still to come, of the save that they move by; None when there is none.
        """
        for act in self._acts_of(session):
            if not act.leave_running and (act.saved is not None or not act.outcome.done()):
                act.end_wanted = True
                act.stirred.set()
                if by is not None and not act.begun:
                    self._hurry(act, by, (0, *act.ticket.rank[1:]))
                return act.outcome
        return None

    def withdraw_notice(self, notice: str) -> None:
        """Take back a notice: what was saved for it alone runs on."""
        for act in self._acts.values():
            act.take_back(notice=notice)

    def forget_notice(self, notice: str) -> None:
        """Forget what was done for a notice that comes once more: it asks anew."""
        for key in [key for key, outcome in self._outcomes.items() if notice in outcome.notices]:
            del self._outcomes[key]

    def withdraw_order(self, pod_uid: str, name: str) -> None:
        """Take back an order that was deleted."""
        for act in self._acts.values():
            if act.session.uid == pod_uid:
                act.take_back(order=name)

    @property
    def busy(self) -> bool:
        """Whether a dump is under way or waits for its turn."""
        return any(not act.outcome.done() for act in self._acts.values())

    @property
    def idle(self) -> bool:
        """Whether no thread works on a dump, not even on one that nobody waits for any more."""
        return self._dumper.idle

    async def stop(self, deadline: Deadline) -> None:
        """Begin nothing more, let dumps that are under way come to their end, and let saved jobs run on.

        Whoever works on this node next saves them again if they still have to go.
        """
        self._stopping = True
        self._dumper.begin_no_more()
        for task, act in self._acts.items():
            act.stirred.set()
            if not act.begun:
                task.cancel()
        if self._acts:
            await asyncio.wait(self._acts, timeout=deadline.remaining())
        self._dumper.leave()
        left = list(self._acts)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    # Which act it is.

    def _serving(self, session: PodSession, cause: Cause) -> Act | None:
        return next((act for act in self._acts_of(session) if act.serves(cause)), None)

    def _acts_of(self, session: PodSession) -> list[Act]:
        return [act for act in self._acts.values() if act.session is session]

    def _begin(self, session: PodSession, pod: Pod, cause: Cause) -> Act:
        act = Act(session, pod, cause)
        task = asyncio.create_task(self._run(act))
        self._acts[task] = act
        task.add_done_callback(self._acts.pop)
        return act

    def _join(self, act: Act, cause: Cause) -> None:
        act.causes.append(cause)
        act.notices |= {cause.notice} - {""}
        if cause.order and cause.order not in act.orders:
            act.orders.add(cause.order)
            if act.status.phase is not OrderPhase.PENDING:
                self._teller.tell_status(act.pod.namespace, cause.order, act.status)
        if cause.pressing:
            act.end_wanted = True
            act.stirred.set()
            if not act.begun:
                self._hurry(act, cause.deadline, cause.rank(act.pod))

    def _hurry(self, act: Act, by: Deadline, rank: Rank) -> None:
        """Let an act that waits come earlier, and not later than that."""
        if by.at < act.deadline.at:
            act.deadline = by
            asyncio.get_running_loop().call_later(by.remaining(), self._expire, act)
        self._turns.hurry(act.ticket, rank)

    def _expire(self, act: Act) -> None:
        if not act.begun and not act.outcome.done():
            act.status = failed_status(
                act.status, DeadlineError.reason, "out of time while it waited", expired=True
            )
            self._tell_of(act)
            self._settle(act)

    # The act.

    async def _run(self, act: Act) -> None:
        try:
            async with self._turn(act):
                await self._save(act)
        except asyncio.CancelledError:
            if not act.outcome.done():
                act.outcome.set_result(_stopped(act.status))
            raise
        except CrikpyError as fault:
            await self._fail(act, fault)
        except Exception:  # noqa: BLE001  # a defect of ours must not end the agent
            _log.exception("a save failed of a defect in crikpy", extra=act.facts)
            await self._fail(act, CapsuleError("crikpy has a defect, see its log"))
        if act.saved is not None:
            await self._hold(act, act.saved)

    async def _hold(self, act: Act, saved: Saved) -> None:
        spare_s = self._settings.agent.spare_s
        if await await_end(act, saved, spare_s=spare_s, leaving=lambda: self._stopping) is not Ending.SPARED:
            return
        message = f"runs on, since this node was spared; checkpoint {act.status.checkpoint} stays"
        act.status = replace(act.status, reason=SPARED_REASON, message=message)
        self._teller.tell_pod(act.pod, SPARED_REASON, message)
        self._tell_of(act)
        self._remember(act)

    @contextlib.asynccontextmanager
    async def _turn(self, act: Act) -> AsyncIterator[None]:
        """Lend the pod and a turn; nobody waits for a pod with a turn in his hand, nor the other way round."""
        async with _locked(act.session, act.deadline):
            pass
        async with self._turns.turn(act.ticket, act.deadline), _locked(act.session, act.deadline):
            yield

    async def _save(self, act: Act) -> None:
        """Save a pod that is ours alone, or take over what was saved while we waited."""
        session = act.session
        if act.outcome.done():
            return  # its time was up while it waited
        held = next((other for other in self._acts_of(session) if other.saved is not None), None)
        if held is not None:
            act.status = held.status
            self._tell_of(act)
            self._settle(act)
            return
        if not act.causes:
            act.status = failed_status(act.status, WITHDRAWN_REASON, "not needed any more", expired=True)
            self._tell_of(act)
            self._settle(act)
            return
        act.deadline.check("waiting for its turn")
        if session.activity is not Activity.RUNNING:
            raise CapsuleError(f"there is nothing to save: the pod's jobs are {session.activity}")
        act.begun = True
        act.capsules = tuple(session.capsules.values())
        members = await in_thread(None, session.members, self._settings)
        act.status = OrderStatus(
            phase=OrderPhase.DUMPING, started=datetime.now(UTC), reason="Dumping", message="is being saved"
        )
        self._tell_of(act)
        loop = asyncio.get_running_loop()
        reporter = Progress(
            self._teller.reporter(act.pod, order=act.facts["order"]),
            lambda moved: loop.call_soon_threadsafe(self._progress, act, moved),
        )
        order = CheckpointOrder(
            trigger=act.trigger,
            notice=act.notice,
            instance=self.instance,
            pod=str(act.pod),
            pod_uid=session.uid,
            deadline=act.deadline,
            leave_running=act.leave_running,
        )
        session.activity = Activity.SAVING
        try:
            done = await self._dumper.dump(members, order, reporter)
        except BaseException:
            if session.activity is Activity.SAVING:
                session.activity = Activity.RUNNING
            raise
        self._complete(act, done)
        self._on_complete(session, members)

    def _complete(self, act: Act, done: Dumped) -> None:
        act.status = complete_status(
            act.status, done.saved.manifests, location=done.location, frozen_s=done.frozen_s, total_s=done.total_s
        )
        if not act.leave_running:
            act.saved = act.session.saved = done.saved
        act.session.activity = Activity.RUNNING if act.leave_running else Activity.HELD
        self._metrics.checkpoints.labels(trigger=act.trigger.value, outcome="complete").inc()
        self._metrics.checkpoint_seconds.observe(done.total_s)
        self._metrics.frozen_seconds.observe(done.frozen_s)
        self._tell_of(act)
        self._teller.tell_pod(act.pod, act.status.reason, act.status.message)
        self._settle(act)

    async def _fail(self, act: Act, fault: CrikpyError) -> None:
        if act.outcome.done():  # it was complete; what failed came afterwards
            _log.error("after a checkpoint: %s", fault, extra=act.facts)
            return
        if self._stopping:
            act.outcome.set_result(_stopped(act.status))
            return
        if act.begun and await _has_ended(act.capsules):
            act.status = failed_status(act.status, ENDED_REASON, "the job ended by itself")
            self._teller.tell_pod(act.pod, FAILED_EVENT, "not saved: the job ended by itself")
        else:
            expired = isinstance(fault, DeadlineError) and not act.begun
            act.status = failed_status(act.status, fault.reason, str(fault), expired=expired)
            self._teller.tell_pod(act.pod, FAILED_EVENT, f"not saved and runs on: {fault}", warning=True)
        if fault.detail:
            _log.warning("why a pod was not saved", extra={**act.facts, "detail": fault.detail})
        self._metrics.checkpoints.labels(trigger=act.trigger.value, outcome=act.status.reason).inc()
        self._tell_of(act)
        self._settle(act)

    # What is told and remembered.

    def _progress(self, act: Act, progress: TransferProgress) -> None:
        if act.status.phase is OrderPhase.DUMPING and not act.outcome.done():
            moved = OrderBytes(memory=progress.plain_bytes, stored=progress.wire_bytes)
            act.status = replace(act.status, bytes=moved)
            self._tell_of(act)

    def _tell_of(self, act: Act) -> None:
        for name in act.orders:
            self._teller.tell_status(act.pod.namespace, name, act.status)

    def _settle(self, act: Act) -> None:
        self._remember(act)
        act.outcome.set_result(Outcome(status=act.status))

    def _remember(self, act: Act) -> None:
        """Remember what an act came to, for those who ask later for the same reason."""
        outcome = Outcome(status=act.status, notices=act.notices)
        for word in act.orders | act.notices:
            self._outcomes[act.session.uid, word] = outcome
        while len(self._outcomes) > _MOST_OUTCOMES:
            self._outcomes.popitem(last=False)


@contextlib.asynccontextmanager
async def _locked(session: PodSession, deadline: Deadline) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(deadline.remaining()):
            await session.lock.acquire()
    except TimeoutError as late:
        raise DeadlineError(f"out of time: the pod's jobs are {session.activity}") from late
    try:
        yield
    finally:
        session.lock.release()


async def _has_ended(capsules: Sequence[CapsuleSession]) -> bool:
    """Say whether one of the jobs has ended, by itself or because somebody killed it."""
    for capsule in capsules:
        try:
            if (await capsule.refresh()).phase is JobPhase.ENDED:
                return True
        except LauncherError:
            return True
        except DeadlineError:
            continue
    return False


def _stopped(status: OrderStatus) -> Outcome:
    return Outcome(status=failed_status(status, STOPPED_REASON, "the agent is being stopped"))
