"""The leader at work against an API server: from a notice to the eviction and back, through trouble."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crikpy import names
from crikpy.aio.tasks import stop
from crikpy.controller.attempts import Attempts
from crikpy.controller.rounds import Rounds
from crikpy.controller.sighting import Sight
from crikpy.kube.client import KubeClient
from crikpy.kube.events import EventRecorder
from crikpy.kube.resources import CHECKPOINTS, EVENTS, NODES, PODS
from crikpy.metrics import Metrics
from crikpy.model.orders import OrderPhase
from crikpy.settings import ControllerSettings, Settings
from tests.controller.objects import announce, answer, notice_in, now_and, raw_node, raw_pod
from tests.fakes.kube import FakeKube

OURS = {"key": names.TAINT, "value": "SpotInterruption", "effect": "NoSchedule"}


class Leader:
    """A leader and the API server that it works against."""

    def __init__(self, kube: FakeKube, api: KubeClient, settings: Settings) -> None:
        self.kube = kube
        self.metrics = Metrics()
        self._api = api
        self._settings = settings
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, **given: Any) -> None:
        recorder = EventRecorder(self._api, component="crikpy-controller", host="test")
        sight = Sight(self._api, self.metrics)
        rounds = Rounds(self._api, self._settings, recorder, self.metrics, sight=sight, **given)
        self._tasks = [asyncio.create_task(act) for act in (rounds.run(), sight.run(), recorder.run())]

    async def end(self) -> None:
        for task in self._tasks:
            await stop(task)

    def orders(self) -> list[dict[str, Any]]:
        return self.kube.all(CHECKPOINTS)

    async def order(self) -> dict[str, Any]:
        """Wait for the only order."""
        await self.kube.until(self.orders)
        (order,) = self.orders()
        return order

    def pod(self, name: str = "a") -> dict[str, Any]:
        pod = self.kube.get(PODS, name)
        assert pod is not None
        return pod

    def is_ending(self, name: str = "a") -> bool:
        return "deletionTimestamp" in self.pod(name)["metadata"]

    def node(self) -> dict[str, Any]:
        node = self.kube.get(NODES, "n1")
        assert node is not None
        return node

    def reasons(self) -> list[str]:
        return [event["reason"] for event in self.kube.all(EVENTS)]


@pytest.fixture
async def leader(tmp_path: Path) -> AsyncIterator[Leader]:
    async with contextlib.AsyncExitStack() as stack:
        kube = await stack.enter_async_context(FakeKube().serving())
        kube.put(NODES, raw_node("n1"))
        kube.put(NODES, raw_node("n2"))
        settings = Settings(kube=kube.settings(tmp_path), controller=ControllerSettings(spare_s=1.0))
        api = await stack.enter_async_context(await KubeClient.connect(settings.kube))
        leader = Leader(kube, api, settings)
        leader.begin()
        stack.push_async_callback(leader.end)
        yield leader


async def test_a_notice_is_carried_out_from_the_taint_to_the_eviction(leader: Leader) -> None:
    kube = leader.kube
    await leader.end()
    leader.begin(tick_s=3600)  # changes alone must do
    for pod in (raw_pod("a"), raw_pod("elsewhere", node="n2"), raw_pod("bystander", injected="")):
        kube.put(PODS, pod)
    announce(kube, "n1", notice_in(120))
    order = await leader.order()
    assert (order["spec"]["podName"], order["spec"]["leaveRunning"]) == ("a", False)
    await kube.until(lambda: leader.node()["spec"].get("unschedulable"))
    assert leader.node()["spec"]["taints"] == [{"key": "gpu", "effect": "NoSchedule"}, OURS]
    assert leader.node()["metadata"]["annotations"] == {names.CORDONED: "spot-1"}
    answer(kube, order, OrderPhase.DUMPING)
    assert not leader.is_ending()
    answer(kube, order, OrderPhase.COMPLETE)
    await kube.until(leader.is_ending)
    assert leader.pod()["status"]["conditions"][0]["type"] == "DisruptionTarget"
    (eviction,) = kube.seen("create", "pods", subresource="eviction")
    assert eviction.body["deleteOptions"]["preconditions"] == {"uid": leader.pod()["metadata"]["uid"]}
    await kube.until(lambda: {"Cordoned", "CheckpointOrdered", "Evicted", "NotInjected"} <= set(leader.reasons()))
    assert not leader.is_ending("elsewhere")
    assert not leader.is_ending("bystander")
    assert 'crikpy_orders_total{trigger="SpotInterruption"} 1.0' in leader.metrics.render()
    assert 'crikpy_evictions_total{outcome="evicted"} 1.0' in leader.metrics.render()


async def test_nodes_and_opted_in_pods_are_counted_by_whether_they_can_be_saved_while_it_leads(
    leader: Leader,
) -> None:
    kube = leader.kube
    served = raw_node("n3")
    served["metadata"]["labels"] = {names.LABEL_READY: "true"}
    kube.put(NODES, served)
    for pod in (raw_pod("a", node="n3"), raw_pod("b", node="n1"), raw_pod("c", node="n3", injected="")):
        kube.put(PODS, pod)
    expected = {
        f'crikpy_opted_in_pods{{state="{state}"}} 1.0' for state in ("savable", "node_unable", "not_injected")
    }
    await kube.until(lambda: expected <= set(leader.metrics.render().splitlines()))
    assert 'crikpy_nodes{state="able"} 1.0' in leader.metrics.render()
    assert 'crikpy_nodes{state="noticed"} 0.0' in leader.metrics.render()
    await leader.end()
    assert "crikpy_opted_in_pods{" not in leader.metrics.render()
    assert "crikpy_nodes{" not in leader.metrics.render()


async def test_a_failed_order_leaves_its_pod_alone_and_a_withdrawn_notice_leaves_no_trace(leader: Leader) -> None:
    kube = leader.kube
    kube.put(PODS, raw_pod())
    before = leader.node()["spec"]
    announce(kube, "n1", notice_in(120))
    answer(kube, await leader.order(), OrderPhase.FAILED, reason="DumpFailed")
    await kube.until(lambda: leader.node()["spec"].get("unschedulable"))
    announce(kube, "n1", None)
    await kube.until(lambda: leader.node()["spec"].get("taints") == before["taints"])
    assert not leader.node()["spec"].get("unschedulable")
    assert not leader.node()["metadata"].get("annotations")
    assert not leader.is_ending()
    await kube.until(lambda: "Uncordoned" in leader.reasons())


async def test_a_node_that_outlives_its_notice_is_uncordoned(leader: Leader) -> None:
    kube = leader.kube
    announce(kube, "n1", notice_in(1.5))
    await kube.until(lambda: leader.node()["spec"].get("unschedulable"))
    heard_later = raw_node("n1", notice_in(1.5), lastHeartbeatTime=now_and(3).isoformat())
    condition = leader.node()["status"]["conditions"][1]
    kube.update(NODES, "n1", {"status": {"conditions": [heard_later["status"]["conditions"][0], condition]}})
    await kube.until(lambda: not leader.node()["spec"].get("unschedulable"))


async def test_a_budget_delays_the_eviction_and_people_are_told(leader: Leader) -> None:
    kube = leader.kube
    kube.put(PODS, raw_pod())
    kube.block_evictions()
    announce(kube, "n1", notice_in(120))
    answer(kube, await leader.order(), OrderPhase.COMPLETE)
    await kube.until(lambda: len(kube.seen("create", "pods", subresource="eviction")) >= 2)
    await kube.until(lambda: "EvictionBlocked" in leader.reasons())
    assert not leader.is_ending()
    kube.heal()
    await kube.until(leader.is_ending)


async def test_in_the_last_moments_a_saved_pod_is_deleted_with_the_condition_that_jobs_know(
    leader: Leader,
) -> None:
    kube = leader.kube
    kube.put(PODS, raw_pod())
    kube.block_evictions()
    announce(kube, "n1", notice_in(14))
    answer(kube, await leader.order(), OrderPhase.COMPLETE)
    await kube.until(leader.is_ending)
    (condition,) = leader.pod()["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("DisruptionTarget", "True")
    assert kube.seen("delete", "pods")[0].body["preconditions"] == {"uid": leader.pod()["metadata"]["uid"]}
    assert "gracePeriodSeconds" not in kube.seen("delete", "pods")[0].body


async def test_a_pod_is_deleted_also_where_its_status_may_not_be_written(leader: Leader) -> None:
    kube = leader.kube
    kube.put(PODS, raw_pod())
    kube.block_evictions()
    kube.trouble("403", verb="patch", plural="pods")
    announce(kube, "n1", notice_in(14))
    answer(kube, await leader.order(), OrderPhase.COMPLETE)
    await kube.until(leader.is_ending)


async def test_a_saved_pod_of_a_machine_that_is_gone_is_removed_at_once(leader: Leader) -> None:
    kube = leader.kube
    kube.put(PODS, raw_pod())
    notice = notice_in(120)
    announce(kube, "n1", notice)
    answer(kube, await leader.order(), OrderPhase.COMPLETE)
    await kube.until(leader.is_ending)
    gone = replace(notice, deadline=now_and(-40))
    silence = {"status": "Unknown", "reason": "NodeStatusUnknown", "lastHeartbeatTime": now_and(-50).isoformat()}
    kube.update(NODES, "n1", {"status": raw_node("n1", gone, **silence)["status"]})
    await kube.until(lambda: kube.get(PODS, "a") is None)


async def test_a_bare_pod_is_made_again_once(leader: Leader) -> None:
    kube = leader.kube
    kube.put(PODS, raw_pod(bare=True, recreate="true"))
    announce(kube, "n1", notice_in(120))
    order = await leader.order()
    kept = json.loads(order["metadata"]["annotations"][names.RECREATE_FROM])
    assert kept["spec"]["containers"][0]["command"] == ["run"]
    answer(kube, order, OrderPhase.COMPLETE)
    await kube.until(leader.is_ending)
    old = leader.pod()["metadata"]["uid"]
    kube.remove(PODS, "a")
    await kube.until(lambda: kube.get(PODS, "a") is not None)
    await kube.until(lambda: names.RECREATE_FROM not in leader.orders()[0]["metadata"].get("annotations", {}))
    again = leader.pod()
    assert again["metadata"]["uid"] != old
    assert "nodeName" not in again["spec"]
    assert names.INJECTED not in again["metadata"]["annotations"]
    kube.remove(PODS, "a")
    await leader.end()
    leader.begin()
    await settled(leader)
    assert kube.get(PODS, "a") is None


async def test_a_bare_pod_is_not_made_from_what_is_not_its_own(leader: Leader) -> None:
    kube = leader.kube
    kube.put(PODS, raw_pod(bare=True, recreate="true"))
    announce(kube, "n1", notice_in(120))
    order = await leader.order()
    forged = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other", "namespace": "default"}, "spec": {}}
    note = {"metadata": {"annotations": {names.RECREATE_FROM: json.dumps(forged)}}}
    kube.update(CHECKPOINTS, order["metadata"]["name"], note)
    answer(kube, order, OrderPhase.COMPLETE)
    await kube.until(leader.is_ending)
    kube.remove(PODS, "a")
    await kube.until(lambda: "RecreateFailed" in leader.reasons())
    assert not kube.all(PODS)


async def settled(leader: Leader, *, sign: str = "sign") -> None:
    """Wait until a leader has seen everything and had the time to act upon it."""
    kube = leader.kube
    await kube.until(lambda: all(kube.watchers(plural) for plural in ("pods", "nodes", "checkpoints")))
    kube.put(PODS, raw_pod(sign, node="n2", injected=""))
    seen = len(leader.reasons())
    await kube.until(lambda: len(leader.reasons()) > seen)


async def test_a_new_leader_repeats_nothing(leader: Leader) -> None:
    kube = leader.kube
    kube.put(PODS, raw_pod())
    announce(kube, "n1", notice_in(120))
    answer(kube, await leader.order(), OrderPhase.COMPLETE)
    await kube.until(leader.is_ending)
    await leader.end()
    kube.requests.clear()
    leader.begin()
    await settled(leader)
    writes = [request for request in kube.requests if request.verb not in ("get", "list", "watch")]
    assert {request.plural for request in writes} == {"events"}


async def test_a_new_leader_goes_on_where_the_old_one_was_cut_off(leader: Leader) -> None:
    kube = leader.kube
    kube.put(PODS, raw_pod())
    announce(kube, "n1", notice_in(120))
    order = await leader.order()
    await leader.end()
    answer(kube, order, OrderPhase.COMPLETE)
    leader.begin()
    await kube.until(leader.is_ending)


@pytest.mark.parametrize("trouble", ["503", "lose", "reset"])
async def test_orders_are_made_once_however_the_answers_are_lost(leader: Leader, trouble: str) -> None:
    kube = leader.kube
    kube.put(PODS, raw_pod("a"))
    kube.put(PODS, raw_pod("b"))
    kube.trouble(trouble, verb="create", plural="checkpoints", times=2)
    announce(kube, "n1", notice_in(120))
    await kube.until(lambda: len(leader.orders()) == 2)
    await kube.until(lambda: leader.node()["spec"].get("unschedulable"))


async def test_an_outage_in_the_middle_delays_but_loses_nothing(leader: Leader) -> None:
    kube = leader.kube
    kube.put(PODS, raw_pod())
    announce(kube, "n1", notice_in(120))
    order = await leader.order()
    await kube.stop()
    answer(kube, order, OrderPhase.COMPLETE)
    await kube.start()
    await kube.until(leader.is_ending)


async def test_without_the_whole_picture_nothing_is_begun(leader: Leader) -> None:
    kube = leader.kube
    await leader.end()
    kube.unknown.add("checkpoints")
    kube.put(PODS, raw_pod())
    announce(kube, "n1", notice_in(120))
    leader.begin()
    await kube.until(lambda: kube.watchers("pods") and kube.watchers("nodes"))
    restarts = leader.metrics.watch_restarts.labels(resource="checkpoints", reason="broken")
    await kube.until(lambda: restarts._value.get() >= 2)
    assert not leader.node()["spec"].get("unschedulable")
    kube.unknown.clear()
    await leader.order()


async def test_a_node_that_others_change_at_the_same_time_is_marked_all_the_same(leader: Leader) -> None:
    kube = leader.kube
    kube.trouble("409", verb="patch", plural="nodes", times=3)
    announce(kube, "n1", notice_in(120))
    await kube.until(lambda: leader.node()["spec"].get("unschedulable"))
    assert leader.node()["spec"]["taints"][-1] == OURS


async def test_what_is_forbidden_is_told_and_tried_again(leader: Leader) -> None:
    kube = leader.kube
    kube.put(PODS, raw_pod())
    kube.trouble("403", verb="create", plural="checkpoints", times=1)
    announce(kube, "n1", notice_in(120))
    await kube.until(lambda: "CheckpointNotOrdered" in leader.reasons())
    await leader.order()


async def test_an_order_that_nobody_answers_expires_and_keeps_what_its_agent_had_written(leader: Leader) -> None:
    kube = leader.kube
    kube.put(PODS, raw_pod())
    announce(kube, "n1", notice_in(120))
    order = await leader.order()
    answer(kube, order, OrderPhase.DUMPING, location="s3://bucket/x")
    kube.update(CHECKPOINTS, order["metadata"]["name"], {"spec": {"deadline": now_and(-61).isoformat()}})
    await kube.until(lambda: leader.orders()[0]["status"]["phase"] == "Expired")
    status = leader.orders()[0]["status"]
    assert (status["reason"], status["location"]) == ("Expired", "s3://bucket/x")
    await kube.until(lambda: "CheckpointExpired" in leader.reasons())


async def test_old_orders_are_deleted(leader: Leader) -> None:
    kube = leader.kube
    kube.put(PODS, raw_pod())
    announce(kube, "n1", notice_in(120))
    order = await leader.order()
    answer(kube, order, OrderPhase.FAILED)
    name = order["metadata"]["name"]
    kube.update(CHECKPOINTS, name, {"status": {"completionTime": now_and(-90000).isoformat()}})
    announce(kube, "n1", None)
    await kube.until(lambda: not leader.orders())


async def test_periodic_checkpoints_are_ordered_when_due(leader: Leader) -> None:
    kube = leader.kube
    kube.put(PODS, raw_pod("early", interval="2h"))
    kube.put(PODS, raw_pod("late", interval="30m"))
    order = await leader.order()
    spec = order["spec"]
    assert (spec["podName"], spec["trigger"], spec["leaveRunning"]) == ("late", "Interval", True)
    await settled(leader)
    assert "CheckpointOrdered" not in leader.reasons()


async def test_nobody_is_told_twice_of_a_pod_that_is_not_injected(leader: Leader) -> None:
    kube = leader.kube
    await leader.end()
    leader.begin(attempts=Attempts(echo_s=0.01))
    kube.put(PODS, raw_pod("a", injected=""))
    await settled(leader)
    kube.update(PODS, "a", {"metadata": {"labels": {"changed": "yes"}}})
    await settled(leader, sign="another-sign")
    events = [event for event in kube.all(EVENTS) if event["involvedObject"]["name"] == "a"]
    assert [(event["reason"], event["type"], event.get("count", 1)) for event in events] == [
        ("NotInjected", "Warning", 1)
    ]
