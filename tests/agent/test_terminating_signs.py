"""SIGTERMs that come before anybody has said why: what stands on the node decides, within a second."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from crikpy import names
from crikpy.kube.nodes import render_reports
from crikpy.kube.resources import NODES
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.model.orders import DRAIN, OrderPhase, order_name
from crikpy.settings import SignalSettings
from crikpy.store.base import ObjectStore
from tests.agent.node import FakeNode
from tests.agent.test_terminating import GONE_SOON, TERMINATED, trigger_of
from tests.agent.whole import Desk, at_work, checkpoints_of, ends, runs, settings_of, signal_all, until
from tests.controller.objects import notice_in
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu

DISRUPTED = {"spec": {"taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]}}


@pytest.fixture
def desk(kube: FakeKube) -> Desk:
    return Desk(kube)


def report(desk: Desk, node: FakeNode, notice: InterruptionNotice) -> None:
    """Have the controller write a notice on the node that it heard of from outside."""
    desk.kube.update(NODES, node.name, {"metadata": {"annotations": {names.REPORTED: render_reports([notice])}}})


@pytest.mark.parametrize("disruption", ["EvictionByEvictionAPI", ""], ids=["evicted", "deleted"])
async def test_a_drained_pod_is_saved_in_the_name_of_its_drain(
    node: FakeNode, store: ObjectStore, desk: Desk, disruption: str
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node), store):
        await runs(pod)
        if not disruption:
            desk.kube.update(NODES, node.name, DISRUPTED)
        name = desk.order(pod, order_name(pod.name, pod.uid, DRAIN), trigger=Trigger.DRAIN)
        desk.terminate(pod, disruption=disruption)
        assert await ends(pod.jobs["main"]) == 75
        await desk.reaches(name, OrderPhase.COMPLETE)
    assert len(checkpoints_of(store)) == 1


async def test_a_pod_whose_node_is_gone_from_the_api_is_saved_first(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node), store):
        await runs(pod)
        desk.kube.remove(NODES, node.name)
        desk.terminate(pod)
        assert await ends(pod.jobs["main"]) == 75
    assert trigger_of(store) == Trigger.DRAIN


async def test_a_pod_of_a_node_that_the_controller_has_heard_bad_news_of_is_saved_first_and_its_order_told(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod()
    notice = replace(notice_in(120), id="queue-1", source="queue:spot")
    async with at_work(settings_of(node), store):
        await runs(pod)
        report(desk, node, notice)
        desk.terminate(pod)
        assert await ends(pod.jobs["main"]) == 75
        name = desk.order(pod, order_name(pod.name, pod.uid, "queue-1"), notice="queue-1")
        await desk.reaches(name, OrderPhase.COMPLETE)
    assert trigger_of(store) == Trigger.SPOT_INTERRUPTION


async def test_kubelet_that_shuts_down_may_say_so_a_little_after_its_sigterm(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node), store):
        await runs(pod)
        await until(lambda: desk.kube.watchers("nodes"), "that the agent watches its node")
        signal_all(pod)  # nothing is deleted: kubelet ends its pods by itself
        await asyncio.sleep(0.3)
        desk.kube.update(NODES, node.name, {"status": GONE_SOON})
        assert await ends(pod.jobs["main"]) == 75
    assert trigger_of(store) == Trigger.NODE_SHUTDOWN


async def test_a_sigterm_that_nobody_explains_is_not_kept_for_long(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node), store):
        await runs(pod)
        signal_all(pod)
        assert await ends(pod.jobs["main"]) == TERMINATED
    assert checkpoints_of(store) == []


async def test_without_an_api_server_a_sign_that_was_seen_decides(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node), store):
        await runs(pod)
        await until(lambda: desk.kube.watchers("nodes"), "that the agent watches its node")
        desk.kube.update(NODES, node.name, DISRUPTED)
        await asyncio.sleep(0.3)
        await desk.kube.stop()
        signal_all(pod)
        assert await ends(pod.jobs["main"]) == 75
        await desk.kube.start()


@pytest.mark.parametrize(
    "signals",
    [SignalSettings(more_taints="karpenter.sh/disrupted:NoSchedule Ignore"), SignalSettings(enabled=False)],
    ids=["ignored", "switched off"],
)
async def test_a_sign_that_is_not_to_count_does_not(
    node: FakeNode, store: ObjectStore, desk: Desk, signals: SignalSettings
) -> None:
    pod = node.pod()
    async with at_work(replace(settings_of(node), signals=signals), store):
        await runs(pod)
        desk.kube.update(NODES, node.name, DISRUPTED)
        desk.terminate(pod)
        assert await ends(pod.jobs["main"]) == TERMINATED
    assert checkpoints_of(store) == []


async def test_a_pod_that_is_scaled_away_while_maintenance_lies_far_ahead_just_ends(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod()
    notice = notice_in(10 * 86400, trigger=Trigger.SCHEDULED_EVENT)
    async with at_work(settings_of(node), store):
        await runs(pod)
        report(desk, node, notice)
        desk.terminate(pod)
        assert await ends(pod.jobs["main"]) == TERMINATED
    assert checkpoints_of(store) == []
