"""Where a pod goes whose workload has a checkpoint waiting, and what of the pod's own wishes remains."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy import names
from crikpy.controller.placing import (
    Fit,
    find_fit,
    fitting_classes,
    prefer,
    require,
    waiting_for,
    without_placement,
)
from crikpy.model.manifest import APPLICATION_MODE
from crikpy.model.nodes import Node
from crikpy.model.orders import Order, OrderPhase
from crikpy.model.pods import Placement
from tests.controller.admitting import Json, pod_of
from tests.controller.clusters import a_node, a_pod, an_order

OLD = frozenset({"sse2", "avx"})
CLASSES = {"old": OLD, "new": OLD | {"avx512f"}, "arm": frozenset({"asimd"})}
WORKLOAD = "pod-p"


def node(name: str, cpu: str, kind: str = "m7i.large", **changes: Any) -> Node:
    features, family = CLASSES.get(cpu, frozenset()), kind.partition(".")[0]
    return a_node(name, cpu=cpu, cpu_features=features, instance_type=kind, family=family, **changes)


def order(cpu: str = "new", *, misfit: str = "", phase: OrderPhase = OrderPhase.COMPLETE, **changes: Any) -> Order:
    """Return an order for a pod of the workload that is no more."""
    made = an_order(a_pod("p"), phase=phase).order
    status = replace(made.status, misfit=misfit)
    return replace(made, namespace="team", cpu=cpu, instance_type="c7i.large", status=status, **changes)


NODES = [node("n1", "new"), node("n2", "old", "m5.large"), node("n3", "arm", "m7g.large")]


def fit(*orders: Order, nodes: list[Node] = NODES, wish: Placement = Placement.PREFER) -> Fit:
    found = find_fit(orders, nodes, CLASSES, wish)
    assert found is not None
    return found


# ---- what waits, and what fits it ------------------------------------------------------


def test_the_newest_checkpoint_of_the_workload_in_the_pods_namespace_waits() -> None:
    first, second = an_order(a_pod("p"), created_s=1).order, an_order(a_pod("p"), created_s=2).order
    mine = [replace(one, namespace="team", cpu="old") for one in (first, second)]
    others = [replace(mine[0], namespace="other"), replace(mine[0], spec=replace(first.spec, workload="pod-q"))]
    assert waiting_for(pod_of(), "team", [*mine, *others]) == [mine[1], mine[0]]


@pytest.mark.parametrize(
    ("phase", "waits"),
    [
        (OrderPhase.PENDING, True),
        (OrderPhase.DUMPING, True),
        (OrderPhase.COMPLETE, True),
        (OrderPhase.RESTORING, True),
        (OrderPhase.RESTORED, False),
        (OrderPhase.FAILED, False),
        (OrderPhase.EXPIRED, False),
    ],
)
def test_what_is_over_waits_no_more(phase: OrderPhase, waits: bool) -> None:
    assert bool(waiting_for(pod_of(), "team", [order(phase=phase)])) is waits


def test_a_job_that_has_saved_itself_may_go_anywhere() -> None:
    itself = order()
    itself = replace(itself, status=replace(itself.status, mode=APPLICATION_MODE))
    assert waiting_for(pod_of(), "team", [itself]) == []


def test_a_class_fits_one_that_offers_no_more() -> None:
    assert fitting_classes("old", CLASSES) == {"old", "new"}
    assert fitting_classes("new", CLASSES) == {"new"}
    assert fitting_classes("unknown", CLASSES) == {"unknown"}


def test_nodes_that_fit_are_named_by_class_family_and_type() -> None:
    found = fit(order("old"))
    assert (found.classes, found.families) == (("new", "old"), ("m5", "m7i"))
    assert found.types == ("c7i.large", "m5.large", "m7i.large")
    assert not found.all_nodes
    assert not found.insists


def test_of_several_checkpoints_all_count_or_the_newest() -> None:
    assert fit(order("new"), order("old")).classes == ("new",)
    assert fit(order("arm"), order("old")).classes == ("arm",)


def test_a_pod_insists_when_its_owner_does() -> None:
    assert fit(order(), wish=Placement.REQUIRE).insists
    assert fit(order("unknown"), wish=Placement.REQUIRE).insists


def test_a_pod_whose_predecessor_came_to_the_wrong_node_insists_where_there_is_a_right_one() -> None:
    assert fit(order(misfit="team/p/uid")).insists
    assert not fit(order("unknown", misfit="team/p/uid")).insists
    assert not fit(order(misfit="team/p/uid"), nodes=[node("n1", "new", ready=False), NODES[1]]).insists


def test_where_every_node_fits_nothing_need_be_said() -> None:
    assert fit(order("new"), nodes=[NODES[0]]).all_nodes
    assert not fit(order("new"), nodes=[NODES[0], a_node("unlabelled")]).all_nodes


def test_where_nothing_waits_there_is_nothing_to_fit() -> None:
    assert find_fit([], NODES, CLASSES, Placement.REQUIRE) is None


# ---- affinity --------------------------------------------------------------------------

WISHES = "preferredDuringSchedulingIgnoredDuringExecution"
DEMANDS = "requiredDuringSchedulingIgnoredDuringExecution"


def affinity_of(pod: Json) -> Json:
    found: Json = pod["spec"]["affinity"]["nodeAffinity"]
    return found


def test_a_pod_is_drawn_to_nodes_of_the_same_cpu_and_then_of_the_same_family() -> None:
    changed = prefer(pod_of(), fit(order()))
    first, second = affinity_of(changed)[WISHES]
    assert (first["weight"], second["weight"]) == (100, 50)
    assert first["preference"]["matchExpressions"] == [
        {"key": names.LABEL_CPU, "operator": "In", "values": ["new"]}
    ]
    assert second["preference"]["matchExpressions"][0]["key"] == names.LABEL_FAMILY


def test_a_pod_is_kept_to_nodes_that_fit_or_that_may_be_made_to_fit() -> None:
    known, unknown = affinity_of(require(pod_of(), fit(order())))[DEMANDS]["nodeSelectorTerms"]
    assert known["matchExpressions"] == [{"key": names.LABEL_CPU, "operator": "In", "values": ["new"]}]
    assert unknown["matchExpressions"] == [
        {"key": names.LABEL_CPU, "operator": "DoesNotExist"},
        {"key": names.LABEL_WELL_KNOWN_TYPE, "operator": "In", "values": ["c7i.large", "m7i.large"]},
    ]


def test_too_many_terms_of_the_pods_own_make_a_wish_of_it() -> None:
    terms = [{"matchExpressions": [{"key": f"zone-{number}", "operator": "Exists"}]} for number in range(11)]
    pod = pod_of(affinity={"nodeAffinity": {DEMANDS: {"nodeSelectorTerms": terms}}})
    changed = require(pod, fit(order()))
    assert affinity_of(changed)[DEMANDS] == affinity_of(pod)[DEMANDS]
    assert len(affinity_of(changed)[WISHES]) == 2


KEYS = st.sampled_from(["zone", "disk", names.LABEL_WELL_KNOWN_TYPE])
EXPRESSIONS = st.builds(
    lambda key, values: {"key": key, "operator": "In", "values": values},
    KEYS,
    st.lists(st.sampled_from(["a", "b", "m7i.large"]), min_size=1, max_size=2, unique=True),
)
TERMS = st.lists(
    st.fixed_dictionaries({"matchExpressions": st.lists(EXPRESSIONS, min_size=1, max_size=2)}), max_size=3
)
LABELS = st.fixed_dictionaries(
    {},
    optional={
        "zone": st.sampled_from("ab"),
        "disk": st.sampled_from("ab"),
        names.LABEL_CPU: st.sampled_from(["new", "old"]),
        names.LABEL_WELL_KNOWN_TYPE: st.sampled_from(["m7i.large", "m5.large"]),
    },
)


def with_terms(terms: list[Json]) -> Json:
    if not terms:
        return pod_of()
    return pod_of(affinity={"nodeAffinity": {DEMANDS: {"nodeSelectorTerms": terms}}})


def admits(pod: Json, labels: dict[str, str]) -> bool:
    """Say whether a node with these labels meets a pod's demands (core/v1 NodeSelector)."""
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    if DEMANDS not in affinity:
        return True
    return any(
        all(
            labels.get(one["key"]) in one["values"] if one["operator"] == "In" else one["key"] not in labels
            for one in term["matchExpressions"]
        )
        for term in affinity[DEMANDS]["nodeSelectorTerms"]
    )


@given(terms=TERMS, labels=LABELS)
def test_a_node_is_taken_if_and_only_if_the_pods_owner_would_take_it_and_it_fits(
    terms: list[Json], labels: dict[str, str]
) -> None:
    pod = with_terms(terms)
    fits = labels.get(names.LABEL_CPU) == "new" or (
        names.LABEL_CPU not in labels and labels.get(names.LABEL_WELL_KNOWN_TYPE) == "m7i.large"
    )
    assert admits(require(pod, fit(order())), labels) == (admits(pod, labels) and fits)


@given(terms=TERMS, way=st.sampled_from([prefer, require]))
def test_placing_again_changes_nothing_and_it_can_be_taken_back(terms: list[Json], way: Any) -> None:
    pod = with_terms(terms)
    before = copy.deepcopy(pod)
    placed = way(pod, fit(order()))
    assert pod == before
    assert way(placed, fit(order("old"))) == placed
    given_back = without_placement(placed["spec"]["affinity"])
    assert given_back == pod["spec"].get("affinity", {})


def test_what_no_node_could_ever_meet_stays_so() -> None:
    pod = with_terms([{}])
    assert require(pod, fit(order())) == pod
