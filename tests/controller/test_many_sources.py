"""One event that several sources tell of, and signs that others put on a node: what is planned for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from crikpy.controller.actions import Action, EvictPod, ForgetPod, MakeOrder, MarkNode, WithdrawReport
from crikpy.controller.planning import plan
from crikpy.kube.signals import read_signs
from crikpy.model.nodes import Node, Taint
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.model.orders import OrderPhase
from crikpy.settings import SignalSettings
from tests.controller.clusters import a_node, a_notice, a_pod, a_rebalance, a_view, an_order, at, with_options

TABLE = read_signs(SignalSettings())
KARPENTER = Taint(key="karpenter.sh/disrupted", effect="NoSchedule")
HANDLER = Taint(key="aws-node-termination-handler/spot-itn", value="event", effect="NoSchedule")
LOST = Taint(key="node.kubernetes.io/out-of-service", value="nodeshutdown", effect="NoExecute")


def reported(id: str = "spot-2", **changes: object) -> InterruptionNotice:  # noqa: A002
    """Return what a queue tells of the same spot interruption."""
    return replace(a_notice(id, deadline_s=121), source="queue:spot", **changes)  # type: ignore[arg-type]


def planned(node: Node, *others: object, now_s: float = 0) -> list[Action]:
    """Return what is planned for a cluster of one node."""
    return list(plan(a_view(node, *others, now_s=now_s, signs=TABLE)))  # type: ignore[arg-type]


def orders_in(actions: list[Action]) -> list[MakeOrder]:
    return [action for action in actions if isinstance(action, MakeOrder)]


# ---- one event -------------------------------------------------------------------------


def test_a_reported_notice_alone_is_acted_upon() -> None:
    (order,) = orders_in(planned(a_node(reported=(reported(),)), a_pod()))
    assert (order.order.spec.notice, order.order.spec.deadline) == ("spot-2", at(111))
    assert order.heard == at(0)


@pytest.mark.parametrize("first", ["spot-1", "spot-2"])
def test_a_pod_gets_one_order_for_one_event_whoever_told_of_it_first(first: str) -> None:
    node = a_node(notice=a_notice("spot-1"), reported=(reported("spot-2"),))
    assert not orders_in(planned(node, a_pod(), an_order(notice=first, phase=OrderPhase.DUMPING)))


def test_a_pod_that_was_saved_under_the_one_name_is_evicted_when_the_other_is_in_force() -> None:
    marked = (Taint(key="crikpy.io/interruption", value="SpotInterruption", effect="NoSchedule"),)
    node = a_node(
        notice=a_notice("spot-1"),
        reported=(reported("spot-2"),),
        taints=marked,
        unschedulable=True,
        annotations=(("crikpy.io/cordoned-for", "spot-2"),),
    )
    actions = planned(node, a_pod(), an_order(notice="spot-2"), now_s=30)
    assert [type(action) for action in actions] == [EvictPod]


def test_another_event_of_the_node_does_not_stop_a_pod_again() -> None:
    node = a_node(notice=a_notice("spot-1"), reported=(reported("shutdown", trigger=Trigger.NODE_SHUTDOWN),))
    assert not orders_in(planned(node, a_pod(), an_order(notice="spot-1", phase=OrderPhase.DUMPING)))
    failed = an_order(notice="spot-1", phase=OrderPhase.FAILED)
    assert not orders_in(planned(node, a_pod(), failed))
    withdrawn = replace(node, notice=None)
    assert len(orders_in(planned(withdrawn, a_pod(), failed))) == 1


def test_a_recommendation_and_then_the_real_thing_are_two_events() -> None:
    node = a_node(notice=a_rebalance(), reported=(reported(),))
    (order,) = orders_in(planned(node, a_pod(), an_order(notice="rebalance-1", leave_running=True)))
    assert not order.order.spec.leave_running


def test_an_order_names_the_cpu_and_type_of_its_node() -> None:
    (made,) = orders_in(planned(a_node(notice=a_notice(), cpu="abc", instance_type="m7i.large"), a_pod()))
    assert (made.order.cpu, made.order.instance_type) == ("abc", "m7i.large")


# ---- reports that nobody takes back ----------------------------------------------------


def test_a_report_that_its_machine_has_outlived_is_taken_back() -> None:
    node = a_node(reported=(reported(), a_rebalance()), heartbeat=at(500))
    actions = planned(node, a_pod(), now_s=500)
    assert WithdrawReport(node="n1", notice=node.reported[0]) in actions
    assert len([action for action in actions if isinstance(action, WithdrawReport)]) == 1


def test_a_report_without_a_time_is_believed_for_an_hour() -> None:
    hook = reported(trigger=Trigger.NODE_SHUTDOWN, deadline=None)
    node = a_node(reported=(hook,), heartbeat=at(3590))
    assert not any(isinstance(action, WithdrawReport) for action in planned(node, now_s=3590))
    node = replace(node, heartbeat=at(3601))
    assert any(isinstance(action, WithdrawReport) for action in planned(node, now_s=3601))


def test_a_pod_of_a_machine_that_ec2_says_has_ended_is_forgotten_once_it_is_silent() -> None:
    gone = reported(trigger=Trigger.NODE_SHUTDOWN, deadline=at(50), action="terminate")
    silent = a_node(ready=False, ready_reason="NodeStatusUnknown", reported=(gone,), heartbeat=at(40))
    pod = a_pod(deleting=True)
    order = an_order(notice="spot-2", trigger=Trigger.NODE_SHUTDOWN)
    assert any(isinstance(action, ForgetPod) for action in planned(silent, pod, order, now_s=90))
    assert not any(isinstance(action, ForgetPod) for action in planned(silent, pod, order, now_s=70))
    awake = replace(silent, heartbeat=at(60))
    assert not any(isinstance(action, ForgetPod) for action in planned(awake, pod, order, now_s=90))


def test_nothing_is_ordered_on_a_machine_that_has_ended() -> None:
    gone = reported(trigger=Trigger.NODE_SHUTDOWN, deadline=at(-5), action="terminate")
    assert not orders_in(planned(a_node(reported=(gone,)), a_pod()))


# ---- signs of others -------------------------------------------------------------------


def test_a_pod_on_a_node_that_is_being_drained_is_saved_while_it_runs_and_neither_marked_nor_evicted() -> None:
    node = a_node(taints=(KARPENTER,))
    (made,) = planned(node, a_pod(**with_options(on_rebalance="migrate")))
    assert isinstance(made, MakeOrder)
    assert (made.order.spec.trigger, made.order.spec.leave_running) == (Trigger.DRAIN, True)
    assert made.order.spec.deadline is None
    complete = an_order(notice=made.order.spec.notice, trigger=Trigger.DRAIN, leave_running=True)
    assert not planned(node, a_pod(), complete, now_s=60)


def test_a_sign_that_the_machine_stops_has_pods_saved_and_evicted_without_marks_of_ours() -> None:
    node = a_node(taints=(HANDLER,))
    (made,) = planned(node, a_pod())
    assert isinstance(made, MakeOrder)
    assert not made.order.spec.leave_running
    complete = an_order(notice=made.order.spec.notice, deadline_s=None)
    assert [type(action) for action in planned(node, a_pod(), complete, now_s=21)] == [EvictPod]


def test_a_node_under_a_sign_and_a_notice_is_marked_for_the_notice() -> None:
    actions = planned(a_node(taints=(KARPENTER,), notice=a_notice()), a_pod())
    assert [action.notice.id for action in actions if isinstance(action, MarkNode)] == ["spot-1"]
    assert [made.order.spec.notice for made in orders_in(actions)] == ["spot-1"]


@pytest.mark.parametrize(
    "node", [a_node(taints=(KARPENTER, LOST)), a_node(unschedulable=True)], ids=["lost", "cordon"]
)
def test_neither_a_lost_machine_nor_a_mere_cordon_is_a_reason_to_save(node: Node) -> None:
    assert not planned(node, a_pod())


def test_signs_that_are_switched_off_mean_nothing() -> None:
    assert not plan(a_view(a_node(taints=(KARPENTER,)), a_pod()))


def test_a_shutdown_that_kubelet_tells_of_stops_pods() -> None:
    node = a_node(ready=False, ready_message="node is shutting down", ready_since=at(-1))
    (made,) = planned(node, a_pod())
    assert isinstance(made, MakeOrder)
    assert (made.order.spec.trigger, made.order.spec.leave_running) == (Trigger.NODE_SHUTDOWN, False)


# ---- drains of single pods, and nodes that are gone -------------------------------------

EVICTED: dict[str, Any] = {"deleting": True, "disruption": "EvictionByEvictionAPI", "deletion_deadline": at(120)}


def test_an_evicted_pod_gets_an_object_that_tells_of_its_drain() -> None:
    (made,) = planned(a_node(), a_pod(**EVICTED))
    assert isinstance(made, MakeOrder)
    spec = made.order.spec
    assert (spec.trigger, spec.notice, spec.leave_running, spec.deadline) == (Trigger.DRAIN, "", False, at(117))
    assert not planned(a_node(), a_pod(**EVICTED), an_order(notice="", trigger=Trigger.DRAIN, deadline_s=117))


@pytest.mark.parametrize(
    "changes",
    [
        {"disruption": ""},
        {"injected": ()},
        {"phase": "Succeeded"},
    ],
    ids=str,
)
def test_a_pod_that_just_ends_gets_none(changes: dict[str, Any]) -> None:
    assert not orders_in(planned(a_node(), a_pod(**{**EVICTED, **changes})))


def test_a_pod_that_is_evicted_because_it_was_saved_gets_no_second_order() -> None:
    node = a_node(notice=a_notice())
    assert not orders_in(planned(node, a_pod(**EVICTED), an_order(), now_s=30))


def test_pods_of_a_node_that_was_deleted_are_saved_while_they_run() -> None:
    (made,) = planned(a_node("n2"), a_pod(node="n1"))
    assert isinstance(made, MakeOrder)
    assert (made.order.spec.trigger, made.order.spec.leave_running) == (Trigger.DRAIN, True)
    assert not planned(a_node("n2"), a_pod(node="n1", started=at(-10)))
