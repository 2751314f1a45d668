"""From a waiting launcher to a job that runs from its beginning, whatever else is out of reach."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crikpy import names
from crikpy.kube.client import KubeClient
from crikpy.model.capsule import JobPhase
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.store.base import ObjectStore
from tests.agent.agents import (
    StartingAgent,
    ends,
    events_of,
    expect,
    hears,
    messages_of,
    prove,
    prove_afresh,
    records,
    save,
)
from tests.agent.node import FakeNode
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu


async def test_a_new_job_starts_with_pids_that_it_can_have_elsewhere(
    node: FakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    pod = node.pod()
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        job = await pod.run()
        session = await agent.runs(pod)
        await expect(job, "ready")
        assert min(job.members().values()) > names.PID_FLOOR
        assert "no checkpoint" in await hears(kube, pod, "ColdStart")
        assert session.begun


async def test_a_container_that_begins_anew_starts_afresh(
    node: FakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore, folder: Path
) -> None:
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        pod = node.pod()
        job = await pod.run()
        await agent.runs(pod)
        await expect(job, "ready")
        await save(agent, pod, store, leave_running=True)
        os.kill(job.launcher_pid, signal.SIGKILL)
        await ends(job)
        again = await pod.run()
        await agent.runs(pod)
        await prove_afresh(again)
        await FakeKube.until(lambda: any("begun before" in said for said in messages_of(kube, pod)))
        assert not records(folder, "claim.json")


async def test_no_job_begins_on_a_node_that_is_going_away(
    node: FakeNode, api: KubeClient, store: ObjectStore
) -> None:
    agent = StartingAgent(api, store, node.settings)
    agent.outlook.notice = _notice(datetime.now(UTC) + timedelta(seconds=120))
    async with agent.at_work():
        pod = node.pod()
        job = await pod.run(agent_wait_s=1)
        await agent.sees(pod)
        await asyncio.sleep(2.0)  # the launcher would have begun by itself
        assert job.phase() is JobPhase.WAITING
        agent.outlook.notice = None
        await agent.runs(pod)


@pytest.mark.parametrize("ahead_s", [-1.0, 14 * 86400.0])
async def test_a_node_that_was_spared_or_has_weeks_left_begins_jobs_whatever_its_notice(
    node: FakeNode, api: KubeClient, store: ObjectStore, ahead_s: float
) -> None:
    agent = StartingAgent(api, store, node.settings)
    agent.outlook.notice = _notice(datetime.now(UTC) + timedelta(seconds=ahead_s))
    async with agent.at_work():
        pod = node.pod()
        await pod.run()
        await agent.runs(pod)


async def test_a_pod_that_did_not_ask_starts_unattended(
    node: FakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    pod = node.pod(annotations={names.OPT_IN: "false"})
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        job = await pod.run()
        await agent.runs(pod)
        await expect(job, "ready")
        assert max(job.members().values()) < names.PID_FLOOR
        assert not events_of(kube, pod)


async def test_a_pod_that_nobody_knows_starts_after_a_while(
    node: FakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    await kube.stop()
    pod = node.pod()
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        job = await pod.run()
        await agent.runs(pod)
        await expect(job, "ready")
        assert min(job.members().values()) > names.PID_FLOOR


async def test_a_job_starts_afresh_when_the_store_is_lost(
    node: FakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore, folder: Path
) -> None:
    (folder / "store").rename(folder / "lost")
    (folder / "store").write_text("no directory")
    pod = node.pod()
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        await pod.run()
        await agent.runs(pod)
        assert "cannot be found out" in await hears(kube, pod, "ColdStart")


async def test_an_agent_that_comes_back_leaves_running_jobs_alone(
    node: FakeNode, api: KubeClient, store: ObjectStore
) -> None:
    pod = node.pod()
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        job = await pod.run()
        await agent.runs(pod)
        await expect(job, "ready")
        before = job.members()
    assert job.members() == before
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        session = await agent.runs(pod)
        assert session.begun
        await FakeKube.until(lambda: agent.diary.running)
        assert job.members() == before
        assert await prove(job) == "proved 1"
        job.signal(signal.SIGUSR2)
        assert await ends(job) == 0
        await FakeKube.until(lambda: agent.diary.ended)
        assert agent.diary.ended == [("main", 0)]


def _notice(deadline: datetime) -> InterruptionNotice:
    return InterruptionNotice(
        id="n1",
        trigger=Trigger.SPOT_INTERRUPTION,
        source="test",
        instance="",
        deadline=deadline,
        action="terminate",
        seen=datetime.now(UTC),
    )
