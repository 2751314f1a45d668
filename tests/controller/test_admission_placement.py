"""A pod that is made while its workload's checkpoint waits: what its admission says about where it may go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from crikpy import names
from crikpy.aio.tasks import stop
from crikpy.kube.orders import render_order
from crikpy.kube.resources import CHECKPOINTS, NODES
from tests.controller.admitting import Json, pod_of
from tests.controller.clusters import a_pod, an_order
from tests.controller.objects import raw_node
from tests.controller.test_admission import World, world  # noqa: F401
from tests.controller.test_placing import DEMANDS, WISHES


def put_node(world: World, name: str, cpu: str, features: str) -> None:  # noqa: F811
    raw = raw_node(name)
    raw["metadata"] |= {
        "labels": {names.LABEL_CPU: cpu, names.LABEL_WELL_KNOWN_TYPE: "m7i.large", names.LABEL_FAMILY: "m7i"},
        "annotations": {names.CPU_FEATURES: features},
    }
    world.kube.put(NODES, raw)


@pytest.fixture
async def seeing(world: World) -> AsyncIterator[World]:  # noqa: F811
    """A world whose webhook sees two nodes, and a checkpoint of the workload that was saved on the better one."""
    put_node(world, "old", "cpu-old", "sse2 avx")
    put_node(world, "new", "cpu-new", "sse2 avx avx512f")
    order = replace(an_order(a_pod("p")).order, namespace="team", cpu="cpu-new", instance_type="m7i.large")
    world.kube.put(CHECKPOINTS, render_order(order) | {"status": {"phase": "Complete"}})
    seeing = asyncio.create_task(world.sight.run())
    async with asyncio.timeout(10):
        while not (world.sight.complete and world.sight.orders.items):  # noqa: ASYNC110 - a mirror tells nobody
            await asyncio.sleep(0.01)
    yield world
    await stop(seeing)


async def affinity(world: World, pod: Json) -> Any:  # noqa: F811
    """Return the node affinity that a pod gets, or nothing."""
    verdict = await world.pod(pod)
    assert verdict.changed is not None
    return verdict.changed["spec"].get("affinity", {}).get("nodeAffinity", {})


def placed(world: World, strength: str) -> float:  # noqa: F811
    return world.metrics.registry.get_sample_value("crikpy_placements_total", {"strength": strength}) or 0.0


async def test_a_pod_is_drawn_to_nodes_that_fit_its_checkpoint(seeing: World) -> None:
    found = await affinity(seeing, pod_of())
    assert found[WISHES][0]["preference"]["matchExpressions"][0]["values"] == ["cpu-new"]
    assert placed(seeing, "preferred") == 1


async def test_a_pod_that_insists_goes_nowhere_else(seeing: World) -> None:
    found = await affinity(seeing, pod_of(annotations={names.PLACEMENT: "require"}))
    assert found[DEMANDS]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] == ["cpu-new"]
    assert placed(seeing, "required") == 1


@pytest.mark.parametrize(
    "pod",
    [
        pod_of(annotations={names.PLACEMENT: "ignore"}),
        pod_of(nodeName="old"),
        pod_of() | {"metadata": {"name": "another", "annotations": {names.OPT_IN: "true"}}},
    ],
    ids=["does not want it", "has its node", "is of another workload"],
)
async def test_other_pods_are_not_placed(seeing: World, pod: Json) -> None:
    assert await affinity(seeing, pod) == {}


async def test_a_webhook_that_does_not_see_the_cluster_places_nobody(world: World) -> None:  # noqa: F811
    assert await affinity(world, pod_of(annotations={names.PLACEMENT: "require"})) == {}


async def test_an_unknown_wish_is_refused_by_name(seeing: World) -> None:
    verdict = await seeing.pod(pod_of(annotations={names.PLACEMENT: "somewhere", names.MISFIT: "weep"}))
    assert "crikpy.io/placement" in verdict.refusal
    assert "crikpy.io/misfit" in verdict.refusal
