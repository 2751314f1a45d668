"""Pods on nodes on which their checkpoint cannot be resumed: moved to a better place where there is one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from crikpy.controller import actions
from crikpy.controller.planning import plan
from crikpy.controller.viewing import KnownOrder
from crikpy.kube.resources import EVENTS
from crikpy.model.nodes import Node
from crikpy.model.orders import OrderPhase
from tests.controller.clusters import a_node, a_pod, a_view, an_order
from tests.controller.test_acting import Stage, stage  # noqa: F401

AVX = frozenset({"sse2", "avx"})


def node(name: str, cpu: str, features: frozenset[str] = AVX, **changes: Any) -> Node:
    return a_node(name, cpu=cpu, cpu_features=features, **changes)


def misfit_order(misfit: str = "default/b/b-uid", phase: OrderPhase = OrderPhase.COMPLETE) -> KnownOrder:
    """Return the order that saved pod a on a node with AVX, and whose successor b came to the wrong node."""
    known = an_order(a_pod("a"), phase=phase)
    status = replace(known.order.status, misfit=misfit)
    return replace(known, order=replace(known.order, cpu="avx", status=status))


def moves(*objects: Any) -> list[str]:
    """Return the names of the pods that a plan moves."""
    planned = plan(a_view(*objects))
    return [action.pod.name for action in planned if isinstance(action, actions.EvictPod) and action.misfit]


HERE = node("n2", "sse", frozenset({"sse2"}))
POD = a_pod("b", node="n2")


@pytest.mark.parametrize(
    "place", [node("n1", "avx"), node("n3", "more", AVX | {"avx512f"})], ids=["same", "better"]
)
def test_a_pod_is_moved_where_another_node_fits(place: Node) -> None:
    origin = node("n1", "avx", unschedulable=place.name != "n1")
    assert moves(HERE, origin, place, POD, misfit_order()) == ["b"]


@pytest.mark.parametrize(
    "place",
    [
        node("n1", "avx", ready=False),
        node("n1", "avx", unschedulable=True),
        node("n1", "other", frozenset({"sse2"})),
        a_node("n1"),
    ],
    ids=["not ready", "cordoned", "does not fit either", "nobody knows"],
)
def test_a_pod_stays_where_no_other_node_is_known_to_take_it(place: Node) -> None:
    assert moves(HERE, place, POD, misfit_order()) == []


@pytest.mark.parametrize(
    "pod",
    [
        replace(POD, deleting=True),
        replace(POD, phase="Failed"),
        replace(POD, uid="another"),
        replace(POD, name="c"),
    ],
    ids=["ends already", "has ended", "of the same name", "of another name"],
)
def test_nobody_else_is_moved(pod: Any) -> None:
    assert moves(HERE, node("n1", "avx"), pod, misfit_order()) == []


@pytest.mark.parametrize("phase", [OrderPhase.FAILED, OrderPhase.RESTORING, OrderPhase.RESTORED])
def test_a_pod_that_has_begun_where_it_is_stays_and_is_saved_when_it_is_drained(phase: OrderPhase) -> None:
    known = misfit_order(phase=phase)
    assert moves(HERE, node("n1", "avx"), POD, known) == []
    ending = replace(POD, deleting=True, disruption="EvictionByEvictionAPI")
    (made,) = plan(a_view(HERE, node("n1", "avx"), ending, known))
    assert isinstance(made, actions.MakeOrder)


def test_an_order_has_no_say_about_pods_of_other_namespaces() -> None:
    elsewhere = replace(POD, namespace="other")
    assert moves(HERE, node("n1", "avx"), elsewhere, misfit_order("other/b/b-uid")) == []


def test_a_pod_that_is_being_moved_is_not_saved_for_it() -> None:
    ending = replace(POD, deleting=True, disruption="EvictionByEvictionAPI")
    assert not plan(a_view(HERE, node("n1", "avx"), ending, misfit_order()))


async def test_the_eviction_does_not_ask_for_a_notice_and_people_are_told(stage: Stage) -> None:  # noqa: F811
    pod = stage.pod(name="b", node="n2")
    await stage.perform(actions.EvictPod(pod=pod, order=stage.order(pod), misfit=True))
    assert stage.ends() == {"evicted": 1.0}
    assert not stage.kube.seen("get", "nodes")
    assert not stage.kube.all(EVENTS)  # nobody runs the recorder here
