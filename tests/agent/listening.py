"""Somebody who hears what the sessions of a node tell, and does nothing unless a test says so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from crikpy.agent.sessions import CapsuleSession, NodeSessions, PodSession
from crikpy.aio.tasks import stop
from crikpy.metrics import Metrics
from crikpy.model.pods import Pod
from tests.agent.agents import expect
from tests.agent.node import FakeNode, NodePod
from tests.fakes.kube import FakeKube
from tests.integration.capsules import JobCapsule


class Listener:
    """Hears what the sessions of a node tell.

    Attributes:
        told: `ready`, `running`, `term`, `ended STATUS` and `gone`, each with the pod's UID and the container.
        acts: what is done besides, by these words.
    """

    def __init__(self, node: FakeNode, known: dict[str, Pod] | None = None) -> None:
        self.told: list[str] = []
        self.acts: dict[str, Callable[[PodSession, CapsuleSession], Awaitable[None]]] = {}
        self.metrics = Metrics()
        self.sessions = NodeSessions(node.settings, known or {}, self.metrics)
        self.sessions.on_ready = self._hook("ready")
        self.sessions.on_running = self._hook("running")
        self.sessions.on_term = self._hook("term")
        self.sessions.on_ended = self._hook("ended")
        self.sessions.on_gone = self._on_gone

    def _hook(self, word: str) -> Callable[[PodSession, CapsuleSession], Awaitable[None]]:
        async def hear(pod: PodSession, capsule: CapsuleSession) -> None:
            status = f" {capsule.ended_status}" if word == "ended" else ""
            self.told.append(f"{word}{status} {pod.uid}/{capsule.container}")
            if word in self.acts:
                await self.acts[word](pod, capsule)

        return hear

    async def _on_gone(self, pod: PodSession) -> None:
        self.told.append(f"gone {pod.uid}")

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Listener]:
        task = asyncio.create_task(self.sessions.run())
        try:
            yield self
        finally:
            await stop(task)

    async def hears(self, word: str, pod: NodePod, container: str = "main", times: int = 1) -> None:
        wanted = f"{word} {pod.uid}/{container}"
        await FakeKube.until(lambda: self.told.count(wanted) >= times)

    def capsule(self, pod: NodePod, container: str = "main") -> CapsuleSession:
        return self.sessions.pods[pod.uid].capsules[container]


async def start(job: JobCapsule) -> None:
    """Have a job begin as somebody else would, and wait until it is ready."""
    await asyncio.to_thread(job.start)
    await expect(job, "ready")
