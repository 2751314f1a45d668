"""From a waiting launcher to a running job: resumed where there is something to resume, else from its beginning.

The launcher is held all the while, so everything here has an end, and every end begins the job: a cluster without
an API server, a store that is away, a defect of ours cost the job time and never its beginning. The one exception
is what the pod's owner asks for: `crikpy.io/restore-failure: fail`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime, timedelta

from crikpy import names
from crikpy.agent.choosing import Cold, Resume
from crikpy.agent.nodepods import NodePods
from crikpy.agent.outlook import NodeOutlook
from crikpy.agent.reporting import Teller
from crikpy.agent.resuming import Resumer
from crikpy.agent.sessions import Activity, CapsuleSession, PodSession
from crikpy.agent.threads import to_its_end
from crikpy.agent.waiting import Gathering, Hold
from crikpy.aio.clock import Deadline
from crikpy.aio.threads import Pool
from crikpy.errors import CrikpyError, IncompatibleError, KubeError, NotNowError, PodEndingError
from crikpy.flows.gathering import Candidate
from crikpy.kube.api import KubeApi
from crikpy.metrics import Metrics
from crikpy.model.capsule import JobPhase
from crikpy.model.pods import OnRestoreFailure, Pod, PodOptions
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore

_log = logging.getLogger(__name__)

_THREADS = 16
_LOOK_EVERY_S = 0.5
_MOST_TRIES = 5


class Starter:
    """Begins the jobs of this node; `start` is what NodeSessions.on_ready calls."""

    def __init__(
        self,
        api: KubeApi,
        pods: NodePods,
        store: ObjectStore,
        outlook: NodeOutlook,
        teller: Teller,
        metrics: Metrics,
        settings: Settings,
        *,
        instance: str = "",
    ) -> None:
        self._pods = pods
        self._outlook = outlook
        self._teller = teller
        self._settings = settings
        self._resumer = Resumer(api, store, teller, metrics, settings, instance=instance)
        self._gatherings: dict[str, Gathering] = {}
        self._talks = Pool(_THREADS, thread_name_prefix="starting")

    def close(self) -> None:
        """Give the threads back; jobs that have not begun by now are left to their launchers."""
        self._resumer.close()
        self._talks.shutdown(wait=False, cancel_futures=True)

    async def start(self, session: PodSession, capsule: CapsuleSession) -> None:
        """Begin the job of a launcher that waits, with those of the same pod if they resume together.

        Raises:
            CrikpyError: the launcher is gone, or was not to be held.
        """
        hold = await Hold.take(capsule, self._talks)
        if hold is None:
            return
        gathering = self._gatherings.setdefault(session.uid, Gathering(session))
        gathering.join(hold)
        try:
            async with gathering.turn:
                if not hold.settled:
                    await self._begin(session, gathering, hold)
        except Exception:
            if not hold.settled:
                await to_its_end(self._start_one(session, hold, floored=True))
            raise
        finally:
            gathering.leave(hold)
            if gathering.empty:
                self._gatherings.pop(session.uid, None)
            await hold.close()

    async def _begin(self, session: PodSession, gathering: Gathering, hold: Hold) -> None:
        pod = await self._pods.find(session.uid, Deadline.after(self._settings.agent.api_wait_s))
        if pod is None:
            _log.warning("a job starts from its beginning: nobody says whose it is")
            await self._start_one(session, hold, floored=True)
        elif not pod.opted_in or hold.capsule.container not in pod.injected:
            _log.info("a job starts unattended: its pod has not asked for us")
            await self._start_one(session, hold, floored=False)
        else:
            await self._begin_known(session, pod, gathering, hold)

    async def _begin_known(self, session: PodSession, pod: Pod, gathering: Gathering, hold: Hold) -> None:
        """Resume what there is to resume, or start from the beginning."""
        origin_wait = Deadline.after(self._settings.agent.origin_wait_s)
        for _ in range(_MOST_TRIES):
            await self._sit_out(gathering)
            choice = await self._choose(session, pod, hold, origin_wait)
            if isinstance(choice, Cold):
                break
            checkpoint = choice.candidate.checkpoint
            if not await gathering.complete(pod.injected, Deadline.after(self._settings.agent.gather_s)):
                choice = Cold(reason="not all containers of the checkpoint have come in time", spoiled=checkpoint)
                break
            await self._sit_out(gathering)
            try:
                met = await self._regroup(session, pod, gathering, choice.candidate)
                if isinstance(met, Cold):
                    choice = met
                    break
                misfit = met or await to_its_end(self._resume(session, pod, gathering, choice.candidate))
            except PodEndingError:
                await self._await_term(pod, gathering)
                return
            except NotNowError as again:
                _log.info("a checkpoint is not resumed: %s", again)
                await asyncio.sleep(_LOOK_EVERY_S)
                continue
            except CrikpyError as fault:
                choice = Cold(reason=str(fault), spoiled=checkpoint)
                await to_its_end(self._begin_cold(session, pod, gathering, choice, after_failure=True))
                return
            if misfit and await self._await_move(pod, gathering):
                return
            if misfit:
                unmoved = IncompatibleError(f"{misfit}, and nobody has moved the pod")
                self._tell_unmoved(pod, choice.candidate, unmoved)
                choice = Cold(reason=str(unmoved), spoiled=checkpoint)
                await to_its_end(self._begin_cold(session, pod, gathering, choice, after_failure=True))
            return
        else:
            choice = Cold(reason="others were always faster, or the store was lost", spoiled=checkpoint)
        await to_its_end(self._begin_cold(session, pod, gathering, choice, after_failure=False))

    async def _choose(self, session: PodSession, pod: Pod, hold: Hold, origin_wait: Deadline) -> Resume | Cold:
        container = hold.capsule.container
        running = any(other.phase is JobPhase.RUNNING for other in session.capsules.values())
        if running or (session.begun and not session.moved):
            return Cold(reason=f"container {container} begins in a pod whose jobs have begun before")
        return await self._resumer.choose(session, pod, origin_wait)

    async def _regroup(
        self, session: PodSession, pod: Pod, gathering: Gathering, candidate: Candidate
    ) -> str | Cold:
        """Wait for the replacements of the other members of a pod's group; at once done for a pod alone.

        Returns:
            Why the checkpoint cannot be resumed on this node, when the pod is to be moved for that; that the group
            begins from its beginning; else nothing.

        Raises:
            PodEndingError: the pod is being ended.
            NotNowError: the store is out of reach.
        """
        if not candidate.set:
            return ""
        containers = set(pod.injected)

        def leaving() -> bool:
            holds = gathering.waiting()
            ending = any(hold.capsule.term_pending for hold in holds.values())
            return ending or not holds.keys() >= containers

        await self._refuse_ending(pod)
        try:
            if misfit := await self._resumer.fits(session, pod, gathering.waiting(), candidate):
                return misfit
            await self._resumer.groups.gather(candidate, pod, leaving)
        except NotNowError:
            raise
        except CrikpyError as fault:
            await self._resumer.groups.renounce(candidate, pod, str(fault))
            return Cold(reason=str(fault), spoiled=candidate.checkpoint)
        return ""

    async def _resume(self, session: PodSession, pod: Pod, gathering: Gathering, candidate: Candidate) -> str:
        """Resume a checkpoint in all containers of the pod and let go of them.

        Returns:
            Why it cannot be resumed on this node, when the pod is to be moved for that; else nothing.
        """
        await self._refuse_ending(pod)
        async with session.lock:
            holds = {name: hold for name, hold in gathering.waiting().items() if name in pod.injected}
            if holds.keys() != set(pod.injected) or any(hold.capsule.term_pending for hold in holds.values()):
                raise NotNowError("its containers are being ended")
            async with contextlib.AsyncExitStack() as use:
                for hold in holds.values():
                    await use.enter_async_context(hold.in_use)
                if misfit := await self._resumer.resume(session, pod, holds, candidate):
                    return misfit
                for hold in holds.values():
                    hold.settled = True
            session.begun, session.moved = True, False
            for hold in holds.values():
                with contextlib.suppress(CrikpyError):  # it has ended since
                    await hold.capsule.refresh()
                    await hold.release()
        return ""

    async def _refuse_ending(self, pod: Pod) -> None:
        """Raise for a pod that would take a checkpoint with it to its own end."""
        try:
            now = await self._pods.fresh(pod)
        except KubeError:
            return
        if now is None or now.deleting:
            raise PodEndingError("the pod is being ended")

    async def _begin_cold(
        self, session: PodSession, pod: Pod, gathering: Gathering, cold: Cold, *, after_failure: bool
    ) -> None:
        """Start every job of the pod that waits from its beginning, unless the owner does not want that."""
        holds = [hold for name, hold in gathering.waiting().items() if name in pod.injected]
        unseen, began = not (session.begun or session.moved), datetime.now(UTC)
        options = pod.options or PodOptions()
        if cold.spoiled and options.restore_failure is OnRestoreFailure.FAIL:
            for hold in holds:
                with contextlib.suppress(CrikpyError):
                    await hold.refuse()
            if holds and not after_failure:
                self._teller.tell_pod(pod, "RestoreFailed", _refusal(cold), warning=True)
            return
        started = [hold for hold in holds if await self._start_one(session, hold, floored=True)]
        if started:
            self._teller.tell_cold_start(pod, cold.reason, after_failure=after_failure)
            if unseen:  # whoever saw the end of a life before this one has seen to what it left
                self._resumer.retire_own(session, began)

    async def _start_one(self, session: PodSession, hold: Hold, *, floored: bool) -> bool:
        """Start a job from its beginning; return whether it could be."""
        async with session.lock:
            alone = session.activity in (Activity.WAITING, Activity.ENDED)
            session.activity = Activity.STARTING if alone else session.activity
            try:
                await hold.start(floored=floored)
            except CrikpyError as fault:
                _log.warning("a job could not be started: %s", fault)
                session.activity = Activity.WAITING if alone else session.activity
                return False
            session.activity = Activity.RUNNING if alone else session.activity
            session.begun, session.moved = True, False
            return True

    async def _await_term(self, pod: Pod, gathering: Gathering) -> None:
        """Keep launchers waiting for their SIGTERM, which ends them: a preStop hook may run before it."""
        _log.info("a job does not begin in a pod that is being ended", extra={"pod": str(pod)})
        killed = Deadline.after(pod.grace_period_s)
        while gathering.waiting() and not killed.expired():  # noqa: ASYNC110  # launchers tell it to others
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _await_move(self, pod: Pod, gathering: Gathering) -> bool:
        """Keep launchers waiting until the pod is ended, to come to another node; return whether it was."""
        given_up = Deadline.after(self._settings.agent.move_wait_s)
        while not given_up.expired():
            holds = gathering.waiting().values()
            if not holds or any(hold.capsule.term_pending for hold in holds):
                await self._await_term(pod, gathering)
                return True
            await asyncio.sleep(_LOOK_EVERY_S)
        try:
            await self._refuse_ending(pod)
        except PodEndingError:  # a preStop hook runs before the SIGTERM
            await self._await_term(pod, gathering)
            return True
        return False

    def _tell_unmoved(self, pod: Pod, candidate: Candidate, fault: CrikpyError) -> None:
        """Fail the order that asks for the move, so that nobody moves the pod once its job runs here."""
        self._teller.tell_restore_failed(
            pod, checkpoint=candidate.checkpoint, origin_uid=candidate.pod_uid, fault=fault
        )

    async def _sit_out(self, gathering: Gathering) -> None:
        """Wait while the node is going away: what began now would only be lost, or have to be saved again."""
        said = False
        while gathering.waiting() and (notice := self._outlook.final_notice()) is not None:
            now = datetime.now(UTC)
            spared_at = (notice.deadline or notice.seen) + timedelta(seconds=self._settings.agent.spare_s)
            soon = now + timedelta(seconds=self._settings.run.scheduled_lead_s)
            if now >= spared_at or (notice.deadline is not None and notice.deadline > soon):
                return
            if not said:
                _log.info("a job does not begin on a node that is going away", extra={"notice": notice.id})
            said = True
            await asyncio.sleep(_LOOK_EVERY_S)


def _refusal(cold: Cold) -> str:
    return (
        f"not started from the beginning, as {names.RESTORE_FAILURE} says: {cold.reason}; "
        f"`crikpy rm` of checkpoint {cold.spoiled} ends that"
    )
