"""What agents log of a pod's way from one node to another: whose it is, and which checkpoint, in every record."""

from __future__ import annotations

import pytest

from crikpy.kube.resources import PODS
from crikpy.model.orders import OrderPhase
from crikpy.store.base import ObjectStore
from tests.agent.conftest import MakeNode
from tests.agent.node import NAMESPACE
from tests.agent.programs import program
from tests.agent.whole import Desk, ends, runs
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu

STATEFUL = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "11111111-2222"}
_SAVED = ("frozen", "streamed", "committed")
_RESUMED = ("claimed", "resumed")


async def test_every_record_of_a_move_says_pod_workload_checkpoint_and_node(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    here, there, desk = make_node("node-a"), make_node("node-b"), Desk(kube)
    old = here.pod("web-0", owner=STATEFUL, job=("memory", 8, 1))
    with program(here, store) as first:
        await runs(old)
        name = desk.order(old)
        status = await desk.reaches(name, OrderPhase.COMPLETE)
        desk.terminate(old, disruption="EvictionByEvictionAPI")
        assert await ends(old.jobs["main"]) == 75
    kube.remove(PODS, old.name, namespace=NAMESPACE)
    with program(there, store, env={"CRIKPY_LOG_LEVEL": "debug"}) as second:
        new = there.pod("web-0", owner=STATEFUL, job=("memory", 8, 1))
        await new.run()
        await desk.reaches(name, OrderPhase.RESTORED)
    for agent, pod, node, events in ((first, old, "node-a", _SAVED), (second, new, "node-b", _RESUMED)):
        lines = agent.lines()
        assert {(line["component"], line["node"]) for line in lines} == {("agent", node)}
        of_flow = {str(line["event"]): line for line in lines if "event" in line}
        assert of_flow.keys() >= set(events)
        for event in events:
            line = of_flow[event]
            assert (line["pod"], line["namespace"], line["pod_uid"]) == (f"{NAMESPACE}/web-0", NAMESPACE, pod.uid)
            assert (line["workload"], line["checkpoint"]) == ("sts-web-0", status.checkpoint)
    assert {line["order"] for line in first.lines() if line.get("event") in _SAVED} == {name}
    ended = next(line for line in first.lines() if line["message"] == "the saved jobs have ended here")
    assert (ended["pod"], ended["checkpoint"]) == (f"{NAMESPACE}/web-0", status.checkpoint)
    restored = next(line for line in second.lines() if line.get("reason") == "Restored")
    assert restored["pod"] == f"{NAMESPACE}/web-0"
