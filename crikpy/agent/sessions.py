"""What the agent knows of the capsules of its node while they live: one record for each pod and each launcher.

Whoever starts, saves or ends the jobs of a pod holds PodSession.lock all the while, so that these acts never meet.
What happens in one pod, however odd, stays in it: everything done for a pod runs in tasks of its own, whose
failures are logged and go no further.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from enum import StrEnum
from functools import partial
from typing import ParamSpec

from crikpy import log, names
from crikpy.agent.finding import Finder
from crikpy.agent.launchers import CapsuleSession, News, PinnedLauncher
from crikpy.agent.places import LauncherPlace
from crikpy.agent.suspending import Suspensions
from crikpy.agent.threads import made_in_thread
from crikpy.agent.volumes import divide_volumes
from crikpy.aio.clock import Deadline
from crikpy.aio.tasks import stop
from crikpy.aio.threads import Pool
from crikpy.errors import CapsuleError, CrikpyError, DeadlineError, LauncherError, NoLauncherError
from crikpy.flows.members import Member
from crikpy.flows.saving import Saved
from crikpy.kube.identity import container_workload
from crikpy.metrics import Metrics
from crikpy.model.capsule import Capsule, JobPhase
from crikpy.model.pods import Pod, PodOptions
from crikpy.model.saving import SaveOptions
from crikpy.model.workload import Workload
from crikpy.settings import Settings

__all__ = ["Activity", "CapsuleSession", "NodeSessions", "PodSession"]

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")

_CONNECT_S = 2.0
_LISTENS_WITHIN_S = 2.0
"""A launcher's socket appears a moment before the launcher listens at it."""

_LISTENS_EVERY_S = 0.05
_LOOK_EVERY_S = 2.0
_THREADS = 16
_MOST_CALLS = 4
"""Attempts to reach launchers of one pod at a time: whoever does not answer holds up its own pod only."""


class Activity(StrEnum):
    """What is being done with the jobs of a pod.

    WAITING: none has begun. A SIGTERM may be passed on at once: it ends the launcher, and nothing is lost.
    STARTING: they are being started or resumed. A SIGTERM has to be held until the lock is free, or a restore that
    has claimed its checkpoint dies of it; after that it concerns the job that runs.
    RUNNING and SAVING speak for themselves. HELD: saved, stopped until a SIGTERM comes or the node is spared.
    ENDED: all have ended.
    """

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    SAVING = "saving"
    HELD = "held"
    ENDED = "ended"


class PodSession:
    """One pod of this node with at least one launcher.

    Attributes:
        uid: the pod's UID.
        capsules: its launchers that live, by container.
        lock: held by whoever starts, saves or ends its jobs.
        activity: what is being done with them; set by whoever holds the lock, and ENDED when the last has ended.
        saved: the jobs that stand still while activity is HELD.
        begun: jobs of it were started or resumed; a launcher that waits later is that of a container made anew.
        moved: its jobs ended because they had been saved, or were to save themselves.
    """

    def __init__(self, uid: str, pods: Mapping[str, Pod]) -> None:
        self.uid = uid
        self.capsules: dict[str, CapsuleSession] = {}
        self.lock = asyncio.Lock()
        self.activity = Activity.WAITING
        self.saved: Saved | None = None
        self.begun = False
        self.moved = False
        self._pods = pods

    def __str__(self) -> str:
        return str(self.pod or self.uid)

    @property
    def pod(self) -> Pod | None:
        """What is known of the pod by now; None until the API server or our own memory has told."""
        return self._pods.get(self.uid)

    def facts(self) -> dict[str, object]:
        """Return what records about it say."""
        return self.pod.facts if self.pod else {"pod_uid": self.uid}

    @property
    def saving(self) -> SaveOptions:
        """How its jobs want to be saved."""
        return (self.pod.options if self.pod and self.pod.options else PodOptions()).saving

    def workloads(self, settings: Settings) -> tuple[Workload, ...]:
        """Return the workload of each container below our launcher, in the order of the containers' names.

        Raises:
            CapsuleError: the pod is not known yet.
            UsageError: the cluster's name cannot be part of a key of the store.
        """
        pod = self._known()
        return tuple(container_workload(settings.kube.cluster, pod, name) for name in sorted(pod.injected))

    def members(self, settings: Settings) -> tuple[Member, ...]:
        """Return the containers below our launcher as the flows take them, in the order of their names.

        A file system that several containers share travels with one of them.

        Raises:
            CapsuleError: the pod is not known yet, one of its launchers is missing, or its mounts cannot be read.
            UsageError: the cluster's name cannot be part of a key of the store.
        """
        pod = self._known()
        if missing := sorted(set(pod.injected) - self.capsules.keys()):
            raise CapsuleError(f"no launcher answers in {', '.join(missing)} of pod {pod}")
        chosen = [self.capsules[name] for name in sorted(pod.injected)]
        volumes = divide_volumes(
            settings.agent.kubelet_dir,
            self.uid,
            {capsule.container: capsule.launcher_pid for capsule in chosen},
            excluded=pod.options.excluded_volumes if pod.options else (),
        )
        described = {container.name: container for container in pod.containers}
        return tuple(
            Member(
                capsule=Capsule(
                    launcher_pid=capsule.launcher_pid,
                    socket=capsule.socket,
                    carried=volumes[capsule.container].carried,
                    excluded=(names.LAUNCHER_DIR, *volumes[capsule.container].excluded),
                    launcher=capsule.process,
                ),
                workload=workload,
                command=described[capsule.container].command if capsule.container in described else (),
                image=described[capsule.container].image_digest if capsule.container in described else "",
                saving=self.saving,
            )
            for capsule, workload in zip(chosen, self.workloads(settings), strict=True)
        )

    def _known(self) -> Pod:
        if (pod := self.pod) is None:
            raise CapsuleError(f"nothing is known yet of the pod {self.uid}")
        return pod


OnCapsule = Callable[[PodSession, CapsuleSession], Awaitable[None]]


async def _nothing(*_: object) -> None:
    """Do nothing: what a hook does that nobody has set."""


class NodeSessions:
    """All pods of this node with launchers. The hooks are set before `run`; each call has a task of its own.

    Attributes:
        pods: the sessions by pod UID; a live view, to be copied before awaiting while iterating.
        on_ready: a launcher waits and its job has not begun.
        on_running: a job runs: it was started or resumed by on_ready, or found so.
        on_term: a launcher has got a SIGTERM and waits two seconds for an answer.
        on_ended: a job has ended; its `ended_status` is None when it was killed together with its launcher. The
            capsule is no longer among the pod's.
        on_gone: kubelet has removed the pod's directory.
    """

    def __init__(self, settings: Settings, known: Mapping[str, Pod], metrics: Metrics) -> None:
        self.pods: dict[str, PodSession] = {}
        self.on_ready: OnCapsule = _nothing
        self.on_running: OnCapsule = _nothing
        self.on_term: OnCapsule = _nothing
        self.on_ended: OnCapsule = _nothing
        self.on_gone: Callable[[PodSession], Awaitable[None]] = _nothing
        self._kubelet_dir = settings.agent.kubelet_dir
        self._finder = Finder(settings.agent)
        self._known = known
        self._metrics = metrics
        self._attended: dict[LauncherPlace, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._connecting: Counter[str] = Counter()
        """Pod → attempts under way to reach a launcher of it."""
        self._unsettled: set[CapsuleSession] = set()
        self._suspended = Suspensions()
        self._stopping = False

    async def run(self) -> None:
        """Attend to every launcher of the node for ever; cancelled, it first ends what it has begun for them."""
        self._stopping = False
        # Whoever makes us wait when we call must not keep those waiting with whom we talk already.
        with (
            Pool(_THREADS, thread_name_prefix="calls") as calling,
            Pool(_THREADS, thread_name_prefix="talks") as talking,
        ):
            try:
                async for found in self._finder.watch():
                    for place in sorted(found.launchers - self._attended.keys()):
                        if not self._suspended.covers(place) and self._connecting[place.pod_uid] < _MOST_CALLS:
                            self._attend_to(place, calling, talking)
                    self._forget(found.pods)
            finally:
                self._stopping = True
                # Those first that may use what the others close.
                await asyncio.gather(*map(stop, list(self._tasks)))
                await asyncio.gather(*map(stop, list(self._attended.values())))
                # Those whose end came so late that nothing has been done about it.
                await asyncio.gather(*(capsule.close() for capsule in self._unsettled))

    def _attend_to(self, place: LauncherPlace, calling: Executor, talking: Executor) -> None:
        self._connecting[place.pod_uid] += 1
        task = asyncio.create_task(self._attend(place, calling, talking), name=f"launcher {place}")
        self._attended[place] = task
        task.add_done_callback(lambda _: self._attended.pop(place, None))

    async def _attend(self, place: LauncherPlace, calling: Executor, talking: Executor) -> None:
        """Attend to the launchers of one container, one after the other, until none listens there."""
        with log.about(lambda: self._facts(place)):
            await self._attend_there(place, calling, talking)

    async def _attend_there(self, place: LauncherPlace, calling: Executor, talking: Executor) -> None:
        try:
            while (launcher := await self._call(place, calling)) is not None:
                await self._accompany(CapsuleSession(launcher, talking))
                self._suspended.lift(place)
                self._connecting[place.pod_uid] += 1
        except (LauncherError, DeadlineError) as fault:
            self._suspended.suspend(place)
            _log.warning("what listens as a launcher is left alone for a while: %s", fault)
        except CrikpyError as fault:
            _log.warning("a launcher cannot be attended to: %s", fault)
        except Exception:  # noqa: BLE001  the other launchers must not suffer for it
            self._suspended.suspend(place)
            _log.exception("a defect of crikpy keeps it from a launcher")

    def _facts(self, place: LauncherPlace) -> dict[str, object]:
        pod = self._known.get(place.pod_uid)
        return {**(pod.facts if pod else {}), "pod_uid": place.pod_uid, "container": place.container}

    async def _call(self, place: LauncherPlace, executor: Executor) -> PinnedLauncher | None:
        """Connect, one of the pod's attempts less afterwards; whoever calls has counted it."""
        try:
            return await self._connect(place, executor)
        finally:
            self._connecting[place.pod_uid] -= 1

    async def _connect(self, place: LauncherPlace, executor: Executor) -> PinnedLauncher | None:
        """Return the launcher, or None when none listens; the next look at all of them tries again."""
        patience = Deadline.after(_LISTENS_WITHIN_S)
        while True:
            try:
                return await made_in_thread(executor, partial(self._pin, place), PinnedLauncher.close)
            except NoLauncherError:
                if patience.expired():
                    return None
            await asyncio.sleep(_LISTENS_EVERY_S)

    def _pin(self, place: LauncherPlace) -> PinnedLauncher:
        """Connect; the time counts from here, and not from when a thread was asked for."""
        return PinnedLauncher(self._kubelet_dir, place, Deadline.after(_CONNECT_S))

    async def _accompany(self, capsule: CapsuleSession) -> None:
        """Pass on what one launcher tells, from its appearance to its end."""
        pod = self._admit(capsule)
        welcome = self._spawn(pod, self._welcome, pod, capsule)
        try:
            async for news in capsule.listen():
                if news is News.TERM:
                    self._spawn(pod, self._tell_term, pod, capsule)
                self._measure()
        finally:
            if pod.capsules.get(capsule.container) is capsule:
                del pod.capsules[capsule.container]
            self._measure()
            welcome.cancel()
            if self._stopping:
                await capsule.close()
            else:
                self._unsettled.add(capsule)
                self._spawn(pod, self._settle, pod, capsule)

    def _admit(self, capsule: CapsuleSession) -> PodSession:
        pod = self.pods.setdefault(capsule.pod_uid, PodSession(capsule.pod_uid, self._known))
        pod.capsules[capsule.container] = capsule
        if pod.activity is Activity.ENDED:
            pod.activity = Activity.WAITING
        self._note(pod, capsule)
        return pod

    async def _welcome(self, pod: PodSession, capsule: CapsuleSession) -> None:
        """Have a job begun, and say when it runs: launchers start theirs by themselves if nobody does."""
        while _waits(capsule):
            await _guarded(pod, self.on_ready, pod, capsule)
            if not _waits(capsule):
                break
            await asyncio.sleep(_LOOK_EVERY_S)
            with contextlib.suppress(LauncherError, DeadlineError):
                await capsule.refresh()
        self._note(pod, capsule)
        if capsule.phase is JobPhase.RUNNING:
            await self.on_running(pod, capsule)

    async def _tell_term(self, pod: PodSession, capsule: CapsuleSession) -> None:
        try:
            await capsule.refresh()
        except LauncherError:
            return  # that was its end
        self._note(pod, capsule)
        await self.on_term(pod, capsule)

    def _note(self, pod: PodSession, capsule: CapsuleSession) -> None:
        """Take over what a launcher has said of its job into what is known of the pod."""
        if capsule.phase is JobPhase.RUNNING:
            pod.begun = True
            if pod.activity is Activity.WAITING:
                pod.activity = Activity.RUNNING
        self._measure()

    async def _settle(self, pod: PodSession, capsule: CapsuleSession) -> None:
        """Close what is left of a capsule once nobody uses it, and say that its job has ended."""
        async with pod.lock:
            await capsule.close()
            self._unsettled.discard(capsule)
            if not pod.capsules:
                pod.activity = Activity.ENDED
        await self.on_ended(pod, capsule)

    def _forget(self, present: frozenset[str]) -> None:
        """Forget the pods that kubelet has forgotten."""
        for uid in [uid for uid, pod in self.pods.items() if uid not in present and not pod.capsules]:
            pod = self.pods.pop(uid)
            self._spawn(pod, self.on_gone, pod)
        self._suspended.forget(present)
        self._connecting = +self._connecting  # without those of zero

    def _spawn(
        self, pod: PodSession, act: Callable[_P, Awaitable[None]], *args: _P.args, **kwargs: _P.kwargs
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(_guarded(pod, act, *args, **kwargs), name=f"pod {pod.uid}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _measure(self) -> None:
        phases = Counter(capsule.phase for pod in self.pods.values() for capsule in pod.capsules.values())
        for phase in JobPhase:
            self._metrics.capsules.labels(phase=phase.value).set(phases[phase])


def _waits(capsule: CapsuleSession) -> bool:
    return capsule.phase is JobPhase.WAITING


async def _guarded(
    pod: PodSession, act: Callable[_P, Awaitable[None]], *args: _P.args, **kwargs: _P.kwargs
) -> None:
    """Do something for one pod; its failure is no other pod's."""
    with log.about(pod.facts):
        try:
            await act(*args, **kwargs)
        except CrikpyError as fault:
            _log.warning("something failed for a pod: %s", fault)
        except Exception:  # noqa: BLE001  the other pods must not suffer for it
            _log.exception("a defect of crikpy")
