"""Pods of a group on several nodes, each with an agent of its own: saved and resumed as one set, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from crikpy import names
from crikpy.kube.resources import CHECKPOINTS, PODS
from crikpy.model.groups import GroupMember, GroupOrder, Question
from crikpy.model.orders import OrderPhase
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints, list_workloads
from crikpy.store.sets import GroupSets
from tests.agent.agents import events_of, hears, prove, prove_afresh
from tests.agent.conftest import MakeNode
from tests.agent.node import NAMESPACE, FakeNode, NodePod
from tests.agent.programs import program
from tests.agent.whole import Desk, at_work, checkpoints_of, ends, proves, runs, settings_of, stands_still, until
from tests.fakes.imds import FakeImds
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu

GROUP = {names.GROUP: "ring"}
EVICTED = "EvictionByEvictionAPI"


@dataclass
class Ring:
    """A group of two pods on two nodes, and what a controller does for it.

    Attributes:
        desk: orders, and what is seen of them.
        nodes: the nodes, an agent on each.
        store: that of all agents.
    """

    desk: Desk
    nodes: tuple[FakeNode, FakeNode]
    store: ObjectStore

    def pods(self, *nodes: FakeNode, job: tuple[object, ...] = ("memory", 8, 1)) -> list[NodePod]:
        """Bind the members to nodes, to the group's own by default."""
        return [
            node.pod(f"rank-{rank}", job=job, annotations=GROUP) for rank, node in enumerate(nodes or self.nodes)
        ]

    def order(self, *pods: NodePod, set_id: str = "s1", leave_running: bool = False, only: int = 0) -> list[str]:
        """Order a set of pods, or the first of them `only`."""
        members = tuple(
            GroupMember(pod=pod.name, pod_uid=pod.uid, node=pod.node.name, workload=f"pod-{pod.name}")
            for pod in pods
        )
        group = GroupOrder(name="ring", set_id=set_id, members=members)
        return [
            self.desk.order(pod, f"{pod.name}-{set_id}", group=group, leave_running=leave_running)
            for pod in pods[: only or len(pods)]
        ]

    async def saves(self, *pods: NodePod, set_id: str = "s1", leave_running: bool = False) -> None:
        """Save a set."""
        for name in self.order(*pods, set_id=set_id, leave_running=leave_running):
            await self.desk.reaches(name, OrderPhase.COMPLETE)

    async def ends(self, *pods: NodePod) -> None:
        """Evict saved pods."""
        for pod in pods:
            self.desk.terminate(pod, disruption=EVICTED)
        for pod in pods:
            assert await ends(pod.jobs["main"]) == names.EXIT_CHECKPOINTED
            self.desk.kube.remove(PODS, pod.name, namespace=NAMESPACE)

    def messages(self, *orders: str) -> list[str]:
        """Return what became of orders, in words."""
        return [self.desk.status(order).message for order in orders]


@contextlib.asynccontextmanager
async def a_ring(make_node: MakeNode, kube: FakeKube, store: ObjectStore, **agent: Any) -> AsyncIterator[Ring]:
    nodes = make_node("node-a"), make_node("node-b")
    patience: dict[str, Any] = {"group_wait_s": 10.0, "group_gather_s": 20.0, **agent}
    async with contextlib.AsyncExitStack() as agents:
        for node in nodes:
            await agents.enter_async_context(at_work(settings_of(node, **patience), store))
        yield Ring(Desk(kube), nodes, store)


async def begun(*pods: NodePod) -> None:
    """Run pods that prove something."""
    await asyncio.gather(*(runs(pod) for pod in pods))
    for pod in pods:
        await proves(pod.jobs["main"])


async def resumes(kube: FakeKube, *pods: NodePod) -> None:
    """Run pods, and see that each is told that it was restored."""
    for pod in pods:
        await pod.run()
    for pod in pods:
        await hears(kube, pod, "Restored")


async def test_a_group_is_saved_as_one_and_goes_on_as_one_on_whatever_nodes(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    async with a_ring(make_node, kube, store) as ring:
        pods = ring.pods()
        await begun(*pods)
        await ring.saves(*pods)
        assert all(stands_still(pod.jobs["main"]) for pod in pods)
        assert "as set s1" in ring.messages("rank-0-s1")[0]
        await ring.ends(*pods)
        new = ring.pods(*reversed(ring.nodes))
        await new[0].run()
        await until(lambda: said(store, "waiting"), "that the first one waits")
        assert not stands_on(new[0]), "nobody goes on before all are there"
        await new[1].run()
        for pod in new:
            await hears(kube, pod, "Restored")
            assert await prove(pod.jobs["main"]) == "proved 2"


async def test_a_group_on_one_node_is_saved_and_resumed_though_there_is_room_for_one_only(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    async with a_ring(make_node, kube, store, dumps=1) as ring:
        pods = ring.pods(ring.nodes[0], ring.nodes[0], ring.nodes[0])
        await begun(*pods)
        await ring.saves(*pods)
        await ring.ends(*pods)
        new = ring.pods(ring.nodes[1], ring.nodes[1], ring.nodes[1])
        await resumes(kube, *new)


async def test_one_that_cannot_be_saved_keeps_the_others_from_being_stopped(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    async with a_ring(make_node, kube, store) as ring:
        good = ring.nodes[0].pod("rank-0", annotations=GROUP)
        bad = ring.nodes[1].pod("rank-1", job=("orphans",), annotations=GROUP)
        await begun(good)
        await runs(bad)
        orders = ring.order(good, bad)
        for order in orders:
            await ring.desk.reaches(order, OrderPhase.FAILED)
        assert "rank-1: the job cannot be saved" in ring.desk.status(orders[0]).message
        assert "left its tree" in ring.desk.status(orders[1]).message
        await proves(good.jobs["main"])
        assert checkpoints_of(store) == []


async def test_a_member_without_an_order_is_waited_for_and_then_all_run_on(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    async with a_ring(make_node, kube, store, group_wait_s=1.0) as ring:
        pods = ring.pods()
        await begun(*pods)
        (order,) = ring.order(*pods, only=1)
        assert "rank-1 not ready" in (await ring.desk.reaches(order, OrderPhase.FAILED)).message
        for pod in pods:
            await proves(pod.jobs["main"])


async def test_an_order_for_one_of_a_group_alone_is_refused(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    async with a_ring(make_node, kube, store) as ring:
        pods = ring.pods()
        await begun(*pods)
        alone = ring.desk.order(pods[0], "alone")
        assert "with its group ring only" in (await ring.desk.reaches(alone, OrderPhase.FAILED)).message
        stranger = ring.nodes[0].pod("stranger")
        await runs(stranger)
        (order, _) = ring.order(stranger, pods[1])
        assert "no member of group ring" in (await ring.desk.reaches(order, OrderPhase.FAILED)).message


async def test_a_set_that_lets_all_run_on_is_resumed_when_all_are_gone(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    async with a_ring(make_node, kube, store) as ring:
        pods = ring.pods()
        await begun(*pods)
        await ring.saves(*pods, leave_running=True)
        for pod in pods:
            await proves(pod.jobs["main"])  # what comes after the set
            kube.remove(PODS, pod.name, namespace=NAMESPACE)
            os.kill(pod.jobs["main"].launcher_pid, signal.SIGKILL)
        new = ring.pods()
        await resumes(kube, *new)
        for pod in new:
            assert await prove(pod.jobs["main"]) == "proved 2"


async def test_when_not_all_come_those_that_have_begin_from_the_beginning_and_say_why(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    async with a_ring(make_node, kube, store, group_gather_s=2.0) as ring:
        pods = ring.pods()
        await begun(*pods)
        await ring.saves(*pods)
        await ring.ends(*pods)
        first, second = ring.pods()
        await first.run()
        assert "rank-1 not waiting within 2 s" in await hears(kube, first, "ColdStart")
        await second.run()
        assert "was not resumed" in await hears(kube, second, "ColdStart")
        for pod in (first, second):
            await prove_afresh(pod.jobs["main"])


async def test_when_one_cannot_be_restored_nothing_of_the_others_goes_on_either(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    async with a_ring(make_node, kube, store) as ring:
        pods = ring.pods()
        await begun(*pods)
        await ring.saves(*pods)
        await ring.ends(*pods)
        for info in list(store.list(f"{_of(store, 'rank-1')}/chunks/")):
            store.put(info.key, b"damaged")
        new = ring.pods()
        for pod in new:
            await pod.run()
        for pod in new:
            await hears(kube, pod, "ColdStart")
            await prove_afresh(pod.jobs["main"])
            assert "Restored" not in events_of(kube, pod)
        assert "rank-1" in events_of(kube, new[0])["RestoreFailed"]
        for workload in list_workloads(store):
            assert all(found.quarantine for found in Checkpoints(store, workload).list() if found.claim)


async def test_a_set_that_was_not_completed_is_passed_over_for_the_one_before(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    async with a_ring(make_node, kube, store, group_wait_s=1.0, origin_wait_s=2.0) as ring:
        pods = ring.pods()
        await begun(*pods)
        await ring.saves(*pods, leave_running=True)
        (name,) = ring.order(*pods, set_id="s2", only=1)
        await ring.desk.reaches(name, OrderPhase.FAILED)
        for pod in pods:
            kube.remove(PODS, pod.name, namespace=NAMESPACE)
            os.kill(pod.jobs["main"].launcher_pid, signal.SIGKILL)
        new = ring.pods()
        await resumes(kube, *new)


async def test_saved_members_that_are_spared_run_on_together(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    async with a_ring(make_node, kube, store) as ring:
        pods = ring.pods()
        await begun(*pods)
        await ring.saves(*pods)
        for pod in pods:
            kube.remove(CHECKPOINTS, f"{pod.name}-s1", namespace=NAMESPACE)
        for pod in pods:
            await proves(pod.jobs["main"])


async def test_a_saved_member_does_not_run_on_alone_once_another_has_moved(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    async with a_ring(make_node, kube, store) as ring:
        pods = ring.pods()
        await begun(*pods)
        await ring.saves(*pods)
        await ring.ends(pods[1])
        kube.remove(CHECKPOINTS, "rank-0-s1", namespace=NAMESPACE)
        await asyncio.sleep(3)  # longer than it takes to be spared
        assert stands_still(pods[0].jobs["main"])
        await ring.ends(pods[0])
        new = ring.pods()
        await resumes(kube, *new)


async def test_when_an_agent_is_killed_the_others_stand_still_no_longer_than_it_is_silent(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    nodes = make_node("node-a"), make_node("node-b")
    ring = Ring(Desk(kube), nodes, store)
    async with at_work(settings_of(nodes[0], group_wait_s=30.0, group_silence_s=2.0), store):
        with program(nodes[1], store, env={"CRIKPY_AGENT_GROUP_SILENCE_S": "2"}) as killed:
            pods = ring.pods()
            await begun(*pods)
            ring.order(pods[1], pods[0], only=1)
            await until(lambda: said(store, "ready"), "that it is ready")
            killed.process.kill()
            (order,) = ring.order(*pods, only=1)
            assert "rank-1 has fallen silent" in (await ring.desk.reaches(order, OrderPhase.FAILED)).message
            for pod in pods:
                await proves(pod.jobs["main"])


def stands_on(pod: NodePod) -> bool:
    """Say whether anything of a pod's job is there."""
    return bool(pod.jobs["main"].members())


def said(store: ObjectStore, word: str) -> list[str]:
    """Return who has said a word about a set, as keys of the store."""
    return [info.key for info in store.list("") if f"/_group-ring/sets/s1/{word}." in info.key]


def _of(store: ObjectStore, pod: str) -> str:
    return next(str(workload) for workload in list_workloads(store) if pod in workload.name)


async def test_a_notice_of_its_own_node_saves_no_member_alone_but_with_the_group_once_that_is_ordered(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    nodes = make_node("node-a"), make_node("node-b")
    async with FakeImds().serving() as imds, contextlib.AsyncExitStack() as agents:
        for node, source in zip(nodes, (imds, None), strict=True):
            await agents.enter_async_context(at_work(settings_of(node, source, group_wait_s=10.0), store))
        ring = Ring(Desk(kube), nodes, store)
        pods = ring.pods()
        await begun(*pods)
        imds.spot(in_s=120)
        await until(lambda: "InterruptionNotice" in ring.desk.events("node-a"), "that the agent has heard")
        await proves(pods[0].jobs["main"])
        await ring.saves(*pods)
        assert all(stands_still(pod.jobs["main"]) for pod in pods)


async def test_an_agent_that_ends_in_order_keeps_the_others_no_longer(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    nodes = make_node("node-a"), make_node("node-b")
    async with at_work(settings_of(nodes[0], group_wait_s=60.0), store):
        ring = Ring(Desk(kube), nodes, store)
        pods = ring.pods()
        await begun(pods[0])
        (order,) = ring.order(*pods, only=1)
        await until(lambda: "waits for rank-1" in ring.desk.status(order).message, "that it waits for the other")
    talk = GroupSets(store, cluster=next(store.folders("")), namespace=NAMESPACE, group="ring").of("s1")
    decided = talk.decision(Question.SAVED)
    assert decided is not None
    assert "is being stopped" in decided.reason
    await proves(pods[0].jobs["main"])
