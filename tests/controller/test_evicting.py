"""Only saved pods that stand still are ended: evicted, deleted when it is late, forgotten when all is over."""

from __future__ import annotations

from typing import Any

import pytest

from crikpy import names
from crikpy.controller.actions import DeletePod, EvictPod, ForgetPod
from crikpy.controller.planning import plan
from crikpy.controller.viewing import ClusterView
from crikpy.model.nodes import Node, Taint
from crikpy.model.notices import Trigger
from crikpy.model.orders import NOT_STARTED, OrderPhase
from tests.controller.clusters import a_node, a_notice, a_pod, a_rebalance, a_view, an_order, at

MARKED: dict[str, Any] = {
    "taints": (Taint(key=names.TAINT, value="SpotInterruption", effect="NoSchedule"),),
    "unschedulable": True,
    "annotations": ((names.CORDONED, "spot-1"),),
}


def ends(view: ClusterView) -> list[EvictPod | DeletePod | ForgetPod]:
    """Return how pods are ended by a plan."""
    return [action for action in plan(view) if isinstance(action, EvictPod | DeletePod | ForgetPod)]


def a_dying_node(**changes: Any) -> Node:
    """Return a node under a final notice that bears its marks."""
    return a_node(**({"notice": a_notice()} | MARKED | changes))


def test_a_saved_pod_is_evicted() -> None:
    assert ends(a_view(a_dying_node(), a_pod(), an_order(), now_s=21)) == [
        EvictPod(pod=a_pod(), order=an_order().order)
    ]


@pytest.mark.parametrize("phase", [phase for phase in OrderPhase if phase is not OrderPhase.COMPLETE])
def test_a_pod_that_is_not_saved_is_left_alone(phase: OrderPhase) -> None:
    order = an_order(phase=phase, reason="DumpFailed")
    assert not ends(a_view(a_dying_node(), a_pod(), order, now_s=21))
    assert not ends(a_view(a_dying_node(), a_pod(), order, now_s=119))


def test_a_pod_whose_job_has_not_begun_is_evicted_since_it_waits_here_for_nothing() -> None:
    order = an_order(phase=OrderPhase.FAILED, reason=NOT_STARTED)
    assert [type(action) for action in ends(a_view(a_dying_node(), a_pod(), order, now_s=21))] == [EvictPod]


def test_a_pod_without_an_order_is_left_alone() -> None:
    assert not ends(a_view(a_dying_node(), a_pod(injected=()), now_s=119))


def test_a_pod_that_was_left_running_is_left_alone() -> None:
    assert not ends(
        a_view(a_node(notice=a_rebalance()), a_pod(), an_order(notice="rebalance-1", leave_running=True))
    )


def test_a_pod_that_migrates_is_evicted_from_a_node_that_is_only_tainted() -> None:
    taint = Taint(key=names.TAINT, value="RebalanceRecommendation", effect="PreferNoSchedule")
    node = a_node(notice=a_rebalance(), taints=(taint,))
    order = an_order(notice="rebalance-1", trigger=Trigger.REBALANCE_RECOMMENDATION, deadline_s=None)
    assert [type(action) for action in ends(a_view(node, a_pod(), order, now_s=21))] == [EvictPod]


def test_a_pod_that_was_moved_by_hand_is_evicted_without_any_notice() -> None:
    order = an_order(notice="", trigger=Trigger.MANUAL, deadline_s=None)
    assert [type(action) for action in ends(a_view(a_node(), a_pod(), order, now_s=9999))] == [EvictPod]


def test_an_order_of_one_namespace_ends_no_pod_of_another() -> None:
    theirs = a_pod(namespace="team-b")
    by_hand = an_order(a_pod(namespace="team-a"), notice="", trigger=Trigger.MANUAL, deadline_s=None)
    noticed = an_order(a_pod(namespace="team-a"))
    assert not ends(a_view(a_dying_node(), theirs, by_hand, noticed, now_s=21))


@pytest.mark.parametrize("changes", [{"deleting": True}, {"phase": "Failed"}, {"uid": "another"}], ids=str)
def test_a_pod_that_ends_already_is_not_ended_again(changes: dict[str, Any]) -> None:
    assert not ends(a_view(a_dying_node(), a_pod(**changes), an_order(), now_s=21))


def test_a_pod_is_evicted_once_its_node_takes_no_new_ones_or_cannot_be_marked() -> None:
    unmarked = a_node(notice=a_notice())
    assert not ends(a_view(unmarked, a_pod(), an_order(), now_s=29))
    assert ends(a_view(unmarked, a_pod(), an_order(), now_s=31))
    assert ends(a_view(a_node(notice=a_notice(), unschedulable=True), a_pod(), an_order(), now_s=21))


def test_in_the_last_moments_a_pod_is_deleted_instead() -> None:
    view = a_view(a_dying_node(), a_pod(), an_order(), now_s=105)
    assert ends(view) == [DeletePod(pod=a_pod(), order=an_order().order, deadline=at(120))]
    assert [type(action) for action in ends(a_view(a_dying_node(), a_pod(), an_order(), now_s=104))] == [EvictPod]


def test_a_notice_without_a_time_never_deletes() -> None:
    notice = a_notice(deadline_s=None)
    view = a_view(a_dying_node(notice=notice), a_pod(), an_order(deadline_s=None), now_s=86400)
    assert [type(action) for action in ends(view)] == [EvictPod]


def test_a_pod_whose_notice_was_withdrawn_or_replaced_stays() -> None:
    assert not ends(a_view(a_node(), a_pod(), an_order(), now_s=21))
    assert not ends(a_view(a_dying_node(notice=a_notice("spot-2")), a_pod(), an_order(), now_s=21))


def test_a_pod_whose_node_outlived_its_notice_stays() -> None:
    node = a_dying_node(heartbeat=at(400))
    assert not ends(a_view(node, a_pod(), an_order(), now_s=421))


def test_two_orders_end_a_pod_once() -> None:
    by_hand = an_order(notice="", trigger=Trigger.MANUAL)
    assert len(ends(a_view(a_dying_node(), a_pod(), an_order(), by_hand, now_s=21))) == 1


def a_silent_node(**changes: Any) -> Node:
    """Return a node from which nothing was heard since before its machine's end."""
    silence = {"ready": False, "ready_reason": "NodeStatusUnknown", "heartbeat": at(100)}
    return a_dying_node(**(silence | changes))


@pytest.mark.parametrize("changes", [{"deleting": True}, {}, {"phase": "Failed", "deleting": True}], ids=str)
def test_a_saved_pod_of_a_machine_that_is_gone_is_forgotten(changes: dict[str, Any]) -> None:
    pod = a_pod(**changes)
    assert ends(a_view(a_silent_node(), pod, an_order(), now_s=150)) == [
        ForgetPod(pod=pod, order=an_order().order)
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"ready": True},
        {"ready_reason": "KubeletNotReady"},
        {"heartbeat": at(121)},
        {"heartbeat": None},
        {"notice": a_notice(action="hibernate")},
        {"notice": a_notice(action="reboot")},
        {"notice": a_notice(action="")},
        {"notice": a_notice(trigger=Trigger.SCHEDULED_EVENT)},
        {"notice": a_notice(deadline_s=None)},
        {"notice": None},
        {"notice": a_notice("spot-2")},
    ],
    ids=str,
)
def test_no_pod_is_forgotten_while_its_machine_may_live(changes: dict[str, Any]) -> None:
    view = a_view(a_silent_node(**changes), a_pod(deleting=True), an_order(), now_s=150)
    assert not ends(view)


def test_no_pod_is_forgotten_before_its_machine_must_be_gone() -> None:
    assert not ends(a_view(a_silent_node(), a_pod(deleting=True), an_order(), now_s=149))


@pytest.mark.parametrize(
    "order",
    [
        an_order(phase=OrderPhase.FAILED),
        an_order(phase=OrderPhase.DUMPING),
        an_order(leave_running=True),
        an_order(phase=OrderPhase.RESTORED),
    ],
)
def test_no_pod_is_forgotten_whose_job_does_not_stand_still(order: Any) -> None:
    assert not any(
        isinstance(action, ForgetPod) for action in ends(a_view(a_silent_node(), a_pod(), order, now_s=150))
    )


def test_a_pod_that_ended_by_itself_on_a_lost_machine_keeps_its_object() -> None:
    assert not ends(a_view(a_silent_node(), a_pod(phase="Succeeded"), an_order(), now_s=150))
