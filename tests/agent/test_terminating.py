"""A SIGTERM of kubelet's: passed on at once, or after a save, or turned into the end of a saved job."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

import pytest

from crikpy import names
from crikpy.kube.pods import parse_pod
from crikpy.kube.resources import NODES, PODS
from crikpy.model.notices import Trigger
from crikpy.model.orders import OrderPhase, order_name
from crikpy.settings import SignalSettings
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints, list_workloads
from tests.agent.node import NAMESPACE, FakeNode, NodePod
from tests.agent.whole import Desk, at_work, checkpoints_of, ends, runs, settings_of, signal_all, until
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu

SIGNALS_ITS_LAUNCHER = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for number in range(300):
    os.kill(1, signal.SIGTERM)
    time.sleep(0.01)
print("300 signals sent", flush=True)
time.sleep(3600)
"""

TERMINATED = 143


@pytest.fixture
def desk(kube: FakeKube) -> Desk:
    return Desk(kube)


def trigger_of(store: ObjectStore) -> str:
    """Return why the one checkpoint of a store was taken."""
    [workload] = list_workloads(store)
    [checkpoint] = checkpoints_of(store)
    return Checkpoints(store, workload).manifest(checkpoint).origin.trigger


async def test_a_pod_that_somebody_deletes_ends_at_once_and_is_not_saved(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node), store):
        await runs(pod)
        desk.terminate(pod)
        assert await ends(pod.jobs["main"]) == TERMINATED
    assert checkpoints_of(store) == []


@pytest.mark.parametrize("reason", ["EvictionByEvictionAPI", "PreemptionByScheduler", "TerminationByKubelet"])
async def test_a_pod_that_goes_for_its_nodes_sake_is_saved_first(
    node: FakeNode, store: ObjectStore, desk: Desk, reason: str
) -> None:
    pod = node.pod(containers={"a": ("memory", 4, 1), "b": ("ending", 3)})
    async with at_work(settings_of(node), store):
        await runs(pod)
        desk.terminate(pod, disruption=reason)
        assert [await ends(job) for job in pod.jobs.values()] == [75, 75]
        await until(lambda: "CheckpointComplete" in desk.events(pod.name), "an event on the pod")
    assert len(checkpoints_of(store)) == 2


async def test_a_pod_on_a_node_that_the_controller_has_tainted_is_saved_first_and_its_order_told(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod()
    taint = {"key": names.TAINT, "value": Trigger.SPOT_INTERRUPTION.value, "effect": "NoSchedule"}
    notes = {"metadata": {"annotations": {names.CORDONED: "spot-1"}}, "spec": {"taints": [taint]}}
    async with at_work(settings_of(node), store):
        await runs(pod)
        desk.kube.update(NODES, node.name, notes)
        desk.terminate(pod)
        assert await ends(pod.jobs["main"]) == 75
        name = desk.order(pod, order_name(pod.name, pod.uid, "spot-1"), notice="spot-1")
        await desk.reaches(name, OrderPhase.COMPLETE)
    assert trigger_of(store) == Trigger.SPOT_INTERRUPTION


GONE_SOON = {"conditions": [{"type": "Ready", "status": "False", "message": "node is shutting down"}]}


@pytest.mark.parametrize(
    ("change", "trigger"),
    [
        ({"spec": {"taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]}}, Trigger.DRAIN),
        ({"spec": {"taints": [{"key": "example.com/retiring", "effect": "NoExecute"}]}}, Trigger.NODE_SHUTDOWN),
        ({"status": GONE_SOON}, Trigger.NODE_SHUTDOWN),
    ],
    ids=["karpenter", "a sign of the user's own", "kubelet"],
)
async def test_a_pod_that_is_deleted_from_a_node_with_a_sign_that_it_goes_away_is_saved_first(
    node: FakeNode, store: ObjectStore, desk: Desk, change: dict[str, object], trigger: Trigger
) -> None:
    pod = node.pod()
    signals = SignalSettings(more_taints="example.com/retiring NodeShutdown")
    async with at_work(replace(settings_of(node), signals=signals), store):
        await runs(pod)
        desk.kube.update(NODES, node.name, change)
        desk.terminate(pod)
        assert await ends(pod.jobs["main"]) == 75
    assert trigger_of(store) == trigger


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"unschedulable": True}},
        {"spec": {"taints": [{"key": "DeletionCandidateOfClusterAutoscaler", "effect": "PreferNoSchedule"}]}},
    ],
    ids=["cordoned", "a candidate"],
)
async def test_a_pod_that_is_deleted_from_a_node_that_may_stay_ends_at_once(
    node: FakeNode, store: ObjectStore, desk: Desk, change: dict[str, object]
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node), store):
        await runs(pod)
        desk.kube.update(NODES, node.name, change)
        desk.terminate(pod)
        assert await ends(pod.jobs["main"]) == TERMINATED
    assert checkpoints_of(store) == []


async def test_a_pod_whose_save_fails_ends_of_its_sigterm(node: FakeNode, store: ObjectStore, desk: Desk) -> None:
    pod = node.pod(injected="main,other")
    async with at_work(settings_of(node), store):
        await runs(pod)
        desk.terminate(pod, disruption="EvictionByEvictionAPI")
        assert await ends(pod.jobs["main"]) == TERMINATED
        await until(lambda: "CheckpointFailed" in desk.events(pod.name), "an event on the pod")


async def test_a_pod_with_no_time_left_ends_at_once(node: FakeNode, store: ObjectStore, desk: Desk) -> None:
    pod = node.pod()
    async with at_work(settings_of(node), store):
        await runs(pod)
        desk.terminate(pod, disruption="EvictionByEvictionAPI", grace_s=2)
        assert await ends(pod.jobs["main"]) == TERMINATED
    assert "CheckpointFailed" not in desk.events(pod.name)
    assert checkpoints_of(store) == []


async def test_a_pod_that_has_not_opted_in_ends_at_once(node: FakeNode, store: ObjectStore, desk: Desk) -> None:
    pod = node.pod(annotations={names.OPT_IN: "false"})
    async with at_work(settings_of(node), store):
        await runs(pod)
        desk.terminate(pod, disruption="EvictionByEvictionAPI")
        assert await ends(pod.jobs["main"]) == TERMINATED


async def test_without_an_api_server_what_was_known_before_decides(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    plain, evicted = node.pod("plain"), node.pod("evicted")
    async with at_work(settings_of(node), store):
        await asyncio.gather(runs(plain), runs(evicted))
        condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        desk.kube.update(PODS, evicted.name, {"status": {"conditions": [condition]}}, namespace=NAMESPACE)
        await _told(node, evicted)
        await desk.kube.stop()
        signal_all(plain)
        signal_all(evicted)
        assert await ends(plain.jobs["main"]) == TERMINATED
        assert await ends(evicted.jobs["main"]) == 75
        await desk.kube.start()


async def test_a_job_that_signals_its_own_launcher_again_and_again_does_not_wear_out_the_api_server(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod(job=(sys.executable, "-c", SIGNALS_ITS_LAUNCHER))
    async with at_work(settings_of(node), store):
        job = await pod.run()
        await asyncio.to_thread(job.expect, "300 signals sent")
        assert len(desk.kube.seen("get", "pods")) < 50


async def _told(node: FakeNode, pod: NodePod) -> None:
    """Wait until the agent has written down that a pod is to go."""
    file = node.settings.agent.state_dir / "pods" / f"{pod.uid}.json"
    await until(lambda: "EvictionByEvictionAPI" in file.read_text(), "that the agent knows it")


async def test_an_api_server_that_stalls_keeps_no_sigterm_back_for_long(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node), store):
        await runs(pod)
        desk.kube.trouble("stall", verb="get")
        signal_all(pod)
        assert await ends(pod.jobs["main"]) == TERMINATED
        desk.kube.heal()


async def test_a_sigterm_during_a_save_that_stops_the_job_ends_it_with_75(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod(job=("memory", 64, 1))
    async with at_work(settings_of(node, spare_s=600.0), store):
        await runs(pod)
        name = desk.order(pod)
        await desk.reaches(name, OrderPhase.DUMPING)
        desk.terminate(pod)
        assert await ends(pod.jobs["main"]) == 75
        await desk.reaches(name, OrderPhase.COMPLETE)


async def test_a_sigterm_during_a_save_that_lets_the_job_run_on_comes_after_it(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod(job=("memory", 64, 1))
    async with at_work(settings_of(node), store):
        await runs(pod)
        name = desk.order(pod, leave_running=True)
        await desk.reaches(name, OrderPhase.DUMPING)
        desk.terminate(pod)
        assert await ends(pod.jobs["main"]) == TERMINATED
        await desk.reaches(name, OrderPhase.COMPLETE)


async def test_a_drain_during_a_save_that_lets_the_job_run_on_makes_it_the_last_one(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod(job=("memory", 64, 1))
    async with at_work(settings_of(node), store):
        await runs(pod)
        name = desk.order(pod, leave_running=True)
        await desk.reaches(name, OrderPhase.DUMPING)
        desk.terminate(pod, disruption="EvictionByEvictionAPI")
        assert await ends(pod.jobs["main"]) == 75
        await desk.reaches(name, OrderPhase.COMPLETE)
    assert len(checkpoints_of(store)) == 1


async def test_a_pod_of_the_same_name_that_came_later_does_not_decide(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node), store):
        await runs(pod)
        body = desk.kube.get(PODS, pod.name, namespace=NAMESPACE)
        assert body is not None
        assert parse_pod(body).uid == pod.uid
        desk.kube.stall_watches("pods")
        desk.kube.remove(PODS, pod.name, namespace=NAMESPACE)
        condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        metadata = {**body["metadata"], "uid": "00000000-0000-4000-8000-000000000000"}
        desk.kube.put(PODS, {**body, "metadata": metadata, "status": {"conditions": [condition]}})
        signal_all(pod)
        assert await ends(pod.jobs["main"]) == TERMINATED
    assert checkpoints_of(store) == []
