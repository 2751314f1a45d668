"""What a node tells of its CPU."""

from __future__ import annotations

from typing import Any

from crikpy import names
from crikpy.criu import compat
from crikpy.kube.nodes import parse_node
from crikpy.kube.resources import NODES
from crikpy.store.base import ObjectStore
from tests.agent.node import FakeNode
from tests.agent.whole import at_work, settings_of, until
from tests.fakes.kube import FakeKube


def metadata(kube: FakeKube, node: FakeNode) -> dict[str, Any]:
    raw = kube.get(NODES, node.name)
    assert raw is not None
    found: dict[str, Any] = raw["metadata"]
    return found


async def test_a_node_says_what_its_cpu_offers_and_which_family_it_is_of(
    node: FakeNode, store: ObjectStore, kube: FakeKube
) -> None:
    kube.update(NODES, node.name, {"metadata": {"labels": {names.LABEL_WELL_KNOWN_TYPE: "m7i.4xlarge"}}})
    here = compat.facts("")
    async with at_work(settings_of(node), store):
        await until(lambda: names.LABEL_FAMILY in metadata(kube, node).get("labels", {}), "the labels")
        await until(lambda: names.CPU_FEATURES in metadata(kube, node).get("annotations", {}), "the features")
        raw = kube.get(NODES, node.name)
        assert raw is not None
        told = parse_node(raw)
        assert (told.cpu, told.family) == (compat.cpu_class(here), "m7i")
        assert told.cpu_features == frozenset(here.cpu_features)


async def test_what_stands_there_is_not_told_again(node: FakeNode, store: ObjectStore, kube: FakeKube) -> None:
    async with at_work(settings_of(node), store):
        await until(lambda: names.CPU_FEATURES in metadata(kube, node).get("annotations", {}), "the features")
    before = len(kube.seen("patch", "nodes", subresource=""))
    async with at_work(settings_of(node), store):
        await until(lambda: len(kube.seen("patch", "nodes", subresource="")) > before, "that it is at work")
    told = [str(request.body) for request in kube.seen("patch", "nodes", subresource="")[before:]]
    assert not any(names.LABEL_CPU in body for body in told)
