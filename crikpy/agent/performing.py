"""One save from its turn to its end: dumped, told, held until its jobs have to end, or failed and running on.

Whatever fails, the jobs run on. Which act it is, and what it stands for, is decided by crikpy.agent.saving.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from crikpy import log, tracing
from crikpy.agent.acts import (
    ENDED_REASON,
    WITHDRAWN_REASON,
    Act,
    Outcome,
    complete_status,
    failed_status,
    stopped_outcome,
)
from crikpy.agent.companies import Companies
from crikpy.agent.device_sizes import DeviceSizes
from crikpy.agent.dumps import Dumped, Dumper, Progress
from crikpy.agent.ending import Ending, await_end
from crikpy.agent.forecasts import Forecasts
from crikpy.agent.launchers import CapsuleSession
from crikpy.agent.measuring import Crowd, Meter, Sample
from crikpy.agent.reporting import FAILED_EVENT, Teller
from crikpy.agent.sessions import Activity, PodSession
from crikpy.agent.sizing import Sizes
from crikpy.agent.threads import in_thread
from crikpy.agent.turns import Turns
from crikpy.aio.clock import Deadline
from crikpy.errors import CapsuleError, CrikpyError, DeadlineError, LauncherError, SelfSaveError
from crikpy.flows.company import Together
from crikpy.flows.saving import CheckpointOrder, Member, Saved
from crikpy.metrics import Metrics
from crikpy.model.capsule import JobPhase
from crikpy.model.groups import GroupOrder
from crikpy.model.manifest import PROCESS_MODE
from crikpy.model.orders import SPARED, OrderBytes, OrderPhase, OrderStatus
from crikpy.model.pods import Pod
from crikpy.model.streams import TransferProgress
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore

_log = logging.getLogger(__name__)

OnComplete = Callable[[PodSession, Sequence[Member]], None]


class Ledger(Protocol):
    """What whoever performs an act must know of the others."""

    instance: str

    @property
    def stopping(self) -> bool:
        """Whether nothing is begun any more, and saved jobs run on."""
        ...

    def acts_of(self, session: PodSession) -> list[Act]:
        """Return the acts of a pod."""
        ...

    def remember(self, act: Act) -> None:
        """Remember what an act came to, for those who ask later for the same reason."""
        ...


class Performer:
    """Performs acts, so many at once, as the plan of the node says.

    Attributes:
        turns: who is saved when.
        forecasts: what is told of that.
        dumper: its threads.
    """

    def __init__(
        self,
        store: ObjectStore,
        settings: Settings,
        teller: Teller,
        metrics: Metrics,
        ledger: Ledger,
        on_complete: OnComplete,
    ) -> None:
        """Make ready.

        Raises:
            SettingsError: the memory does not suffice for any transfer.
        """
        self._settings = settings
        self._teller = teller
        self._metrics = metrics
        self._ledger = ledger
        self._on_complete = on_complete
        self._sizes = Sizes(DeviceSizes(settings))
        self._meter = Meter(settings.agent.assumed_bytes_per_s, metrics)
        self._crowd = Crowd()
        self.dumper = Dumper(store, settings)
        self._companies = Companies(store, settings)
        self._renouncing: set[asyncio.Task[None]] = set()
        self.forecasts = Forecasts(teller, self._sizes)
        self.turns = Turns(self.dumper.at_once, self._sizes, self._meter, self.forecasts, metrics)

    async def perform(self, act: Act) -> None:
        """Save a pod in its turn, and keep its jobs until it is decided what becomes of them."""
        order = next(iter(sorted(act.orders)), "")
        identity = f"{act.pod.namespace}/{order}" if order else ""
        with log.about(lambda: act.facts), tracing.rescue(identity, notice=act.notice) as told:
            await self._perform(act)
            told.note(outcome=act.status.reason)
            if act.status.phase is not OrderPhase.COMPLETE:
                told.fail(act.status.message)

    async def _perform(self, act: Act) -> None:
        try:
            async with self._turn(act):
                await self._save(act)
        except asyncio.CancelledError:
            if not act.outcome.done():
                act.outcome.set_result(stopped_outcome(act.status))
            raise
        except CrikpyError as fault:
            await self._fail(act, fault)
        except Exception:  # noqa: BLE001  # a defect of ours must not end the agent
            _log.exception("a save failed of a defect in crikpy")
            await self._fail(act, CapsuleError("crikpy has a defect, see its log"))
        if act.saved is not None:
            await self._hold(act, act.saved)

    def expire(self, act: Act) -> None:
        """Give an act up whose time is up before its turn has come."""
        status = failed_status(act.status, DeadlineError.reason, self.forecasts.why_late(act, None), expired=True)
        self._close(act, status)

    async def _hold(self, act: Act, saved: Saved) -> None:
        spare_s = self._settings.agent.spare_s
        with tracing.step("stand still"):
            ending = await await_end(act, saved, spare_s=spare_s, leaving=lambda: self._ledger.stopping)
        if ending is not Ending.SPARED:
            return
        message = f"runs on, since this node was spared; checkpoint {act.status.checkpoint} stays"
        act.status = replace(act.status, reason=SPARED, message=message)
        self._teller.tell_pod(act.pod, SPARED, message)
        self._tell_of(act)
        self._ledger.remember(act)

    @contextlib.asynccontextmanager
    async def _turn(self, act: Act) -> AsyncIterator[None]:
        """Lend the pod and a turn; nobody waits for a pod with a turn in his hand, nor the other way round.

        Who waits for others of a group takes no turn from anybody meanwhile, and asks for room when it is needed.
        """
        if act.group is not None:
            async with _locked(act.session, act.deadline):
                yield
            return
        asked = time.time()
        async with _locked(act.session, act.deadline):
            pass
        async with self.turns.turn(act), _locked(act.session, act.deadline):
            tracing.past("turn", began=asked)
            yield

    async def _save(self, act: Act) -> None:
        """Save a pod that is ours alone, or take over what was saved while we waited."""
        session = act.session
        if act.outcome.done():
            return  # its time was up while it waited
        held = next((other for other in self._ledger.acts_of(session) if other.saved is not None), None)
        if held is not None:
            self._close(act, held.status)
            return
        if not act.causes:
            self._close(act, failed_status(act.status, WITHDRAWN_REASON, "not needed any more", expired=True))
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
        session.activity = Activity.SAVING
        try:
            await self._dump(act, members)
        except BaseException as fault:
            if session.activity is Activity.SAVING:
                session.activity = Activity.RUNNING
            if isinstance(fault, SelfSaveError) and fault.ended:
                session.moved = True  # it is not done: what was saved of it before is to be resumed
            raise
        self._on_complete(session, members)

    async def _dump(self, act: Act, members: Sequence[Member]) -> None:
        loop = asyncio.get_running_loop()
        reporter = Progress(
            self._teller.reporter(act.pod, order=",".join(sorted(act.orders))),
            lambda moved: loop.call_soon_threadsafe(self._progress, act, moved, reporter),
        )
        order = CheckpointOrder(
            trigger=act.trigger,
            notice=act.notice,
            instance=self._ledger.instance,
            pod=str(act.pod),
            pod_uid=act.session.uid,
            group=act.group.name if act.group else "",
            set_id=act.group.set_id if act.group else "",
            deadline=act.deadline,
            leave_running=act.leave_running,
        )
        # One that leaves bandwidth to others says nothing of what the node can do.
        act.paced = bool(act.leave_running and self._settings.store.upload_bytes_per_s)
        entered = self._crowd.enter()
        try:
            done = await self.dumper.dump(members, order, act.fate, reporter, self._company(act))
        finally:
            crowd = self._crowd.leave(entered)
        self._learn(act, done, crowd)
        self._complete(act, done)

    def _company(self, act: Act) -> Together | None:
        """Return the others of a pod's group, with which it is saved or not at all."""
        if act.group is None:
            return None
        loop = asyncio.get_running_loop()
        act.company = self._companies.saving(
            act.group,
            namespace=act.pod.namespace,
            pod_uid=act.session.uid,
            pod=act.pod.name,
            deadline=act.deadline,
            moves=not act.leave_running,
            room=self.dumper.room,
            hear=lambda words: loop.call_soon_threadsafe(self._waits, act, words),
        )
        return act.company

    def _waits(self, act: Act, words: str) -> None:
        """Tell what a pod that is saved with its group waits for."""
        if act.status.phase is OrderPhase.DUMPING and act.group is not None and not act.outcome.done():
            act.status = replace(act.status, message=f"is being saved with group {act.group.name}: it {words}")
            self._tell_of(act)

    def renounce(self, namespace: str, group: GroupOrder, pod: str, reason: str) -> None:
        """Have the other members of a set not wait for a pod; returns at once."""
        work = asyncio.to_thread(self._companies.renounce, namespace, group, pod, reason)
        task = asyncio.create_task(work, name=f"renounce {pod}")
        self._renouncing.add(task)
        task.add_done_callback(self._renouncing.discard)

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
        if done.moving_s:
            self._metrics.upload_seconds.observe(done.moving_s)
        if not act.leave_running:
            self._metrics.margin_seconds.observe(max(0.0, act.deadline.remaining()))
            self._metrics.rescued_seconds.inc(_run_s(act.pod))
        if act.group is not None:
            what = f"{act.status.message}; with the others of group {act.group.name}, as set {act.group.set_id}"
            act.status = replace(act.status, message=what)
        self._teller.tell_pod(act.pod, act.status.reason, act.status.message)
        self._close(act, act.status)

    async def _fail(self, act: Act, fault: CrikpyError) -> None:
        if act.outcome.done():  # it was complete; what failed came afterwards
            _log.error("after a checkpoint: %s", fault)
            return
        if self._ledger.stopping:
            act.outcome.set_result(stopped_outcome(act.status))
            return
        if act.begun and not isinstance(fault, SelfSaveError) and await _has_ended(act.capsules):
            status = failed_status(act.status, ENDED_REASON, "the job ended by itself")
            self._teller.tell_pod(act.pod, FAILED_EVENT, "not saved: the job ended by itself")
        else:
            expired = isinstance(fault, DeadlineError) and not act.begun
            status = failed_status(act.status, fault.reason, str(fault), expired=expired)
            what = "not saved" if isinstance(fault, SelfSaveError) else "not saved and runs on"
            self._teller.tell_pod(act.pod, FAILED_EVENT, f"{what}: {fault}", warning=True)
        if fault.detail:
            _log.warning("why a pod was not saved", extra={"detail": fault.detail})
        self._metrics.checkpoints.labels(trigger=act.trigger.value, outcome=status.reason).inc()
        if not act.leave_running and status.reason != ENDED_REASON:
            self._metrics.lost_seconds.inc(_run_s(act.pod))
        self._close(act, status)

    # What is learnt, told and remembered.

    def _learn(self, act: Act, done: Dumped, crowd: float) -> None:
        past = self._sizes.remember(act.session.uid, [manifest.sizes for manifest in done.saved.manifests])
        by_criu = done.saved.manifests[0].mode == PROCESS_MODE
        if by_criu and not act.paced and done.attempts == 1:  # else it would seem to take longer than it does
            self._meter.learn(
                Sample(
                    memory=past.memory,
                    new=past.new,
                    total_s=done.total_s,
                    moving_s=done.moving_s,
                    crowd=crowd,
                    leisurely=done.leisurely,
                )
            )

    def _progress(self, act: Act, progress: TransferProgress, reporter: Progress) -> None:
        if act.status.phase is not OrderPhase.DUMPING or act.outcome.done():
            return
        act.status = replace(act.status, bytes=OrderBytes(memory=progress.plain_bytes, stored=progress.wire_bytes))
        act.moved = (progress.plain_bytes, now := time.monotonic())
        if not act.paced and not reporter.thawed_at:
            self._meter.glimpse(progress.plain_bytes, now - reporter.frozen_at)
        self._tell_of(act)
        self.turns.replan()

    def _tell_of(self, act: Act) -> None:
        for name in act.orders:
            self._teller.tell_status(act.pod.namespace, name, act.status)

    def _close(self, act: Act, status: OrderStatus) -> None:
        """Tell what an act came to, and remember it."""
        failed = status.phase is not OrderPhase.COMPLETE
        if failed and act.group is not None and not (act.company and act.company.settled):
            self.renounce(act.pod.namespace, act.group, act.pod.name, status.message)
        act.status = status
        self._tell_of(act)
        self._ledger.remember(act)
        act.outcome.set_result(Outcome(status=status))


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


def _run_s(pod: Pod) -> float:
    """Return for how long a pod has run, seconds; 0 where nobody knows."""
    return max(0.0, (datetime.now(UTC) - pod.started).total_seconds()) if pod.started else 0.0
