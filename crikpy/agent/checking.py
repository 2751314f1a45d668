"""Looks at running jobs for what could not be saved, and tells their owners long before the day it matters.

Only looks: whatever is found, the job runs on. A pod hears of a change and not of each look, but again of what
lasts, before the API server has forgotten it: the status page and `crikpy why` know it by that event. What the
store needs of others to save the job (a data key of KMS) is got ready by the way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from crikpy.agent.reporting import Teller
from crikpy.agent.sessions import Activity, CapsuleSession, PodSession
from crikpy.agent.threads import in_thread
from crikpy.aio.clock import Deadline
from crikpy.capsule import databases, entering, refusing
from crikpy.capsule.holding import folder_of
from crikpy.capsule.trees import find_tree
from crikpy.errors import CapsuleError, CrikpyError
from crikpy.flows import gpus
from crikpy.flows.hooks import Hearer
from crikpy.flows.members import Member
from crikpy.flows.selfsaving import obstacle
from crikpy.flows.stopping import Inhabitants
from crikpy.kube.identity import container_workload
from crikpy.kube.verdicts import CAN_BE_SAVED, CANNOT_BE_SAVED
from crikpy.model.capsule import Capsule, JobPhase
from crikpy.model.saving import Mode, SaveOptions
from crikpy.model.workload import Workload
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 300.0
_READY_S = 60.0
_LOOK_S = 30.0
"""For the tools of a job's devices, which may hang."""

_REMIND_EVERY_S = 2700.0
"""API servers keep events for an hour (`--event-ttl`), unless they are told otherwise."""

_MOST_REASONS = 5

_NOTHING_ANY_MORE = "nothing keeps it from being saved any more"

MOVE_MAY_BREAK = "MoveMayBreak"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at a job has shown.

    Attributes:
        reasons: why it could not be saved, a sentence each.
        instead: how it would be saved in CRIU's place, or empty.
    """

    reasons: tuple[str, ...] = ()
    instead: str = ""


@dataclass(frozen=True, slots=True)
class _Told:
    """What a pod has heard last of a container, and when, by the monotonic clock."""

    look: Look = Look()
    at: float = 0.0


class Checker:
    """Looks at the jobs of this node; `watch` is what NodeSessions.on_running calls."""

    def __init__(
        self,
        store: ObjectStore,
        teller: Teller,
        settings: Settings,
        *,
        every_s: float = _LOOK_EVERY_S,
        remind_every_s: float = _REMIND_EVERY_S,
    ) -> None:
        self._store = store
        self._teller = teller
        self._settings = settings
        self._cluster = settings.kube.cluster
        self._first_s = settings.agent.look_after_s
        self._every_s = every_s
        self._remind_every_s = remind_every_s
        self._known: dict[str, dict[str, _Told]] = {}

    async def watch(self, session: PodSession, capsule: CapsuleSession) -> None:
        """Look at a job now and then until it ends."""
        try:
            told: frozenset[str] = frozenset()
            await asyncio.sleep(self._first_s)
            while _lives(session, capsule):
                await self._make_ready(session, capsule)
                if _is_left_alone(session):
                    await self._look(session, capsule)
                    told |= await self._warn(session, capsule, told)
                await asyncio.sleep(self._every_s)
        finally:
            self._forget(session, capsule)

    async def _make_ready(self, session: PodSession, capsule: CapsuleSession) -> None:
        """Have the store ready for the job while there is time, so that a save under notice waits for nobody."""
        pod = session.pod
        if pod is None:
            return
        try:
            workload = container_workload(self._cluster, pod, capsule.container)
            deadline = Deadline.after(_READY_S)
            await in_thread(None, self._store.make_ready, workload, deadline)
        except CrikpyError as fault:
            _log.warning("the store is not ready for a job: %s", fault, extra={"capsule": str(capsule)})

    async def _look(self, session: PodSession, capsule: CapsuleSession) -> None:
        try:
            status = await capsule.refresh()
            if status.phase is not JobPhase.RUNNING:
                return
            found = await asyncio.to_thread(look, capsule, status.job_pid, session.saving, self._settings)
        except CrikpyError as fault:
            _log.debug("a job could not be looked at: %s", fault, extra={"capsule": str(capsule)})
            return
        if _lives(session, capsule) and _is_left_alone(session):
            self._tell(session, capsule.container, found)

    async def _warn(self, session: PodSession, capsule: CapsuleSession, told: frozenset[str]) -> frozenset[str]:
        """Tell the pod what would fail after a move although it can be saved, but for what was told; return it."""
        told_last = self._known.get(session.uid, {}).get(capsule.container)
        known = told_last.look if told_last else Look()
        if known.reasons or known.instead or session.saving.mode is Mode.APPLICATION:
            return frozenset()  # CRIU would not save it
        try:
            found = frozenset(await asyncio.to_thread(cautions, capsule.launcher_pid))
        except CrikpyError as fault:
            _log.debug("a job could not be looked at: %s", fault, extra={"capsule": str(capsule)})
            return frozenset()
        fresh = sorted(found - told)[:_MOST_REASONS]
        if fresh and session.pod is not None and _lives(session, capsule):
            message = f"container {capsule.container} can be saved, but {'; '.join(fresh)}"
            self._teller.tell_pod(session.pod, MOVE_MAY_BREAK, message, warning=True)
        return found

    def _tell(self, session: PodSession, container: str, found: Look) -> None:
        """Tell the pod what has changed since it heard last, or was told long ago and still holds."""
        pod = session.pod
        known = self._known.setdefault(session.uid, {})
        before = known.get(container, _Told())
        due = bool(found.reasons) and time.monotonic() >= before.at + self._remind_every_s
        if before.look == found and not due:
            return
        known[container] = _Told(look=found, at=time.monotonic())
        if pod is None:
            return
        if found.reasons:
            more = f"; and {len(found.reasons) - _MOST_REASONS} more" if len(found.reasons) > _MOST_REASONS else ""
            why = f"{'; '.join(found.reasons[:_MOST_REASONS])}{more}"
            message = f"container {container} runs on unsaved (mode {session.saving.mode}): {why}"
            self._teller.tell_pod(pod, CANNOT_BE_SAVED, message, warning=True)
        elif not any(other.look.reasons for other in known.values()):
            text = f"container {container} {found.instead}" if found.instead else _NOTHING_ANY_MORE
            self._teller.tell_pod(pod, CAN_BE_SAVED, text)

    def _forget(self, session: PodSession, capsule: CapsuleSession) -> None:
        known = self._known.get(session.uid, {})
        if session.capsules.get(capsule.container) in (None, capsule):
            known.pop(capsule.container, None)
        if not known:
            self._known.pop(session.uid, None)


def look(capsule: CapsuleSession, job_pid: int, saving: SaveOptions, settings: Settings) -> Look:
    """Look at a job, and say what keeps it from being saved in the way that it wants.

    Args:
        capsule: its launcher.
        job_pid: PID of the job's root inside.
        saving: how it wants to be saved.
        settings: what this node can save.

    Raises:
        CapsuleError: the job has ended.
    """
    by_criu = refusals(capsule.launcher_pid, job_pid, settings) if saving.mode is not Mode.APPLICATION else ()
    if saving.mode is Mode.PROCESS or not (by_criu or saving.mode is Mode.APPLICATION):
        return Look(reasons=by_criu)
    if saving.mode is Mode.AUTO and not saving.application_directories:
        return Look(reasons=by_criu)
    where = Workload(cluster="here", namespace="here", name="here")
    there = Capsule(launcher_pid=capsule.launcher_pid, socket=capsule.socket, launcher=capsule.process)
    with Inhabitants(capsule.launcher_pid, capsule.process) as inhabitants:
        member = Member(capsule=there, workload=where, saving=saving)
        by_itself = obstacle(Hearer(member=member, inhabitants=inhabitants, root_pid=job_pid))
    if by_itself:
        return Look(reasons=(*by_criu, f"it cannot save itself: {by_itself}"))
    if by_criu:
        return Look(instead=f"would save itself (mode application), for CRIU cannot: {'; '.join(by_criu)}")
    return Look()


def refusals(launcher_pid: int, job_pid: int, settings: Settings) -> tuple[str, ...]:
    """Return why a job could not be saved as it is now, a sentence each; empty when it may.

    Args:
        launcher_pid: PID of the launcher.
        job_pid: PID of the job's root inside the capsule.
        settings: of this node.

    Raises:
        CapsuleError: the job has ended.
    """
    inside = {inner: outer for outer, inner in entering.members(launcher_pid).items()}
    if job_pid not in inside:
        raise CapsuleError("the job has just ended")
    tree = find_tree(launcher_pid, inside[job_pid])
    everybody = set(inside.values())
    limit = settings.criu.ghost_limit_bytes
    seen = refusing.look(tree, launcher_pid, everybody, ghost_limit_bytes=limit)
    of_gpus = gpus.refusals(seen.survey.views, folder_of(launcher_pid), settings, Deadline.after(_LOOK_S))
    return (*seen.refusals, *of_gpus)


def cautions(launcher_pid: int) -> tuple[str, ...]:
    """Return what of a job would fail after a move although it can be saved, a sentence each.

    Args:
        launcher_pid: PID of the launcher.

    Raises:
        CapsuleError: the capsule has ended.
    """
    return databases.cautions(tuple(entering.members(launcher_pid)))


def _is_left_alone(session: PodSession) -> bool:
    """Say whether nobody works on a pod: a job that is just being dumped is traced by CRIU, for one."""
    return session.activity is Activity.RUNNING and not session.lock.locked()


def _lives(session: PodSession, capsule: CapsuleSession) -> bool:
    return session.capsules.get(capsule.container) is capsule
