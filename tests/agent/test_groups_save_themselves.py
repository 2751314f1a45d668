"""Groups of pods whose jobs save themselves: as one set, and nobody is asked in vain."""

from __future__ import annotations

import pytest

from crikpy import names
from crikpy.model.orders import OrderPhase
from crikpy.store.base import ObjectStore
from tests.agent.agents import expect
from tests.agent.conftest import MakeNode
from tests.agent.node import FakeNode, NodePod
from tests.agent.test_groups import GROUP, a_ring, begun
from tests.agent.whole import proves
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu

ITSELF = {**GROUP, names.MODE: "application", names.APPLICATION_DIRECTORY: "/data"}


def _rank(node: FakeNode, rank: int, *how: str) -> NodePod:
    """Bind a member that saves itself to a node."""
    volumes = {"main": {"/data": "work"}}
    return node.pod(f"rank-{rank}", job=("selfsaving", "/data", *how), annotations=ITSELF, volumes=volumes)


async def test_a_group_saves_itself_as_one_and_begins_again_with_its_files(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    async with a_ring(make_node, kube, store) as ring:
        pods = [_rank(node, rank) for rank, node in enumerate(ring.nodes)]
        await begun(*pods)
        await ring.saves(*pods)
        assert all(ring.desk.status(f"{pod.name}-s1").mode == "application" for pod in pods)
        await ring.ends(*pods)
        new = [_rank(node, rank) for rank, node in enumerate(reversed(ring.nodes))]
        for pod in new:
            await pod.run()
        for pod in new:
            assert await expect(pod.jobs["main"], "ready") == "ready at 1"


async def test_one_that_cannot_save_itself_keeps_the_others_from_being_asked(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore
) -> None:
    async with a_ring(make_node, kube, store) as ring:
        pods = [_rank(ring.nodes[0], 0), _rank(ring.nodes[1], 1, "deaf")]
        await begun(*pods)
        for order in ring.order(*pods):
            status = await ring.desk.reaches(order, OrderPhase.FAILED)
            assert "neither handles SIGTERM" in status.message
        for pod in pods:
            await proves(pod.jobs["main"])
