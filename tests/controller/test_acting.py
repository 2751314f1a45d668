"""Single acts against an API server: done once, done safely, and done already is done."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from crikpy import names
from crikpy.controller import actions
from crikpy.controller.acting import Actor
from crikpy.controller.recreating import LARGEST_POD_BYTES
from crikpy.errors import EvictionBlockedError, KubeConflictError, KubeForbiddenError, KubeUnavailableError
from crikpy.kube.client import KubeClient
from crikpy.kube.events import EventRecorder
from crikpy.kube.orders import parse_order, render_order
from crikpy.kube.pods import parse_pod
from crikpy.kube.resources import CHECKPOINTS, NODES, PODS
from crikpy.metrics import Metrics
from crikpy.model.orders import Order, OrderPhase
from crikpy.model.pods import Pod
from tests.controller.clusters import an_order
from tests.controller.objects import answer, notice_in, now_and, raw_node, raw_pod
from tests.fakes.kube import FakeKube


class Stage:
    """An actor and the API server that it acts on."""

    def __init__(self, kube: FakeKube, api: KubeClient) -> None:
        self.kube = kube
        self.metrics = Metrics()
        self.perform = Actor(api, EventRecorder(api, component="crikpy-controller", host=""), self.metrics).perform

    def pod(self, **pod: Any) -> Pod:
        """Put a pod on the stage."""
        return parse_pod(self.kube.put(PODS, raw_pod(**pod)))

    def order(self, pod: Pod, **annotations: str) -> Order:
        """Put an order for a pod on the stage."""
        notes = {f"{names.DOMAIN}/{name.replace('_', '-')}": value for name, value in annotations.items()}
        raw = render_order(an_order(pod).order, annotations=notes)
        return parse_order(self.kube.put(CHECKPOINTS, raw | {"status": {"phase": "Pending"}}))

    def ends(self) -> dict[str, float]:
        """Return how many pods were ended, by outcome."""
        samples = [sample for metric in self.metrics.evictions.collect() for sample in metric.samples]
        return {sample.labels["outcome"]: sample.value for sample in samples if sample.name.endswith("_total")}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with contextlib.AsyncExitStack() as stack:
        kube = await stack.enter_async_context(FakeKube().serving())
        api = await stack.enter_async_context(await KubeClient.connect(kube.settings(tmp_path)))
        yield Stage(kube, api)


async def test_a_node_is_marked_against_a_few_conflicts_but_not_for_ever(stage: Stage) -> None:
    notice = notice_in(120)
    stage.kube.put(NODES, raw_node("n1", notice))
    mark = actions.MarkNode(node="n1", notice=notice)
    stage.kube.trouble("409", verb="patch", times=4)
    await stage.perform(mark)
    assert stage.kube.all(NODES)[0]["spec"]["unschedulable"]
    stage.kube.trouble("409", verb="patch")
    with pytest.raises(KubeConflictError, match="changes all the time"):
        await stage.perform(actions.UndoNode(node="n1"))


async def test_a_node_that_is_gone_needs_no_marks(stage: Stage) -> None:
    await stage.perform(actions.MarkNode(node="n1", notice=notice_in(120)))
    await stage.perform(actions.UndoNode(node="n1"))


async def test_a_new_node_of_the_name_is_not_marked_for_what_the_old_one_was_told(stage: Stage) -> None:
    stage.kube.put(NODES, raw_node("n1"))
    await stage.perform(actions.MarkNode(node="n1", notice=notice_in(120)))
    (node,) = stage.kube.all(NODES)
    assert not node["spec"].get("unschedulable")
    assert node["spec"]["taints"] == raw_node("n1")["spec"]["taints"]


async def test_an_order_that_exists_is_not_made_and_not_counted_again(stage: Stage) -> None:
    pod = stage.pod()
    make = actions.MakeOrder(order=an_order(pod).order, pod=pod)
    await stage.perform(make)
    await stage.perform(make)
    assert len(stage.kube.all(CHECKPOINTS)) == 1
    assert 'crikpy_orders_total{trigger="SpotInterruption"} 1.0' in stage.metrics.render()


async def test_a_bare_pod_too_large_for_an_annotation_is_saved_all_the_same(stage: Stage) -> None:
    pod = stage.pod(bare=True, recreate="true", note="x" * LARGEST_POD_BYTES)
    await stage.perform(actions.MakeOrder(order=an_order(pod).order, pod=pod, recreates=True))
    assert names.RECREATE_FROM not in stage.kube.all(CHECKPOINTS)[0]["metadata"].get("annotations", {})


async def test_expiring_keeps_what_the_agent_wrote_since_the_plan(stage: Stage) -> None:
    order = stage.order(stage.pod())
    answer(stage.kube, stage.kube.all(CHECKPOINTS)[0], OrderPhase.DUMPING, location="s3://bucket/x")
    await stage.perform(actions.ExpireOrder(order=order, message="late"))
    status = stage.kube.all(CHECKPOINTS)[0]["status"]
    assert (status["phase"], status["message"], status["location"]) == ("Expired", "late", "s3://bucket/x")


async def test_an_order_that_its_agent_finished_since_the_plan_does_not_expire(stage: Stage) -> None:
    order = stage.order(stage.pod())
    answer(stage.kube, stage.kube.all(CHECKPOINTS)[0], OrderPhase.COMPLETE)
    await stage.perform(actions.ExpireOrder(order=order, message="late"))
    assert stage.kube.all(CHECKPOINTS)[0]["status"]["phase"] == "Complete"


async def test_the_condition_of_a_deleted_pod_leaves_its_other_conditions(stage: Stage) -> None:
    stage.kube.put(NODES, raw_node("n1", notice_in(120)))
    pod = stage.pod()
    ready = {"type": "Ready", "status": "True"}
    stage.kube.update(PODS, "a", {"status": {"conditions": [ready]}})
    await stage.perform(actions.DeletePod(pod=pod, order=stage.order(pod), deadline=now_and(5)))
    conditions = stage.kube.all(PODS)[0]["status"]["conditions"]
    assert sorted(condition["type"] for condition in conditions) == ["DisruptionTarget", "Ready"]
    assert stage.ends() == {"deleted": 1}


@pytest.mark.parametrize("end", ["EvictPod", "DeletePod", "ForgetPod"])
async def test_a_pod_of_the_same_name_is_never_ended_in_place_of_the_saved_one(stage: Stage, end: str) -> None:
    stage.kube.put(NODES, raw_node("n1", notice_in(120), status="Unknown"))
    pod = stage.pod()
    order = stage.order(pod)
    stage.kube.remove(PODS, "a")
    deadline = {"deadline": now_and(5)} if end == "DeletePod" else {}
    action = getattr(actions, end)(pod=pod, order=order, **deadline)
    await stage.perform(action)
    assert stage.ends() == {"gone": 1}
    stage.pod()
    await stage.perform(action)
    assert "deletionTimestamp" not in stage.kube.all(PODS)[0]["metadata"]
    assert "status" not in stage.kube.all(PODS)[0] or "conditions" not in stage.kube.all(PODS)[0]["status"]
    assert stage.ends() == {"gone": 2}


@pytest.mark.parametrize("end", ["EvictPod", "DeletePod", "ForgetPod"])
async def test_a_pod_of_a_node_that_was_spared_meanwhile_is_not_ended(stage: Stage, end: str) -> None:
    stage.kube.put(NODES, raw_node("n1", None, status="Unknown"))
    pod = stage.pod()
    deadline = {"deadline": now_and(5)} if end == "DeletePod" else {}
    await stage.perform(getattr(actions, end)(pod=pod, order=stage.order(pod), **deadline))
    assert "deletionTimestamp" not in stage.kube.all(PODS)[0]["metadata"]
    assert stage.ends() == {}


async def test_a_pod_is_never_removed_by_force_from_a_node_that_lives(stage: Stage) -> None:
    stage.kube.put(NODES, raw_node("n1", notice_in(-60)))
    pod = stage.pod()
    await stage.perform(actions.ForgetPod(pod=pod, order=stage.order(pod)))
    assert stage.kube.all(PODS)
    assert stage.ends() == {}


async def test_a_blocked_eviction_and_an_outage_are_for_the_caller_to_repeat(stage: Stage) -> None:
    stage.kube.put(NODES, raw_node("n1", notice_in(120)))
    pod = stage.pod()
    evict = actions.EvictPod(pod=pod, order=stage.order(pod))
    stage.kube.block_evictions()
    with pytest.raises(EvictionBlockedError):
        await stage.perform(evict)
    stage.kube.heal()
    stage.kube.trouble("503", plural="pods")
    with pytest.raises(KubeUnavailableError):
        await stage.perform(evict)


def kept(**changes: Any) -> str:
    """Return the JSON of a bare pod as an order keeps it."""
    metadata = {"name": "a", "namespace": "default", "annotations": {names.OPT_IN: "true"}}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata | changes, "spec": {}})


async def test_making_a_pod_again_lets_the_order_go_of_it_in_the_same_act(stage: Stage) -> None:
    pod = stage.pod()
    order = stage.order(pod, recreate_from=kept())
    stage.kube.remove(PODS, "a")
    await stage.perform(actions.RecreatePod(order=order))
    assert len(stage.kube.all(PODS)) == 1
    assert names.RECREATE_FROM not in stage.kube.all(CHECKPOINTS)[0]["metadata"]["annotations"]
    stage.kube.remove(PODS, "a")
    await stage.perform(actions.RecreatePod(order=order))
    assert not stage.kube.all(PODS)


async def test_while_the_old_pod_is_there_the_order_keeps_it(stage: Stage) -> None:
    order = stage.order(stage.pod(), recreate_from=kept())
    await stage.perform(actions.RecreatePod(order=order))
    assert names.RECREATE_FROM in stage.kube.all(CHECKPOINTS)[0]["metadata"]["annotations"]


async def test_another_pod_of_that_name_is_the_one_made_again(stage: Stage) -> None:
    pod = stage.pod()
    order = stage.order(pod, recreate_from=kept())
    stage.kube.remove(PODS, "a")
    stage.pod()
    await stage.perform(actions.RecreatePod(order=order))
    assert names.RECREATE_FROM not in stage.kube.all(CHECKPOINTS)[0]["metadata"]["annotations"]


@pytest.mark.parametrize(
    "text",
    [
        kept(name="other"),
        kept(namespace="kube-system"),
        kept(annotations={}),
        json.dumps({"kind": "Secret", "metadata": {"name": "a", "namespace": "default"}}),
        "[]",
        "no JSON",
    ],
)
async def test_nothing_is_made_but_the_opted_in_pod_of_that_name(stage: Stage, text: str) -> None:
    pod = stage.pod()
    order = stage.order(pod, recreate_from=text)
    stage.kube.remove(PODS, "a")
    await stage.perform(actions.RecreatePod(order=order))
    assert not stage.kube.seen("create")
    assert names.RECREATE_FROM not in stage.kube.all(CHECKPOINTS)[0]["metadata"]["annotations"]


async def test_a_pod_that_may_not_be_made_is_kept_for_another_attempt(stage: Stage) -> None:
    pod = stage.pod()
    order = stage.order(pod, recreate_from=kept())
    stage.kube.remove(PODS, "a")
    stage.kube.trouble("403", verb="create", plural="pods")
    with pytest.raises(KubeForbiddenError):
        await stage.perform(actions.RecreatePod(order=order))
    assert names.RECREATE_FROM in stage.kube.all(CHECKPOINTS)[0]["metadata"]["annotations"]


async def test_a_newer_order_of_an_old_name_is_not_deleted(stage: Stage) -> None:
    pod = stage.pod()
    order = stage.order(pod)
    stage.kube.remove(CHECKPOINTS, order.name)
    stage.order(pod)
    await stage.perform(actions.DeleteOrder(order=order))
    assert len(stage.kube.all(CHECKPOINTS)) == 1
