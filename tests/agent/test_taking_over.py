"""Whose place a pod takes: never that of one that still runs, or that somebody else has taken."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from crikpy.kube.client import KubeClient
from crikpy.kube.resources import PODS
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints, list_workloads
from crikpy.store.records import Claim
from tests.agent.agents import StartingAgent, events_of, evicted, hears, move_away, prove_afresh, save
from tests.agent.conftest import MakeNode
from tests.agent.node import NAMESPACE, FakeNode
from tests.agent.test_saver import benched
from tests.agent.whole import ends, until
from tests.fakes.kube import FakeKube
from tests.jobs import proving

pytestmark = pytest.mark.criu

STATEFUL = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "11111111-2222"}
REPLICAS = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "11111111-2222"}


async def test_saved_jobs_end_when_their_checkpoint_was_resumed_elsewhere(
    node: FakeNode, api: KubeClient, store: ObjectStore
) -> None:
    async with benched(node, api, store) as bench:
        outcome = await bench.save(leave_running=False, notice="n")
        (workload,) = list_workloads(store)
        Checkpoints(store, workload).claim(outcome.status.checkpoint, Claim.ours().anew())
        bench.saver.withdraw_notice("n")
        assert await ends(bench.job) == 75
        await until(lambda: bench.session.moved, "that the pod has moved")


@pytest.mark.parametrize("owner", [STATEFUL, None])
async def test_a_pod_of_the_same_name_with_another_command_starts_afresh_and_says_why(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore, owner: dict[str, str] | None
) -> None:
    here, there = make_node("node-a"), make_node("node-b")
    async with (
        StartingAgent(api, store, here.settings).at_work() as first,
        StartingAgent(api, store, there.settings).at_work() as second,
    ):
        await move_away(first, here.pod("web-0", owner=owner, job=("memory", 8, 1)), kube, store)
        new = there.pod("web-0", owner=owner, job=("memory", 16, 3))
        await new.run()
        await second.runs(new)
        assert "has changed" in await hears(kube, new, "RestoreFailed")
        assert "Restored" not in events_of(kube, new)


async def test_what_a_pod_saved_before_its_job_ended_unseen_is_resumed_by_nobody(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    here, there = make_node("node-a"), make_node("node-b")
    pod = here.pod("web-0", owner=STATEFUL)
    async with StartingAgent(api, store, here.settings).at_work() as first:
        job = await pod.run()
        await first.runs(pod)
        await prove_afresh(job)
        await save(first, pod, store, leave_running=True)
    job.signal(proving.FINISH)
    assert await ends(job) == 0
    again = await pod.run()
    async with StartingAgent(api, store, here.settings).at_work() as first:
        await first.runs(pod)
        await prove_afresh(again)
        kept = await save(first, pod, store, leave_running=True)
        (workload,) = list_workloads(store)

        def left() -> list[str]:
            return [summary.id for summary in Checkpoints(store, workload).list() if summary.resumable]

        await until(lambda: left() == [kept], "that only what its later life saved is left")
        kube.remove(PODS, pod.name, namespace=NAMESPACE)
    async with StartingAgent(api, store, there.settings).at_work() as second:
        new = there.pod("web-0", owner=STATEFUL)
        await new.run()
        await second.runs(new)
        assert kept in await hears(kube, new, "Restored")


async def test_a_pod_that_is_being_ended_is_waited_for_as_long_as_kubelet_leaves_it(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    here, there = make_node("node-a"), make_node("node-b")
    hasty = replace(there.settings, agent=replace(there.settings.agent, origin_wait_s=1.0))
    async with (
        StartingAgent(api, store, here.settings).at_work() as first,
        StartingAgent(api, store, hasty).at_work() as second,
    ):
        old = here.pod("web-a", owner=REPLICAS)
        job = await old.run()
        await first.runs(old)
        await prove_afresh(job)
        killed_at = (datetime.now(UTC) + timedelta(seconds=600)).isoformat()
        change = {**evicted(), "metadata": {"deletionTimestamp": killed_at, "deletionGracePeriodSeconds": 600}}
        kube.update(PODS, old.name, change, namespace=NAMESPACE)
        new = there.pod("web-b", owner=REPLICAS)
        await new.run()
        await second.sees(new)
        await asyncio.sleep(4.0)  # longer than origin_wait_s
        assert "ColdStart" not in events_of(kube, new)
