"""What is left of a finished job is retired, and what a killed one leaves behind is kept for its successor."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crikpy import names
from crikpy.kube.client import KubeClient
from crikpy.kube.resources import NODES, PODS
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.store.base import ObjectStore
from tests.agent.agents import StartingAgent, ends, expect, save
from tests.agent.node import NAMESPACE, FakeNode, NodePod
from tests.fakes.kube import FakeKube
from tests.integration.capsules import JobCapsule

pytestmark = pytest.mark.criu


async def _saved(agent: StartingAgent, pod: NodePod, store: ObjectStore) -> JobCapsule:
    """Return a running job with a complete checkpoint."""
    job = await pod.run()
    await agent.runs(pod)
    await expect(job, "ready")
    await save(agent, pod, store, leave_running=True)
    return job


def _claims(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.glob("store/*/*/*/checkpoints/*/claim.json")]


def _retired(folder: Path) -> bool:
    return bool(_claims(folder)) and all('"finished"' in claim for claim in _claims(folder))


async def _is_heard_to_end(agent: StartingAgent, job: JobCapsule) -> None:
    await ends(job)
    await FakeKube.until(lambda: agent.diary.ended)
    await asyncio.sleep(0.5)  # what is not to be done needs some time to be done all the same


async def test_the_checkpoints_of_a_job_that_finishes_are_retired(
    node: FakeNode, api: KubeClient, store: ObjectStore, folder: Path
) -> None:
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        job = await _saved(agent, node.pod(), store)
        job.signal(signal.SIGUSR2)
        await FakeKube.until(lambda: _retired(folder))


async def test_a_job_that_fails_is_finished_too(
    node: FakeNode, api: KubeClient, store: ObjectStore, folder: Path
) -> None:
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        job = await _saved(agent, node.pod(), store)
        for pid in job.members():
            os.kill(pid, signal.SIGKILL)
        await FakeKube.until(lambda: _retired(folder))
        assert agent.diary.ended == [("main", 128 + signal.SIGKILL)]


async def test_what_was_killed_together_with_its_launcher_is_kept(
    node: FakeNode, api: KubeClient, store: ObjectStore, folder: Path
) -> None:
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        job = await _saved(agent, node.pod(), store)
        os.kill(job.launcher_pid, signal.SIGKILL)
        await _is_heard_to_end(agent, job)
        assert not _claims(folder)


async def test_what_ended_because_it_was_saved_is_kept(
    node: FakeNode, api: KubeClient, store: ObjectStore, folder: Path
) -> None:
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        pod = node.pod()
        job = await _saved(agent, pod, store)
        await save(agent, pod, store)
        await _is_heard_to_end(agent, job)
        assert not _claims(folder)


@pytest.mark.parametrize("sign", ["eviction", "notice", "karpenter.sh/disrupted", names.TAINT])
async def test_what_ends_of_a_sigterm_because_its_node_goes_is_kept(
    node: FakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore, folder: Path, sign: str
) -> None:
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        pod = node.pod()
        job = await _saved(agent, pod, store)
        if sign == "eviction":
            condition = {"type": names.DISRUPTION_TARGET, "status": "True", "reason": "EvictionByEvictionAPI"}
            kube.update(PODS, pod.name, {"status": {"conditions": [condition]}}, namespace=NAMESPACE)
        elif sign == "notice":
            agent.outlook.notice = _notice()
        else:
            taint = {"key": sign, "value": "SpotInterruption", "effect": "NoSchedule"}
            kube.put(NODES, {"metadata": {"name": node.name}, "spec": {"taints": [taint]}})
        job.signal(signal.SIGTERM)
        await _is_heard_to_end(agent, job)
        assert agent.diary.ended == [("main", 128 + signal.SIGTERM)]
        assert not _claims(folder)


async def test_a_job_that_is_done_in_its_nodes_last_minute_is_done(
    node: FakeNode, api: KubeClient, store: ObjectStore, folder: Path
) -> None:
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        job = await _saved(agent, node.pod(), store)
        agent.outlook.notice = _notice()
        job.signal(signal.SIGUSR2)
        await FakeKube.until(lambda: _retired(folder))


async def test_a_deleted_pods_checkpoints_are_retired_with_it(
    node: FakeNode, api: KubeClient, store: ObjectStore, folder: Path
) -> None:
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        job = await _saved(agent, node.pod(), store)
        job.signal(signal.SIGTERM)
        await FakeKube.until(lambda: _retired(folder))


async def test_a_store_that_is_away_is_told_later(
    node: FakeNode, api: KubeClient, store: ObjectStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        job = await _saved(agent, node.pod(), store)
        (folder / "store").rename(folder / "away")
        (folder / "store").write_text("no directory")
        job.signal(signal.SIGUSR2)
        await FakeKube.until(lambda: "are not retired yet" in caplog.text)
        (folder / "store").unlink()
        (folder / "away").rename(folder / "store")
        await FakeKube.until(lambda: _retired(folder))


def _notice() -> InterruptionNotice:
    now = datetime.now(UTC)
    return InterruptionNotice(
        id="n1",
        trigger=Trigger.SPOT_INTERRUPTION,
        source="test",
        instance="",
        deadline=now + timedelta(seconds=120),
        action="terminate",
        seen=now,
    )
