"""From a waiting launcher to a job that goes on where another pod left it: once, and with nothing lost."""

from __future__ import annotations

import asyncio
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from crikpy import names
from crikpy.agent.sessions import Activity
from crikpy.kube.client import KubeClient
from crikpy.kube.resources import PODS
from crikpy.model.capsule import JobPhase
from crikpy.store.base import ObjectStore
from tests.agent.agents import (
    StartingAgent,
    ends,
    events_of,
    evicted,
    expect,
    hears,
    messages_of,
    move_away,
    prove,
    prove_afresh,
    records,
    save,
)
from tests.agent.conftest import MakeNode
from tests.agent.node import NAMESPACE, FakeNode
from tests.fakes.kube import FakeKube
from tests.integration.capsules import PATIENCE_S
from tests.integration.stores import WatchedStore

pytestmark = pytest.mark.criu

REPLICAS = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "train", "uid": "11111111-2222"}
TWO: dict[str, tuple[object, ...]] = {"left": ("memory", 4, 1), "right": ("memory", 2, 1)}
FAIL = {names.RESTORE_FAILURE: "fail"}


def _spoil(folder: Path) -> None:
    """Damage the chunks of a store."""
    for chunk in folder.glob("store/*/*/*/chunks/*/*"):
        data = bytearray(chunk.read_bytes())
        data[len(data) // 2] ^= 0xFF
        chunk.write_bytes(data)


async def test_a_job_goes_on_in_a_pod_on_another_node(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    here, there = make_node("node-a"), make_node("node-b")
    async with (
        StartingAgent(api, store, here.settings).at_work() as first,
        StartingAgent(api, store, there.settings).at_work() as second,
    ):
        await move_away(first, here.pod(), kube, store)
        pod = there.pod()
        job = await pod.run()
        session = await second.runs(pod)
        assert await prove(job) == "proved 2"
        assert "goes on" in await hears(kube, pod, "Restored")
        assert session.activity is Activity.RUNNING
        assert "ColdStart" not in events_of(kube, pod)
        job.signal(signal.SIGUSR2)
        assert await ends(job) == 0


async def test_one_of_two_pods_resumes_a_checkpoint_and_the_other_starts_afresh(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore, folder: Path
) -> None:
    nodes = [make_node("node-a"), make_node("node-b")]
    agents = [StartingAgent(api, store, node.settings) for node in nodes]
    async with agents[0].at_work(), agents[1].at_work():
        await move_away(agents[0], nodes[0].pod("train-0", owner=REPLICAS), kube, store)
        pods = [node.pod(f"train-{number}", owner=REPLICAS) for number, node in enumerate(nodes, start=1)]
        jobs = [await pod.run() for pod in pods]
        for agent, pod in zip(agents, pods, strict=True):
            await agent.runs(pod)
        await FakeKube.until(lambda: all(events_of(kube, pod) for pod in pods))
        resumed = [job for pod, job in zip(pods, jobs, strict=True) if "Restored" in events_of(kube, pod)]
        started = [job for pod, job in zip(pods, jobs, strict=True) if "ColdStart" in events_of(kube, pod)]
        assert (len(resumed), len(started)) == (1, 1)
        assert await prove(resumed[0]) == "proved 2"
        await prove_afresh(started[0])
        assert len(records(folder, "claim.json")) == 1


async def test_the_containers_of_a_pod_go_on_together_and_share_their_volume(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    here, there = make_node("node-a"), make_node("node-b")
    volumes = {"left": {"/data": "work"}, "right": {"/other": "work"}}
    async with (
        StartingAgent(api, store, here.settings).at_work() as first,
        StartingAgent(api, store, there.settings).at_work() as second,
    ):
        old = here.pod(containers=TWO, volumes=volumes)
        (old.volume("work") / "kept").write_text("as it was")
        await move_away(first, old, kube, store)
        new = there.pod(containers=TWO, volumes=volumes)
        left = await new.run("left")
        await second.sees(new, "left")
        assert left.phase() is JobPhase.WAITING
        right = await new.run("right")
        await second.runs(new)
        assert [await prove(job) for job in (left, right)] == ["proved 2", "proved 2"]
        assert (new.volume("work") / "kept").read_text() == "as it was"


async def test_a_job_whose_restore_fails_starts_afresh(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore, folder: Path
) -> None:
    here, there = make_node("node-a"), make_node("node-b")
    async with (
        StartingAgent(api, store, here.settings).at_work() as first,
        StartingAgent(api, store, there.settings).at_work() as second,
    ):
        checkpoint = await move_away(first, here.pod(), kube, store)
        _spoil(folder)
        pod = there.pod()
        job = await pod.run()
        await second.runs(pod)
        await prove_afresh(job)
        assert min(job.members().values()) > names.PID_FLOOR
        assert checkpoint in await hears(kube, pod, "RestoreFailed")
        await hears(kube, pod, "ColdStart")
        assert records(folder, "quarantine.json")


async def test_a_job_that_is_not_to_start_afresh_fails_each_time(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore, folder: Path
) -> None:
    here, there = make_node("node-a"), make_node("node-b")
    async with (
        StartingAgent(api, store, here.settings).at_work() as first,
        StartingAgent(api, store, there.settings).at_work(),
    ):
        await move_away(first, here.pod(), kube, store)
        _spoil(folder)
        pod = there.pod(annotations=FAIL)
        job = await pod.run()
        assert await ends(job) == 128 + signal.SIGTERM
        await hears(kube, pod, "RestoreFailed")
        again = await pod.run()
        assert await ends(again) == 128 + signal.SIGTERM
        assert not job.stdout.whole()
        assert not again.stdout.whole()
        assert "ColdStart" not in events_of(kube, pod)


async def test_a_job_waits_until_the_pod_before_it_has_ended(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    here, there = make_node("node-a"), make_node("node-b")
    async with (
        StartingAgent(api, store, here.settings).at_work() as first,
        StartingAgent(api, store, there.settings).at_work() as second,
    ):
        old = here.pod("train-0", owner=REPLICAS)
        job = await old.run()
        await first.runs(old)
        await expect(job, "ready")
        await prove(job)
        kube.update(PODS, old.name, evicted(), namespace=NAMESPACE)
        new = there.pod("train-1", owner=REPLICAS)
        successor = await new.run()
        # Nothing is complete yet: a job that began now would begin from nothing.
        await FakeKube.until(lambda: len([one for one in kube.seen("get", "pods") if one.name == old.name]) > 1)
        assert successor.phase() is JobPhase.WAITING
        await save(first, old, store)
        await ends(job)
        kube.remove(PODS, old.name, namespace=NAMESPACE)
        await second.runs(new)
        assert await prove(successor) == "proved 2"


async def test_the_checkpoint_of_a_pod_that_lives_is_left_alone(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore, folder: Path
) -> None:
    here, there = make_node("node-a"), make_node("node-b")
    async with (
        StartingAgent(api, store, here.settings).at_work() as first,
        StartingAgent(api, store, there.settings).at_work() as second,
    ):
        old, new = here.pod("train-0", owner=REPLICAS), there.pod("train-1", owner=REPLICAS)
        job = await old.run()
        await first.runs(old)
        await expect(job, "ready")
        await save(first, old, store, leave_running=True)
        successor = await new.run()
        await second.runs(new)
        await prove_afresh(successor)
        assert "has not ended" in await hears(kube, new, "ColdStart")
        assert not records(folder, "claim.json")
        assert await prove(job) == "proved 1"


async def test_a_pod_that_was_saved_and_ended_goes_on_in_its_own_place_when_its_node_is_spared(
    node: FakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        pod = node.pod()
        for count in (1, 2):
            job = await pod.run()
            await agent.runs(pod)
            if count == 1:
                await expect(job, "ready")
            assert await prove(job) == f"proved {count}"
            await save(agent, pod, store)
            await ends(job)
        kube.remove(PODS, pod.name, namespace=NAMESPACE)
        # What it made after it had resumed itself counts for its successor.
        new = node.pod()
        successor = await new.run()
        await agent.runs(new)
        assert await prove(successor) == "proved 3"


async def test_a_job_starts_afresh_when_nobody_says_whether_its_origin_lives(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore, folder: Path
) -> None:
    here, there = make_node("node-a"), make_node("node-b")
    async with (
        StartingAgent(api, store, here.settings).at_work() as first,
        StartingAgent(api, store, there.settings).at_work() as second,
    ):
        await move_away(first, here.pod(), kube, store)
        pod = there.pod()
        await FakeKube.until(lambda: pod.uid in second.pods)
        kube.trouble("503", verb="list", plural="pods")
        job = await pod.run()
        await second.runs(pod)
        await prove_afresh(job)
        assert "cannot be found out" in await hears(kube, pod, "ColdStart")
        assert not records(folder, "claim.json")


async def test_a_job_that_waits_is_left_to_the_next_agent(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    here, there = make_node("node-a"), make_node("node-b")
    async with StartingAgent(api, store, here.settings).at_work() as first:
        old = here.pod("train-0", owner=REPLICAS)
        job = await old.run()
        await first.runs(old)
        await expect(job, "ready")
        await prove(job)
        await save(first, old, store)
        await ends(job)
    kube.update(PODS, old.name, evicted(), namespace=NAMESPACE)
    new = there.pod("train-1", owner=REPLICAS)
    successor = await new.run(agent_wait_s=30)
    async with StartingAgent(api, store, there.settings).at_work() as second:
        await second.sees(new)
        await FakeKube.until(lambda: [one for one in kube.seen("get", "pods") if one.name == old.name])
    assert successor.phase() is JobPhase.WAITING
    kube.remove(PODS, old.name, namespace=NAMESPACE)
    async with StartingAgent(api, store, there.settings).at_work() as second:
        await second.runs(new)
        assert await prove(successor) == "proved 2"


async def test_a_restore_that_is_under_way_outlives_its_agent(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    here, there = make_node("node-a"), make_node("node-b")
    reading, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        reading.set()
        go_on.wait(PATIENCE_S)

    async with StartingAgent(api, store, here.settings).at_work() as first:
        await move_away(first, here.pod(containers=TWO), kube, store)
    new = there.pod(containers=TWO)
    jobs = [await new.run(name) for name in TWO]
    end = asyncio.Event()

    async def work() -> None:
        async with StartingAgent(api, WatchedStore(store, before_chunk=wait), there.settings).at_work():
            await end.wait()

    agent = asyncio.create_task(work())
    await FakeKube.until(reading.is_set)
    end.set()
    await asyncio.sleep(0.5)  # it is told to end in the middle of the restore
    assert [job.phase() for job in jobs] == [JobPhase.WAITING, JobPhase.WAITING]
    assert not agent.done()
    go_on.set()
    await agent
    assert [await prove(job) for job in jobs] == ["proved 2", "proved 2"]


async def test_a_container_that_dies_while_it_waits_makes_room_for_the_next(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    here, there = make_node("node-a"), make_node("node-b")
    async with (
        StartingAgent(api, store, here.settings).at_work() as first,
        StartingAgent(api, store, there.settings).at_work() as second,
    ):
        old = here.pod("train-0", owner=REPLICAS)
        job = await old.run()
        await first.runs(old)
        await prove_afresh(job)
        await save(first, old, store)
        await ends(job)
        kube.update(PODS, old.name, evicted(), namespace=NAMESPACE)
        new = there.pod("train-1", owner=REPLICAS)
        waiting = await new.run()
        await FakeKube.until(lambda: [one for one in kube.seen("get", "pods") if one.name == old.name])
        waiting.signal(signal.SIGTERM)
        assert await ends(waiting) == 128 + signal.SIGTERM
        lists = len(kube.seen("list", "pods"))
        again = await new.run()
        await FakeKube.until(lambda: len(kube.seen("list", "pods")) > lists)
        kube.remove(PODS, old.name, namespace=NAMESPACE)
        await second.runs(new)
        assert await prove(again) == "proved 2"


async def test_a_pod_that_is_being_deleted_takes_no_checkpoint_with_it_and_begins_nothing(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore, folder: Path
) -> None:
    here, there = make_node("node-a"), make_node("node-b")
    async with (
        StartingAgent(api, store, here.settings).at_work() as first,
        StartingAgent(api, store, there.settings).at_work() as second,
    ):
        await move_away(first, here.pod(), kube, store)
        pod = there.pod()
        kube.update(PODS, pod.name, evicted(), namespace=NAMESPACE)
        job = await pod.run()
        session = await second.sees(pod)
        await asyncio.sleep(3.0)  # longer than it would take to begin
        assert session.activity is Activity.WAITING
        job.signal(signal.SIGTERM)
        assert await ends(job) == 128 + signal.SIGTERM
        assert not records(folder, "claim.json")


async def test_a_container_that_never_comes_does_not_keep_the_others_from_starting(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore
) -> None:
    here, there = make_node("node-a"), make_node("node-b")
    hasty = replace(there.settings, agent=replace(there.settings.agent, gather_s=1.0))
    async with (
        StartingAgent(api, store, here.settings).at_work() as first,
        StartingAgent(api, store, hasty).at_work() as second,
    ):
        await move_away(first, here.pod(containers=TWO), kube, store)
        new = there.pod(containers=TWO)
        left = await new.run("left")
        await second.runs(new, "left")
        await prove_afresh(left)
        assert "not all containers" in await hears(kube, new, "ColdStart")
        right = await new.run("right")
        await second.runs(new)
        await prove_afresh(right)
        await FakeKube.until(lambda: any("begun before" in said for said in messages_of(kube, new)))
