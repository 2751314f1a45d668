"""Who runs a job that could not be saved hears of it at once, and when that has passed."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from crikpy.agent.checking import MOVE_MAY_BREAK, refusals
from crikpy.aio.clock import Deadline
from crikpy.errors import CapsuleError, StoreUnavailableError
from crikpy.kube.client import KubeClient
from crikpy.kube.resources import EVENTS
from crikpy.kube.verdicts import CAN_BE_SAVED, CANNOT_BE_SAVED
from crikpy.model.workload import Workload
from crikpy.store.base import ForwardingStore, ObjectStore
from tests.agent.agents import StartingAgent, events_of, expect, hears, prove
from tests.agent.node import FakeNode
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu

PACKETS = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
ends = os.pipe2(os.O_DIRECT)
print("ready", flush=True)
signal.sigwait({signal.SIGUSR1})
for end in ends:
    os.close(end)
print("closed", flush=True)
signal.sigwait({signal.SIGUSR1})
"""
STRAY = """
import ctypes, os, signal, time
ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)  # keep no orphans, as jobs of older launchers
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(3600)
    os._exit(0)
os.wait()
print("ready", flush=True)
signal.pause()
"""
DATABASE = """
import signal, sqlite3
study = sqlite3.connect("/tmp/study.db")
study.execute("CREATE TABLE trials (number INTEGER)")
print("ready", flush=True)
signal.pause()
"""


class ReadyStore(ForwardingStore):
    """A store that tells for whom it was made ready, and cannot be at first."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.asked: list[str] = []

    def make_ready(self, workload: Workload, deadline: Deadline) -> None:
        self.asked.append(str(workload))
        if len(self.asked) < 2:
            raise StoreUnavailableError("KMS throttles")
        super().make_ready(workload, deadline)


def _program(text: str) -> tuple[str, str, str]:
    return (sys.executable, "-c", text)


async def test_a_job_that_cannot_be_saved_is_named_once_and_once_more_when_it_can(
    node: FakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    pod = node.pod(containers={"main": _program(PACKETS), "side": ("memory", 1, 1)})
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        job = await pod.run("main")
        side = await pod.run("side")
        await agent.runs(pod)
        message = await hears(kube, pod, CANNOT_BE_SAVED)
        assert "main runs on unsaved" in message
        assert "packet mode" in message
        await expect(side, "ready")
        await FakeKube.until(lambda: "closed" not in job.stdout.text())
        await asyncio.sleep(1.0)  # several looks
        assert CAN_BE_SAVED not in events_of(kube, pod)
        job.signal(signal.SIGUSR1)
        await expect(job, "closed")
        await hears(kube, pod, CAN_BE_SAVED)
        assert await prove(side) == "proved 1", "it ran on untouched"
        told = [event for event in kube.all(EVENTS) if event["reason"] in (CANNOT_BE_SAVED, CAN_BE_SAVED)]
        assert [event.get("count", 1) for event in told] == [1, 1]


async def test_what_still_keeps_a_job_from_being_saved_is_told_again_before_it_is_forgotten(
    node: FakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    pod = node.pod(job=_program(PACKETS))
    async with StartingAgent(api, store, node.settings, remind_every_s=0.5).at_work() as agent:
        await pod.run()
        await agent.runs(pod)
        await hears(kube, pod, CANNOT_BE_SAVED)

        def again() -> bool:
            return any(e["reason"] == CANNOT_BE_SAVED and e.get("count", 1) > 1 for e in kube.all(EVENTS))

        await FakeKube.until(again)


async def test_processes_that_left_the_jobs_tree_are_found(
    node: FakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    pod = node.pod(job=_program(STRAY))
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        await pod.run()
        await agent.runs(pod)
        assert "left its tree" in await hears(kube, pod, CANNOT_BE_SAVED)


async def test_what_a_move_would_break_is_told_once_and_keeps_nobody_from_it(
    node: FakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    pod = node.pod(job=_program(DATABASE))
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        job = await pod.run()
        await agent.runs(pod)
        await expect(job, "ready")
        message = await hears(kube, pod, MOVE_MAY_BREAK)
        assert "main can be saved, but" in message
        assert "/tmp/study.db" in message
        await asyncio.sleep(1.0)  # several looks
        told = [event for event in kube.all(EVENTS) if event["reason"] == MOVE_MAY_BREAK]
        assert [event.get("count", 1) for event in told] == [1]
        assert CANNOT_BE_SAVED not in events_of(kube, pod)


async def test_a_job_that_can_be_saved_hears_nothing(
    node: FakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    pod = node.pod(job=("family", 3))
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        job = await pod.run()
        session = await agent.runs(pod)
        await expect(job, "ready")
        capsule = session.capsules["main"]
        status = await capsule.refresh()
        assert refusals(capsule.launcher_pid, status.job_pid, node.settings) == ()
        with pytest.raises(CapsuleError, match="just ended"):
            refusals(capsule.launcher_pid, 4242, node.settings)
        assert not {CANNOT_BE_SAVED, CAN_BE_SAVED, MOVE_MAY_BREAK} & events_of(kube, pod).keys()


async def test_the_store_is_made_ready_for_a_job_while_there_is_time_and_again_if_it_could_not_be(
    node: FakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    ready = ReadyStore(store)
    pod = node.pod(containers={"main": _program(STRAY)})
    async with StartingAgent(api, ready, node.settings).at_work() as agent:
        await pod.run("main")
        await agent.runs(pod)
        await FakeKube.until(lambda: len(ready.asked) > 2)
        assert len(set(ready.asked)) == 1
        assert ready.asked[0].endswith(".main")
        assert "left its tree" in await hears(kube, pod, CANNOT_BE_SAVED)
