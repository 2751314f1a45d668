"""The node's own notices: pods are saved at once, whoever else is away; and run on when the node is spared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crikpy import names
from crikpy.kube.nodes import parse_node
from crikpy.kube.pods import parse_pod
from crikpy.kube.resources import NODES, PODS
from crikpy.model.notices import Trigger
from crikpy.model.orders import OrderPhase, order_name
from crikpy.store.base import ObjectStore
from tests.agent.node import NAMESPACE, FakeNode, NodePod
from tests.agent.whole import Desk, at_work, checkpoints_of, ends, proves, runs, settings_of, stands_still, until
from tests.fakes.imds import LIFECYCLE, REBALANCE, SPOT, FakeImds
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu


@pytest.fixture
def desk(kube: FakeKube) -> Desk:
    return Desk(kube)


@pytest.fixture
async def imds() -> AsyncIterator[FakeImds]:
    async with FakeImds().serving() as service:
        yield service


def notice_of(desk: Desk, node: FakeNode) -> str:
    """Return the id of the notice that the node's condition tells of, or nothing."""
    raw = desk.kube.get(NODES, node.name)
    assert raw is not None
    notice = parse_node(raw).notice
    return notice.id if notice else ""


def is_saved(pod: NodePod) -> bool:
    """Say whether a pod's job stands still."""
    return stands_still(pod.jobs["main"])


async def test_pods_are_saved_while_the_api_server_is_away_and_everything_is_told_when_it_is_back(
    node: FakeNode, store: ObjectStore, desk: Desk, imds: FakeImds
) -> None:
    pods = [node.pod("one"), node.pod("two")]
    async with at_work(settings_of(node, imds, spare_s=600.0), store):
        await asyncio.gather(*map(runs, pods))
        await until(lambda: desk.condition(node, names.CONDITION_NOTICE).get("status") == "False", "no notice")
        await desk.kube.stop()
        imds.spot(in_s=120)
        await until(lambda: all(map(is_saved, pods)), "saved jobs")
        await until(lambda: len(checkpoints_of(store)) == 2, "two checkpoints")
        await desk.kube.start()
        await until(lambda: notice_of(desk, node), "the notice as the node's condition")
        notice = notice_of(desk, node)
        for pod in pods:
            deadline = datetime.now(UTC) + timedelta(seconds=100)
            name = desk.order(
                pod,
                order_name(pod.name, pod.uid, notice),
                notice=notice,
                trigger=Trigger.SPOT_INTERRUPTION,
                deadline=deadline,
            )
            status = await desk.reaches(name, OrderPhase.COMPLETE)
            assert status.checkpoint in checkpoints_of(store)
            desk.terminate(pod, disruption="EvictionByEvictionAPI")
            assert await ends(pod.jobs["main"]) == 75
        await until(
            lambda: all("CheckpointComplete" in desk.events(pod.name) for pod in pods), "events on the pods"
        )
        assert len(checkpoints_of(store)) == 2
        await until(lambda: "InterruptionNotice" in desk.events(node.name), "an event on the node")


async def test_a_pod_that_the_agent_knew_before_it_was_restarted_is_saved_without_an_api_server(
    node: FakeNode, store: ObjectStore, desk: Desk, imds: FakeImds
) -> None:
    pod = node.pod()
    settings = settings_of(node, imds, spare_s=600.0)
    async with at_work(settings, store):
        await runs(pod)
    await desk.kube.stop()
    imds.spot(in_s=120)
    async with at_work(settings, store):
        await until(lambda: is_saved(pod), "a saved job")
    await desk.kube.start()
    assert len(checkpoints_of(store)) == 1


async def test_saved_pods_run_on_when_the_notice_is_withdrawn(
    node: FakeNode, store: ObjectStore, desk: Desk, imds: FakeImds
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node, imds, spare_s=600.0), store):
        await runs(pod)
        when = f"{datetime.now(UTC) + timedelta(seconds=120):%Y-%m-%dT%H:%M:%SZ}"
        imds.spot(at=when)
        await until(lambda: is_saved(pod), "a saved job")
        await until(lambda: notice_of(desk, node), "the notice as the node's condition")
        imds.put(SPOT, None)
        await proves(pod.jobs["main"])
        await until(lambda: "NodeSpared" in desk.events(pod.name), "that the pod was spared")
        await until(lambda: "NoticeWithdrawn" in desk.events(node.name), "that the notice was withdrawn")
        await until(lambda: desk.condition(node, names.CONDITION_NOTICE)["status"] == "False", "no notice")
        imds.spot(at=when)
        await until(lambda: is_saved(pod), "a job that is saved again")


async def test_saved_pods_run_on_when_the_machine_outlives_its_deadline(
    node: FakeNode, store: ObjectStore, desk: Desk, imds: FakeImds
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node, imds, spare_s=1.0), store):
        await runs(pod)
        imds.spot(in_s=2)
        await until(lambda: "CheckpointComplete" in desk.events(pod.name), "a saved job")
        await proves(pod.jobs["main"])
        await until(lambda: "NodeSpared" in desk.events(pod.name), "that the pod was spared")
        await until(lambda: desk.condition(node, names.CONDITION_NOTICE)["status"] == "False", "no notice")
        assert len(checkpoints_of(store)) == 1


@pytest.mark.parametrize(("wish", "saved", "stopped"), [("checkpoint", 1, 0), ("migrate", 1, 1), ("ignore", 0, 0)])
async def test_a_rebalance_recommendation_means_what_the_pod_wants(
    node: FakeNode, store: ObjectStore, desk: Desk, imds: FakeImds, wish: str, saved: int, stopped: int
) -> None:
    pod = node.pod(annotations={names.ON_REBALANCE: wish})
    async with at_work(settings_of(node, imds, spare_s=600.0), store):
        await runs(pod)
        imds.rebalance()
        await until(lambda: notice_of(desk, node), "the recommendation as the node's condition")
        await until(lambda: len(checkpoints_of(store)) == saved, "the checkpoint")
        if stopped:
            await until(lambda: is_saved(pod), "a job that stands still")
            imds.put(REBALANCE, None)
        await proves(pod.jobs["main"])


async def test_pods_are_saved_by_their_priority(
    node: FakeNode, store: ObjectStore, desk: Desk, imds: FakeImds
) -> None:
    pods = [node.pod(name, annotations={names.PRIORITY: str(rank)}) for rank, name in enumerate("abcd")]
    async with at_work(settings_of(node, imds, spare_s=600.0, dumps=1), store):
        await asyncio.gather(*map(runs, pods))
        imds.spot(in_s=120)
        await until(lambda: all(map(is_saved, pods)), "saved jobs")
        await until(lambda: all(desk.events(pod.name) for pod in pods), "events")
        notice = notice_of(desk, node)
        done = []
        for pod in pods:
            name = desk.order(pod, order_name(pod.name, pod.uid, notice), notice=notice)
            done.append((await desk.reaches(name, OrderPhase.COMPLETE)).completed)
        assert done == sorted(done, reverse=True)  # type: ignore[type-var]


async def test_a_pod_that_is_being_deleted_or_has_not_opted_in_is_left_alone(
    node: FakeNode, store: ObjectStore, desk: Desk, imds: FakeImds
) -> None:
    stranger, saved = node.pod("stranger", annotations={names.OPT_IN: "false"}), node.pod("saved")
    async with at_work(settings_of(node, imds, spare_s=600.0), store):
        await asyncio.gather(runs(stranger), runs(saved))
        imds.spot(in_s=120)
        await until(lambda: is_saved(saved), "a saved job")
        await proves(stranger.jobs["main"])
    assert len(checkpoints_of(store)) == 1


async def test_maintenance_that_is_weeks_away_changes_nothing(
    node: FakeNode, store: ObjectStore, desk: Desk, imds: FakeImds
) -> None:
    pod = node.pod()
    when = datetime.now(UTC) + timedelta(days=20)
    event = {"Code": "instance-stop", "State": "active", "NotBefore": f"{when:%d %b %Y %H:%M:%S} GMT"}
    imds.scheduled(event)
    async with at_work(settings_of(node, imds), store):
        await runs(pod)
        await until(lambda: desk.condition(node, names.CONDITION_NOTICE).get("status") == "False", "no notice")
        await proves(pod.jobs["main"])
        soon = datetime.now(UTC) + timedelta(minutes=10)
        imds.scheduled({**event, "NotBefore": f"{soon:%d %b %Y %H:%M:%S} GMT"})
        await until(lambda: is_saved(pod), "a saved job")
        condition = desk.condition(node, names.CONDITION_NOTICE)
        assert condition["reason"] == Trigger.SCHEDULED_EVENT


async def test_two_notices_for_one_machine_are_one_save_and_the_last_withdrawal_counts(
    node: FakeNode, store: ObjectStore, desk: Desk, imds: FakeImds
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node, imds, spare_s=600.0), store):
        await runs(pod)
        imds.spot(in_s=120)
        await until(lambda: is_saved(pod), "a saved job")
        first = notice_of(desk, node)
        imds.lifecycle("Terminated")
        await until(lambda: desk.events(node.name).count("InterruptionNotice") == 2, "the second notice")
        imds.put(SPOT, None)
        await until(lambda: notice_of(desk, node) not in ("", first), "the second notice as the condition")
        # Not at once: who looks at the job may be inside it. Had it gone on, it would be saved a second time.
        await until(lambda: is_saved(pod), "the job still saved")
        imds.put(LIFECYCLE, "InService")
        await proves(pod.jobs["main"])
    assert len(checkpoints_of(store)) == 1


async def test_a_container_that_begins_under_a_notice_waits_until_the_node_is_spared(
    node: FakeNode, store: ObjectStore, desk: Desk, imds: FakeImds
) -> None:
    imds.spot(in_s=120)
    async with at_work(settings_of(node, imds, spare_s=600.0), store):
        await until(lambda: notice_of(desk, node), "the notice as the node's condition")
        pod = node.pod()
        job = await pod.run()
        await asyncio.sleep(1.0)
        assert "ready" not in job.stdout.text()
        imds.put(SPOT, None)
        await asyncio.to_thread(job.expect, "ready")


async def test_the_absence_of_a_notice_is_not_told_before_it_is_sure(
    node: FakeNode, store: ObjectStore, desk: Desk, imds: FakeImds
) -> None:
    before: dict[str, Any] = {"type": names.CONDITION_NOTICE, "status": "True", "reason": "SpotInterruption"}
    desk.kube.update(NODES, node.name, {"status": {"conditions": [before]}})
    imds.trouble("503")
    async with at_work(settings_of(node, imds), store):
        pod = node.pod()
        await runs(pod)
        assert parse_pod(desk.kube.get(PODS, pod.name, namespace=NAMESPACE) or {}).uid == pod.uid
        assert desk.condition(node, names.CONDITION_NOTICE)["status"] == "True"
        imds.heal()
        await until(lambda: desk.condition(node, names.CONDITION_NOTICE)["status"] == "False", "no notice")
