"""Nodes bear our taint and our cordon exactly as long as a notice is in force; those of others stay."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy import names
from crikpy.controller.actions import MarkNode, UndoNode
from crikpy.controller.marking import plan_marks, render_marks, wanted_marks
from crikpy.kube.nodes import parse_node
from crikpy.model.nodes import Node
from crikpy.model.notices import InterruptionNotice, Trigger
from tests.controller.clusters import a_node, a_notice, a_rebalance, a_view, at
from tests.controller.merging import merge

FOREIGN = {"key": "gpu", "value": "yes", "effect": "NoExecute", "timeAdded": "2026-11-24T09:00:00Z"}
OURS = {"key": names.TAINT, "value": "SpotInterruption", "effect": "NoSchedule"}
SOFT = {"key": names.TAINT, "value": "RebalanceRecommendation", "effect": "PreferNoSchedule"}


def raw_node(
    *, taints: Any = None, unschedulable: bool = False, cordoned_for: str = "", uncordoned_for: str = ""
) -> dict[str, Any]:
    """Return a node's JSON."""
    marks = {names.CORDONED: cordoned_for, names.UNCORDONED: uncordoned_for}
    annotations = {"other.io/x": "y"} | {name: notice for name, notice in marks.items() if notice}
    spec: dict[str, Any] = {"providerID": "aws:///z/i-0"}
    if taints is not None:
        spec["taints"] = taints
    if unschedulable:
        spec["unschedulable"] = True
    metadata = {"name": "n1", "resourceVersion": "7", "annotations": annotations}
    return {"metadata": metadata, "spec": spec}


def marked(raw: dict[str, Any], notice: InterruptionNotice | None) -> dict[str, Any]:
    """Return a node's JSON with the marks for a notice."""
    patch = render_marks(raw, notice)
    assert patch is not None
    assert patch["metadata"]["resourceVersion"] == "7"
    return dict(merge(raw, patch))


def test_a_final_notice_taints_and_cordons_and_leaves_other_taints() -> None:
    after = marked(raw_node(taints=[FOREIGN]), a_notice())
    assert after["spec"]["taints"] == [FOREIGN, OURS]
    assert after["spec"]["unschedulable"] is True
    assert after["metadata"]["annotations"] == {"other.io/x": "y", names.CORDONED: "spot-1"}


def test_the_end_of_a_notice_undoes_all_of_it() -> None:
    before = raw_node(taints=[FOREIGN])
    after = marked(marked(before, a_notice()), None)
    assert after["spec"]["taints"] == [FOREIGN]
    assert not after["spec"]["unschedulable"]
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]


def test_a_node_that_somebody_else_cordoned_stays_cordoned() -> None:
    during = marked(raw_node(unschedulable=True), a_notice())
    assert names.CORDONED not in during["metadata"]["annotations"]
    assert during["spec"]["taints"] == [OURS]
    after = marked(during, None)
    assert after["spec"]["unschedulable"] is True
    assert after["spec"]["taints"] == []


def test_whoever_uncordons_by_hand_has_the_last_word_for_that_notice() -> None:
    raw = marked(raw_node(taints=[OURS], cordoned_for="spot-1"), a_notice())
    assert "unschedulable" not in raw["spec"]
    assert render_marks(raw, a_notice()) is None
    assert marked(raw, a_notice("spot-2"))["spec"]["unschedulable"] is True
    theirs = merge(raw, {"spec": {"unschedulable": True}})
    assert render_marks(theirs, a_notice()) is None
    assert marked(theirs, None)["spec"]["unschedulable"] is True


def test_our_cordon_passes_from_one_notice_to_the_next() -> None:
    raw = raw_node(taints=[OURS], unschedulable=True, cordoned_for="spot-1")
    after = marked(raw, a_notice("spot-2"))
    assert after["metadata"]["annotations"][names.CORDONED] == "spot-2"
    assert not marked(after, None)["spec"]["unschedulable"]


def test_a_rebalance_recommendation_taints_softly_and_does_not_cordon() -> None:
    after = marked(raw_node(taints=[FOREIGN]), a_rebalance())
    assert after["spec"]["taints"] == [FOREIGN, SOFT]
    assert "unschedulable" not in after["spec"]


def test_a_final_notice_after_a_recommendation_hardens_the_taint_and_the_other_way_round() -> None:
    soft = marked(raw_node(), a_rebalance())
    hard = marked(soft, a_notice())
    assert (hard["spec"]["taints"], hard["spec"]["unschedulable"]) == ([OURS], True)
    back = marked(hard, a_rebalance())
    assert (back["spec"]["taints"], back["spec"]["unschedulable"]) == ([SOFT], False)


_NOTICES = st.sampled_from([None, a_notice(), a_notice("spot-2"), a_rebalance()])
_TAINTS = st.lists(st.sampled_from([FOREIGN, OURS, SOFT]), unique_by=lambda taint: taint["effect"])
_NODES = st.builds(
    raw_node,
    taints=st.none() | _TAINTS,
    unschedulable=st.booleans(),
    cordoned_for=st.sampled_from(["", "spot-1", "spot-2"]),
    uncordoned_for=st.sampled_from(["", "spot-1", "spot-2"]),
)


@given(raw=_NODES, notice=_NOTICES)
def test_marking_once_is_enough_and_touches_nothing_else(
    raw: dict[str, Any], notice: InterruptionNotice | None
) -> None:
    patch = render_marks(raw, notice)
    after = raw if patch is None else merge(raw, patch)
    assert render_marks(after, notice) is None
    assert [taint for taint in after["spec"].get("taints") or () if taint["key"] != names.TAINT] == [
        taint for taint in raw["spec"].get("taints") or () if taint["key"] != names.TAINT
    ]
    assert after["metadata"]["annotations"]["other.io/x"] == "y"


@given(raw=_NODES, notice=_NOTICES)
def test_planning_and_acting_agree_on_what_is_to_be_done(
    raw: dict[str, Any], notice: InterruptionNotice | None
) -> None:
    node = parse_node(raw)
    view = a_view(Node(**{slot: getattr(node, slot) for slot in Node.__slots__} | {"notice": notice}))
    assert bool(list(plan_marks(view))) == (render_marks(raw, notice) is not None)


def test_the_end_of_a_notice_leaves_no_trace_in_any_case() -> None:
    wanted = wanted_marks(a_node(annotations=((names.CORDONED, "spot-1"),), unschedulable=True), None)
    assert (wanted.taints, wanted.unschedulable, wanted.cordoned_for) == ((), False, "")


def actions(node: Node, now_s: float = 0) -> list[MarkNode | UndoNode]:
    """Return what a plan does to a node's marks."""
    return list(plan_marks(a_view(node, now_s=now_s)))


def a_cordoned_node(**changes: Any) -> Node:
    """Return a node that bears the marks of a final notice."""
    marks: dict[str, Any] = {"unschedulable": True, "annotations": ((names.CORDONED, "spot-1"),)}
    return a_node(**(marks | changes))


def test_a_withdrawn_notice_is_undone() -> None:
    assert actions(a_cordoned_node()) == [UndoNode(node="n1")]


@pytest.mark.parametrize(
    ("now_s", "heartbeat_s", "ready", "undone"),
    [
        (419, 400, True, False),
        (421, 400, True, True),
        (421, 119, True, False),
        (421, 400, False, False),
    ],
)
def test_a_node_was_spared_when_it_still_reports_long_after_its_deadline(
    now_s: float, heartbeat_s: float, ready: bool, undone: bool
) -> None:
    node = a_cordoned_node(notice=a_notice(), ready=ready, heartbeat=at(heartbeat_s))
    assert (UndoNode(node="n1") in actions(node, now_s)) == undone


def test_a_notice_without_a_time_is_in_force_until_it_is_withdrawn() -> None:
    notice = a_notice(deadline_s=None)
    assert actions(a_node(notice=notice, heartbeat=at(10**7)), 10**7) == [MarkNode(node="n1", notice=notice)]


def test_maintenance_that_is_far_ahead_marks_nothing() -> None:
    far = a_notice(trigger=Trigger.SCHEDULED_EVENT, deadline_s=86400)
    assert not actions(a_node(notice=far))
    assert actions(a_node(notice=far), 86400 - 899)


def test_a_node_that_is_being_deleted_is_left_alone() -> None:
    assert not actions(a_node(notice=a_notice(), deleting=True))
