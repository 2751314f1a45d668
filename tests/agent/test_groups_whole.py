"""A group with a controller and an agent on each node: from the bad news of one node to all members elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from crikpy import names
from crikpy.kube.client import KubeClient
from crikpy.kube.resources import CHECKPOINTS, PODS
from crikpy.store.base import ObjectStore
from tests.agent.agents import hears, prove
from tests.agent.conftest import MakeNode
from tests.agent.node import NAMESPACE, NodePod
from tests.agent.test_groups import EVICTED, Ring, begun
from tests.agent.whole import Desk, at_work, ends, settings_of, signal_all, until
from tests.controller.test_rounds import Leader
from tests.fakes.imds import FakeImds
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu


@contextlib.asynccontextmanager
async def a_cluster(
    make_node: MakeNode, kube: FakeKube, api: KubeClient, store: ObjectStore, imds: FakeImds
) -> AsyncIterator[Ring]:
    nodes = make_node("node-a"), make_node("node-b")
    async with contextlib.AsyncExitStack() as stack:
        for node, source in zip(nodes, (imds, None), strict=True):
            settings = settings_of(node, source, group_wait_s=10.0, group_gather_s=20.0, spare_s=600.0)
            await stack.enter_async_context(at_work(settings, store))
        leader = Leader(kube, api, settings_of(nodes[0]))
        leader.begin()
        stack.push_async_callback(leader.end)
        yield Ring(Desk(kube), nodes, store)


def is_ending(kube: FakeKube, pod: NodePod) -> bool:
    found = kube.get(PODS, pod.name, namespace=NAMESPACE)
    return found is not None and "deletionTimestamp" in found["metadata"]


async def moved(kube: FakeKube, pod: NodePod) -> None:
    """Do kubelet's part of a pod's eviction, once it is asked for."""
    await until(lambda: is_ending(kube, pod), f"that {pod.name} is evicted")
    signal_all(pod)
    assert await ends(pod.jobs["main"]) == names.EXIT_CHECKPOINTED
    kube.remove(PODS, pod.name, namespace=NAMESPACE)


async def go_on(kube: FakeKube, *pods: NodePod) -> None:
    for pod in pods:
        await pod.run()
    for pod in pods:
        await hears(kube, pod, "Restored")
        assert await prove(pod.jobs["main"]) == "proved 2"


def sets(kube: FakeKube) -> set[tuple[str, str]]:
    """Return the sets that were ordered, each with its trigger."""
    specs = [order["spec"] for order in kube.all(CHECKPOINTS)]
    return {(spec["group"]["set"], spec["trigger"]) for spec in specs}


async def test_a_notice_for_one_node_moves_all_members_off_both(
    make_node: MakeNode, kube: FakeKube, api: KubeClient, store: ObjectStore
) -> None:
    async with FakeImds().serving() as imds, a_cluster(make_node, kube, api, store, imds) as ring:
        pods = ring.pods()
        await begun(*pods)
        imds.spot(in_s=120)
        await asyncio.gather(*(moved(kube, pod) for pod in pods))
        ((_, trigger),) = sets(kube)
        assert trigger == "SpotInterruption"
        await go_on(kube, *ring.pods(ring.nodes[1], ring.nodes[1]))


async def test_the_eviction_of_one_member_has_all_saved_before_it_ends(
    make_node: MakeNode, kube: FakeKube, api: KubeClient, store: ObjectStore
) -> None:
    async with FakeImds().serving() as imds, a_cluster(make_node, kube, api, store, imds) as ring:
        pods = ring.pods()
        await begun(*pods)
        ring.desk.terminate(pods[0], disruption=EVICTED)
        assert await ends(pods[0].jobs["main"]) == names.EXIT_CHECKPOINTED
        kube.remove(PODS, pods[0].name, namespace=NAMESPACE)
        await moved(kube, pods[1])
        ((_, trigger),) = sets(kube)
        assert trigger == "Drain"
        await go_on(kube, *ring.pods(*reversed(ring.nodes)))
