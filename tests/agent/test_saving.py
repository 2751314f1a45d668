"""Orders on real jobs: saved, stopped, ended when their time comes; or not saved, and running on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crikpy.kube.resources import CHECKPOINTS
from crikpy.model.orders import OrderPhase
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints, list_workloads
from tests.agent.node import NAMESPACE, FakeNode
from tests.agent.whole import Desk, at_work, checkpoints_of, ends, proves, runs, settings_of, stands_still, until
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu


@pytest.fixture
def desk(kube: FakeKube) -> Desk:
    return Desk(kube)


async def test_an_ordered_job_stands_still_until_its_eviction_and_ends_with_75(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node, spare_s=60.0), store):
        await runs(pod)
        name = desk.order(pod)
        status = await desk.reaches(name, OrderPhase.COMPLETE)
        assert stands_still(pod.jobs["main"])
        desk.terminate(pod, disruption="EvictionByEvictionAPI")
        assert await ends(pod.jobs["main"]) == 75
        await until(lambda: "CheckpointComplete" in desk.events(name), "an event on the order")
        assert "CheckpointComplete" in desk.events(pod.name)
    [workload] = list_workloads(store)
    manifest = Checkpoints(store, workload).manifest(status.checkpoint)
    assert (manifest.origin.pod, manifest.origin.pod_uid) == (f"training/{pod.name}", pod.uid)
    assert status.bytes.memory == manifest.sizes.image_bytes > 8 << 20
    assert status.location == f"{store.url}/{workload}"
    assert status.frozen_s is not None
    assert status.total_s is not None
    assert 0 < status.frozen_s <= status.total_s
    assert status.started is not None
    assert status.completed is not None
    assert status.completed >= status.started


async def test_all_containers_of_a_pod_are_saved_and_end_together(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod(containers={"a": ("memory", 4, 1), "b": ("ending", 3)})
    async with at_work(settings_of(node, spare_s=60.0), store):
        await runs(pod)
        status = await desk.reaches(desk.order(pod), OrderPhase.COMPLETE)
        assert all(map(stands_still, pod.jobs.values()))
        desk.terminate(pod, disruption="EvictionByEvictionAPI")
        assert [await ends(job) for job in pod.jobs.values()] == [75, 75]
    assert checkpoints_of(store) == [status.checkpoint] * 2


async def test_a_job_that_is_left_running_goes_on_and_can_be_saved_again(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod(job=("memory", 48, 1))
    async with at_work(settings_of(node), store):
        await runs(pod)
        first = await desk.reaches(desk.order(pod, "first", leave_running=True), OrderPhase.COMPLETE)
        await proves(pod.jobs["main"])
        second = await desk.reaches(desk.order(pod, "second", leave_running=True), OrderPhase.COMPLETE)
        await proves(pod.jobs["main"])
        assert first.checkpoint != second.checkpoint
        assert second.bytes.reused > 0
        desk.terminate(pod)
        assert await ends(pod.jobs["main"]) == 143


async def test_a_job_that_cannot_be_saved_runs_on_and_its_order_says_why(
    node: FakeNode, store: ObjectStore, desk: Desk, folder: Path
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node), store):
        await runs(pod)
        (folder / "store").rename(folder / "lost")
        (folder / "store").touch()
        name = desk.order(pod)
        status = await desk.reaches(name, OrderPhase.FAILED)
        assert status.reason == "NoSuchBucket"
        assert str(folder / "store") in status.message
        await proves(pod.jobs["main"])
        await until(lambda: "CheckpointFailed" in desk.events(pod.name), "an event on the pod")
        (folder / "store").unlink()
        (folder / "lost").rename(folder / "store")
        await desk.reaches(desk.order(pod, "again"), OrderPhase.COMPLETE)


async def test_saved_jobs_run_on_when_nobody_ends_them(node: FakeNode, store: ObjectStore, desk: Desk) -> None:
    pod = node.pod()
    async with at_work(settings_of(node, spare_s=1.0), store):
        await runs(pod)
        name = desk.order(pod)
        status = await desk.reaches(name, OrderPhase.COMPLETE)
        await until(lambda: "NodeSpared" in desk.events(pod.name), "that the node was spared")
        await proves(pod.jobs["main"])
        await until(lambda: desk.status(name).reason == "NodeSpared", "that the order says so")
        assert desk.status(name).phase is OrderPhase.COMPLETE
    assert checkpoints_of(store) == [status.checkpoint]


async def test_saved_jobs_run_on_when_their_order_is_deleted(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node, spare_s=600.0), store):
        await runs(pod)
        name = desk.order(pod)
        await desk.reaches(name, OrderPhase.COMPLETE)
        desk.kube.remove(CHECKPOINTS, name, namespace=NAMESPACE)
        await proves(pod.jobs["main"])
        await until(lambda: "NodeSpared" in desk.events(pod.name), "that the node was spared")


async def test_two_orders_at_once_are_one_save(node: FakeNode, store: ObjectStore, desk: Desk) -> None:
    pod = node.pod(job=("memory", 32, 1))
    async with at_work(settings_of(node, spare_s=60.0), store):
        await runs(pod)
        names = [desk.order(pod, f"order-{number}", leave_running=number > 1) for number in (1, 2, 3)]
        found = {(await desk.reaches(name, OrderPhase.COMPLETE)).checkpoint for name in names}
        later = await desk.reaches(desk.order(pod, "later", leave_running=True), OrderPhase.COMPLETE)
        assert found | {later.checkpoint} == set(checkpoints_of(store))
        assert len(checkpoints_of(store)) == 1


async def test_an_order_whose_deadline_has_passed_expires(node: FakeNode, store: ObjectStore, desk: Desk) -> None:
    pod = node.pod()
    async with at_work(settings_of(node), store):
        await runs(pod)
        name = desk.order(pod, deadline=datetime.now(UTC) - timedelta(seconds=1))
        assert (await desk.reaches(name, OrderPhase.EXPIRED)).reason == "DeadlineExceeded"
        await proves(pod.jobs["main"])
    assert checkpoints_of(store) == []


async def test_an_agent_that_ends_lets_saved_jobs_run_on_and_the_next_one_can_save_them(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node, spare_s=600.0), store):
        await runs(pod)
        await desk.reaches(desk.order(pod), OrderPhase.COMPLETE)
    await proves(pod.jobs["main"])
    assert "NodeSpared" not in desk.events(pod.name)
    async with at_work(settings_of(node, spare_s=600.0), store):
        await desk.reaches(desk.order(pod, "second"), OrderPhase.COMPLETE)
        desk.terminate(pod, disruption="EvictionByEvictionAPI")
        assert await ends(pod.jobs["main"]) == 75
