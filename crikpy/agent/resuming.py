"""Finds what a new pod resumes, and resumes it: from held launchers to jobs that go on, or to the reason why not.

Nothing here starts a job from its beginning; crikpy.agent.starting does when there is nothing to resume.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from crikpy import log
from crikpy.agent.choosing import Cold, OriginState, Resume, Wait, choose, doubtful
from crikpy.agent.companies import MOST_MEMBERS_HERE
from crikpy.agent.dumps import shared_out
from crikpy.agent.misfits import Misfits
from crikpy.agent.origins import Origins
from crikpy.agent.regrouping import Regrouper, Standing, companions, judged
from crikpy.agent.reporting import Teller
from crikpy.agent.sessions import Activity, PodSession
from crikpy.agent.threads import in_thread
from crikpy.agent.waiting import Hold
from crikpy.aio.clock import Deadline
from crikpy.aio.retrying import is_retryable
from crikpy.aio.threads import Pool
from crikpy.errors import (
    CheckpointClaimedError,
    CrikpyError,
    DeadlineError,
    IncompatibleError,
    KubeError,
    NotNowError,
    StoreError,
)
from crikpy.flows.gathering import Candidate, find_together, read_manifests, retire_pod
from crikpy.flows.reporting import Reporter
from crikpy.flows.restoring import Waiting, machine_differences, require_fit, restore
from crikpy.kube.api import KubeApi
from crikpy.kube.signals import read_signs
from crikpy.metrics import Metrics
from crikpy.model.groups import Question
from crikpy.model.pods import Pod
from crikpy.model.streams import TransferProgress
from crikpy.model.workload import Workload
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.records import Claim

_log = logging.getLogger(__name__)

_TRY_EVERY_S = 1.0
_AFTER_KILL_S = 15.0
"""From a pod's last moment until the API server knows that it is gone."""

_LONGEST_GRACE_S = 3600.0
_HOPELESS_S = 5.0
"""How long what is refused, and not only out of reach, is tried again."""


class Resumer:
    """Resumes the checkpoints of the pods of this node."""

    def __init__(
        self,
        api: KubeApi,
        store: ObjectStore,
        teller: Teller,
        metrics: Metrics,
        settings: Settings,
        *,
        instance: str,
    ) -> None:
        self._signs = read_signs(settings.signals)
        self._api = api
        self._store = store
        self._teller = teller
        self._misfits = Misfits(api, teller, metrics)
        self._instance = instance
        self._settings, at_once = shared_out(settings)
        self._retiring: set[asyncio.Task[None]] = set()
        self._restores = Pool(at_once, thread_name_prefix="restore")
        self._accompanied = Pool(MOST_MEMBERS_HERE, thread_name_prefix="restore-together")
        self.groups = Regrouper(store, settings, at_once)

    def close(self) -> None:
        """Wait for no restore any more."""
        for executor in (self._restores, self._accompanied):
            executor.shutdown(wait=False, cancel_futures=True)

    async def choose(self, session: PodSession, pod: Pod, waiting_for_origin: Deadline) -> Resume | Cold:
        """Say what a pod begins from; an end of this comes whatever the API server and the store do.

        Raises:
            CrikpyError: it cannot be said, for a reason that lies in the pod or the settings.
        """
        workloads = session.workloads(self._settings)
        candidates: tuple[Candidate, ...] = ()
        origins = Origins(self._api, pod, self._signs)
        trouble = _Trouble(self._settings.agent.api_wait_s)
        waiting_for_group = Deadline.after(self.groups.gather_s)
        while True:
            try:
                await origins.look(self._answer())
                found = await asyncio.to_thread(self._find, workloads)
                standings = await asyncio.to_thread(self.groups.standings, found, pod)
                candidates = judged(found, standings, pod.group)
                states = await origins.states(candidates, self._answer())
                choice = choose(candidates, self._with_own(states, session), pod.uid)
                if isinstance(choice, Resume) and choice.candidate.set:
                    grouped = choice.candidate
                    choice = await self._with_others(grouped, standings[grouped.set], origins)
                    if isinstance(choice, Wait):
                        limit = waiting_for_origin if standings[grouped.set].open else waiting_for_group
                        await self._await_others(grouped, standings[grouped.set], pod, limit)
                        trouble.is_over()
                        continue
                if not isinstance(choice, Wait):
                    return choice
                limit = _later(waiting_for_origin, origins.killed_at(choice.pod_uid))
                if limit.expired():
                    return _give_up(candidates, "the pod before this one does not end")
                await origins.await_end(choice.pod_uid, limit)
                trouble.is_over()
            except (KubeError, StoreError) as fault:
                if trouble.is_too_long(fault):
                    return _give_up(candidates, f"it cannot be found out what there is to resume: {fault}")
                await asyncio.sleep(_TRY_EVERY_S)

    async def _with_others(
        self, candidate: Candidate, standing: Standing, origins: Origins
    ) -> Resume | Wait | Cold:
        """Say whether the old pods of the other members let a checkpoint of a group be resumed."""
        others = standing.record.pods if standing.record else ()
        return companions(candidate, standing, await origins.states([candidate], self._answer(), others))

    async def _await_others(self, candidate: Candidate, standing: Standing, pod: Pod, limit: Deadline) -> None:
        """Give the old pods of a group a moment to end, and their set up when they have had enough of them."""
        if not limit.expired():
            await asyncio.sleep(_TRY_EVERY_S)
            return
        question = Question.SAVED if standing.open else Question.GATHERED
        await asyncio.to_thread(
            self.groups.abandon, candidate, pod, question, "the other pods of the group did not end in time"
        )

    async def fits(self, session: PodSession, pod: Pod, holds: Mapping[str, Hold], candidate: Candidate) -> str:
        """Compare the checkpoint of a member of a group with this machine, before others rely on it.

        Returns:
            What does not fit, when the pod is to be moved for that; nothing when it fits.

        Raises:
            NotNowError: the store is out of reach.
            CrikpyError: it does not fit, and the pod is not moved; nothing was touched.
        """
        try:
            await in_thread(self._restores, self._compare, session, holds, candidate)
        except IncompatibleError:
            if misfit := await self._misfit(session, pod, candidate):
                return misfit
            raise
        except CrikpyError as fault:
            if _may_pass(fault):
                raise NotNowError(str(fault)) from fault
            raise
        return ""

    async def resume(self, session: PodSession, pod: Pod, holds: Mapping[str, Hold], candidate: Candidate) -> str:
        """Resume a checkpoint in the containers of a pod, all held; the caller has the session's lock.

        Returns:
            What of this machine does not fit, when the pod is to be moved for that; nothing when the jobs go on.

        Raises:
            NotNowError: somebody else has resumed it, or the store is out of reach; nothing was touched.
            CrikpyError: it failed; the jobs have not begun, unless a launcher says otherwise.
        """
        with log.about(checkpoint=candidate.checkpoint):
            return await self._resume(session, pod, holds, candidate)

    async def _resume(self, session: PodSession, pod: Pod, holds: Mapping[str, Hold], candidate: Candidate) -> str:
        session.activity = Activity.STARTING
        story = _Story(self._teller.reporter(pod), lambda: self._tell_claimed(pod, candidate))
        try:
            executor = self._accompanied if candidate.set else self._restores
            await in_thread(executor, self._restore, session, pod, holds, candidate, story)
        except CrikpyError as fault:
            session.activity = Activity.WAITING
            passes = isinstance(fault, CheckpointClaimedError) or _may_pass(fault)
            if not candidate.set and not story.claimed_at and passes:
                raise NotNowError(str(fault)) from fault
            unfit = isinstance(fault, IncompatibleError) and not candidate.set  # its group counts on this one
            if unfit and (misfit := await self._misfit(session, pod, candidate)):
                return misfit
            self._teller.tell_restore_failed(
                pod, checkpoint=candidate.checkpoint, origin_uid=candidate.pod_uid, fault=fault
            )
            raise
        except BaseException:  # a defect of ours: what begins now must still be saved one day
            session.activity = Activity.WAITING
            raise
        session.activity = Activity.RUNNING
        self._teller.tell_restored(
            pod,
            checkpoint=candidate.checkpoint,
            origin_uid=candidate.pod_uid,
            seconds=time.monotonic() - story.claimed_at,
        )
        return ""

    async def _misfit(self, session: PodSession, pod: Pod, candidate: Candidate) -> str:
        """Return what of this machine does not fit, if the pod is to be moved for that; else nothing."""
        deadline = self._answer()

        def compare() -> tuple[str, ...]:
            workloads = [member.workload for member in session.members(self._settings)]
            manifests = read_manifests(self._store, workloads, candidate.checkpoint)
            return machine_differences(manifests, self._settings, deadline)

        try:
            differences = await in_thread(self._restores, compare)
        except CrikpyError as fault:
            _log.warning("nobody knows why a checkpoint does not fit: %s", fault, extra={"pod": str(pod)})
            return ""
        if differences and await self._misfits.ask_for_move(pod, candidate, differences):
            return "; ".join(differences)
        return ""

    def retire_own(self, session: PodSession, until: datetime) -> None:
        """See to it that nobody resumes what a pod saved in a life before this one: its job has ended since.

        Usually there is nothing, as whoever saw the end has seen to it. Nobody waits for this.
        """
        task = asyncio.create_task(self._retire(session, until), name=f"retire {session}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _retire(self, session: PodSession, until: datetime) -> None:
        claim = Claim.ours(instance=self._instance)
        workloads = session.workloads(self._settings)
        try:
            await asyncio.to_thread(retire_pod, self._store, workloads, session.uid, claim, until=until)
        except CrikpyError as fault:
            _log.warning(
                "checkpoints of a job that has ended may be resumed: %s", fault, extra={"pod": str(session)}
            )

    def _find(self, workloads: Sequence[Workload]) -> tuple[Candidate, ...]:
        """Return the checkpoints that count."""
        found = find_together(self._store, workloads)
        strange = set()
        for checkpoint, claim in doubtful(found).items():
            origin = read_manifests(self._store, workloads[:1], checkpoint)[0].origin
            if (origin.host, origin.boot_id) != (claim.host, claim.boot_id):
                strange.add(checkpoint)
        return tuple(candidate for candidate in found if candidate.checkpoint not in strange)

    def _restore(
        self, session: PodSession, pod: Pod, holds: Mapping[str, Hold], candidate: Candidate, story: _Story
    ) -> None:
        deadline = Deadline.after(self._settings.run.manual_deadline_s)
        company = self.groups.company(candidate, pod, deadline)
        with company or contextlib.nullcontext():  # the others have to know of whatever fails here
            waiting = self._waiting(session, holds, candidate)
            claim = Claim.ours(instance=self._instance)
            restore(waiting, self._store, claim, deadline, self._settings, story, company=company)

    def _compare(self, session: PodSession, holds: Mapping[str, Hold], candidate: Candidate) -> None:
        require_fit(self._waiting(session, holds, candidate), self._settings, self._answer())

    def _waiting(self, session: PodSession, holds: Mapping[str, Hold], candidate: Candidate) -> list[Waiting]:
        members = session.members(self._settings)
        workloads = [member.workload for member in members]
        manifests = read_manifests(self._store, workloads, candidate.checkpoint)
        return [
            Waiting(member=member, launcher=holds[container].connection, manifest=manifest)
            for container, member, manifest in zip(sorted(holds), members, manifests, strict=True)
        ]

    def _answer(self) -> Deadline:
        return Deadline.after(self._settings.kube.request_timeout_s)

    def _tell_claimed(self, pod: Pod, candidate: Candidate) -> None:
        self._teller.tell_restoring(pod, checkpoint=candidate.checkpoint, origin_uid=candidate.pod_uid)

    @staticmethod
    def _with_own(states: Mapping[str, OriginState], session: PodSession) -> dict[str, OriginState]:
        own = OriginState.GONE if session.moved else OriginState.ALIVE
        return {**states, session.uid: own}


class _Story:
    """A reporter that passes everything on, and says on the event loop that the checkpoint is ours.

    Attributes:
        claimed_at: monotonic time of the claim, or 0.
    """

    def __init__(self, reporter: Reporter, on_claimed: Callable[[], None]) -> None:
        self.claimed_at = 0.0
        self._reporter = reporter
        self._on_claimed = on_claimed
        self._loop = asyncio.get_running_loop()

    def event(self, name: str, message: str, **facts: object) -> None:
        """Pass it on, and note the claim."""
        if name == "claimed":
            self.claimed_at = time.monotonic()
            self._loop.call_soon_threadsafe(self._on_claimed)
        self._reporter.event(name, message, **facts)

    def transfer(self, direction: str, progress: TransferProgress) -> None:
        """Pass it on."""
        self._reporter.transfer(direction, progress)


class _Trouble:
    """How long the API server or the store has not answered."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._until: Deadline | None = None

    def is_too_long(self, fault: CrikpyError) -> bool:
        if self._until is None:
            _log.warning("a pod has to wait: %s", fault)
            self._until = Deadline.after(self._patience_s if fault.retryable else _HOPELESS_S)
        return self._until.expired()

    def is_over(self) -> None:
        self._until = None


def _later(limit: Deadline, killed_at: datetime | None) -> Deadline:
    """Return until when the end of a pod is waited for: as long as kubelet leaves it, and not for ever."""
    if killed_at is None:
        return limit
    killed = min(Deadline.from_datetime(killed_at).at + _AFTER_KILL_S, limit.at + _LONGEST_GRACE_S)
    return Deadline(max(limit.at, killed))


def _may_pass(fault: CrikpyError) -> bool:
    return is_retryable(fault) or isinstance(fault, DeadlineError)


def _give_up(candidates: tuple[Candidate, ...], reason: str) -> Cold:
    """Return that nothing is resumed although there may be something."""
    left = [candidate.checkpoint for candidate in candidates if candidate.resumable]
    return Cold(reason=reason, spoiled=max(left, default=""))
