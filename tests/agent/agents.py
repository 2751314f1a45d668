"""The part of an agent that begins jobs, in the test's own process: everything real but the node's future."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crikpy import names
from crikpy.agent.checking import Checker
from crikpy.agent.finishing import Finisher
from crikpy.agent.nodepods import NodePods
from crikpy.agent.reporting import Teller
from crikpy.agent.sessions import Activity, CapsuleSession, NodeSessions, PodSession
from crikpy.agent.starting import Starter
from crikpy.aio.clock import Deadline
from crikpy.aio.tasks import stop
from crikpy.flows.reporting import Silent
from crikpy.flows.saving import CheckpointOrder
from crikpy.flows.saving import save as flows_save
from crikpy.kube.api import KubeApi
from crikpy.kube.events import EventRecorder
from crikpy.kube.resources import EVENTS, PODS
from crikpy.metrics import Metrics
from crikpy.model.capsule import JobPhase
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from tests.agent.node import NAMESPACE, NodePod
from tests.fakes.kube import FakeKube
from tests.integration.capsules import JobCapsule

PATIENCE_S = 30.0


@dataclass
class Outlook:
    """The node's future, as the test sets it."""

    notice: InterruptionNotice | None = None

    def final_notice(self) -> InterruptionNotice | None:
        """Return the notice in force."""
        return self.notice


@dataclass
class Diary:
    """What an agent's hooks were told, in order."""

    terms: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    ended: list[tuple[str, int | None]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


class StartingAgent:
    """Finds launchers and begins their jobs.

    Attributes:
        sessions: its records.
        pods: what it knows of its pods.
        outlook: its node's future.
        diary: what happened.
    """

    def __init__(
        self, api: KubeApi, store: ObjectStore, settings: Settings, *, remind_every_s: float = 3600.0
    ) -> None:
        metrics = Metrics()
        self.metrics = metrics
        self.settings = settings
        self.outlook = Outlook()
        self.diary = Diary()
        self.events = EventRecorder(api, component="crikpy-agent", host=settings.agent.node)
        self.teller = Teller(api, self.events, metrics, node=settings.agent.node)
        self.pods = NodePods(api, settings.agent, metrics)
        self.sessions = NodeSessions(settings, self.pods, metrics)
        self.starter = Starter(api, self.pods, store, self.outlook, self.teller, metrics, settings)
        self.checker = Checker(store, self.teller, settings, every_s=0.2, remind_every_s=remind_every_s)
        self.finisher = Finisher(api, self.pods, store, self.outlook, settings)
        self.sessions.on_ready = self.starter.start
        self.sessions.on_running = self._on_running
        self.sessions.on_term = self._on_term
        self.sessions.on_ended = self._on_ended
        self.sessions.on_gone = self._on_gone

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[StartingAgent]:
        """Work until the context ends."""
        tasks = [
            asyncio.create_task(act)
            for act in (self.events.run(), self.teller.run(), self.pods.run(), self.sessions.run())
        ]
        try:
            yield self
        finally:
            for task in reversed(tasks):
                await stop(task)
            self.starter.close()

    def session(self, pod: NodePod) -> PodSession:
        """Return what it knows of a pod."""
        return self.sessions.pods[pod.uid]

    async def sees(self, pod: NodePod, *containers: str) -> PodSession:
        """Wait until it attends to launchers of a pod."""
        wanted = set(containers or pod.containers)

        def seen() -> bool:
            session = self.sessions.pods.get(pod.uid)
            return session is not None and session.capsules.keys() >= wanted

        await FakeKube.until(seen)
        return self.session(pod)

    async def runs(self, pod: NodePod, *containers: str) -> PodSession:
        """Wait until jobs of a pod run, by what it knows."""
        session = await self.sees(pod, *containers)
        wanted = set(containers or pod.containers)

        def running() -> bool:
            capsules = [session.capsules.get(name) for name in wanted]
            return all(one is not None and one.phase is JobPhase.RUNNING for one in capsules)

        await FakeKube.until(running)
        await FakeKube.until(lambda: session.activity is Activity.RUNNING)
        return session

    async def _on_running(self, session: PodSession, capsule: CapsuleSession) -> None:
        self.diary.running.append(f"{session.uid}/{capsule.container}")
        await self.checker.watch(session, capsule)

    async def _on_term(self, session: PodSession, capsule: CapsuleSession) -> None:
        self.diary.terms.append(f"{session.uid}/{capsule.container}")
        await capsule.pass_term()

    async def _on_ended(self, session: PodSession, capsule: CapsuleSession) -> None:
        self.diary.ended.append((capsule.container, capsule.ended_status))
        await self.finisher.finish(session, capsule)

    async def _on_gone(self, session: PodSession) -> None:
        self.diary.gone.append(session.uid)


async def save(agent: StartingAgent, pod: NodePod, store: ObjectStore, *, leave_running: bool = False) -> str:
    """Save a pod as the rest of an agent does, end its jobs or let them run on; return the checkpoint's id."""
    session = agent.session(pod)
    order = CheckpointOrder(
        trigger=Trigger.MANUAL,
        pod=f"{NAMESPACE}/{pod.name}",
        pod_uid=pod.uid,
        deadline=within(),
        leave_running=leave_running,
    )
    async with session.lock:
        session.activity = Activity.SAVING
        members = session.members(agent.settings)
        with await asyncio.to_thread(flows_save, members, store, order, agent.settings, Silent()) as saved:
            if not leave_running:
                session.moved, session.activity = True, Activity.HELD
                await asyncio.to_thread(saved.end)
            else:
                session.activity = Activity.RUNNING
            return saved.checkpoint


async def move_away(agent: StartingAgent, pod: NodePod, kube: FakeKube, store: ObjectStore) -> str:
    """Run a pod, let it prove something, save it, and have it end and vanish; return the checkpoint's id."""
    jobs = [await pod.run(container) for container in pod.containers]
    await agent.runs(pod)
    for job in jobs:
        await prove_afresh(job)
    checkpoint = await save(agent, pod, store)
    assert [await ends(job) for job in jobs] == [names.EXIT_CHECKPOINTED] * len(jobs)
    kube.remove(PODS, pod.name, namespace=NAMESPACE)
    return checkpoint


def evicted() -> dict[str, object]:
    """Return how a pod's object changes when it is evicted."""
    condition = {"type": names.DISRUPTION_TARGET, "status": "True", "reason": "EvictionByEvictionAPI"}
    return {
        "metadata": {"deletionTimestamp": datetime.now(UTC).isoformat(), "deletionGracePeriodSeconds": 120},
        "status": {"conditions": [condition]},
    }


def records(folder: Path, name: str) -> list[Path]:
    """Return the records of a name of all checkpoints in a test's store."""
    return sorted(folder.glob(f"store/*/*/*/checkpoints/*/{name}"))


async def prove(job: JobCapsule) -> str:
    """Have a job prove its state; return the line that says so."""
    return await asyncio.to_thread(job.prove)


async def prove_afresh(job: JobCapsule) -> None:
    """Have a job prove that it has begun from its beginning."""
    await expect(job, "ready")  # it is not to be asked earlier
    assert await prove(job) == "proved 1"


async def expect(job: JobCapsule, start: str) -> str:
    """Wait for a line of a job's output."""
    return await asyncio.to_thread(job.expect, start)


async def ends(job: JobCapsule) -> int:
    """Wait for the end of a container; return its exit status."""
    return await asyncio.to_thread(job.wait)


def events_of(kube: FakeKube, pod: NodePod) -> dict[str, str]:
    """Return the events of a pod: the messages, one by each reason."""
    return {event["reason"]: event["message"] for event in _events(kube, pod)}


def messages_of(kube: FakeKube, pod: NodePod) -> list[str]:
    """Return the messages of all events of a pod."""
    return [event["message"] for event in _events(kube, pod)]


def _events(kube: FakeKube, pod: NodePod) -> list[dict[str, Any]]:
    return [event for event in kube.all(EVENTS) if event["involvedObject"]["uid"] == pod.uid]


async def hears(kube: FakeKube, pod: NodePod, reason: str) -> str:
    """Wait for an event of a pod and return its message."""
    await FakeKube.until(lambda: reason in events_of(kube, pod))
    return events_of(kube, pod)[reason]


def within() -> Deadline:
    """Return how long a test waits at most for one act of the engine."""
    return Deadline.after(PATIENCE_S)
