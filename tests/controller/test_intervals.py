"""Periodic checkpoints: when they are due, never twice, and not while something else is going on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.controller.actions import MakeOrder
from crikpy.controller.intervals import due_after, plan_intervals
from crikpy.controller.viewing import KnownOrder
from crikpy.model.notices import Trigger
from crikpy.model.orders import OrderPhase
from tests.controller.clusters import a_node, a_notice, a_pod, a_rebalance, a_view, an_order, at, with_options

INTERVAL_S = 1800.0
DUE_S = due_after("a-uid", INTERVAL_S).total_seconds()
POD = a_pod(started=at(0), **with_options(interval_s=INTERVAL_S))


def due(*objects: Any, now_s: float) -> list[MakeOrder]:
    """Return the periodic checkpoints that are due."""
    return list(plan_intervals(a_view(*objects, now_s=now_s)))


def taken(number: int, *, completed_s: float, phase: OrderPhase = OrderPhase.COMPLETE) -> KnownOrder:
    """Return an earlier periodic checkpoint."""
    return an_order(
        POD,
        notice="",
        trigger=Trigger.INTERVAL,
        leave_running=True,
        deadline_s=None,
        created_s=number,
        completed_s=completed_s,
        phase=phase,
    )


def test_the_first_is_due_an_interval_after_the_start() -> None:
    assert not due(a_node(), POD, now_s=DUE_S - 1)
    (action,) = due(a_node(), POD, now_s=DUE_S + 1)
    spec = action.order.spec
    assert (spec.trigger, spec.leave_running, spec.deadline, spec.notice) == (Trigger.INTERVAL, True, None, "")
    assert not action.recreates


def test_the_next_is_due_an_interval_after_the_last_that_ended() -> None:
    earlier = [taken(1, completed_s=2000), taken(2, completed_s=4000), taken(3, completed_s=3000)]
    assert not due(a_node(), POD, *earlier, now_s=4000 + DUE_S - 1)
    assert due(a_node(), POD, *earlier, now_s=4000 + DUE_S + 1)


def test_one_that_failed_is_not_tried_again_at_once() -> None:
    failed = taken(1, completed_s=2000, phase=OrderPhase.FAILED)
    assert not due(a_node(), POD, failed, now_s=2000 + DUE_S - 1)
    assert due(a_node(), POD, failed, now_s=2000 + DUE_S + 1)


def test_planning_twice_means_the_same_order_and_the_next_another() -> None:
    (first,), (again,) = due(a_node(), POD, now_s=DUE_S + 1), due(a_node(), POD, now_s=DUE_S + 1700)
    assert first.order.name == again.order.name
    (second,) = due(a_node(), POD, taken(1, completed_s=DUE_S + 10), now_s=9999)
    assert second.order.name != first.order.name


@given(
    uid=st.text("abcdef0123456789-", min_size=1, max_size=36),
    lateness=st.lists(st.floats(0, 10**5), min_size=1, max_size=30),
)
def test_no_two_periodic_checkpoints_of_a_pod_have_one_name(uid: str, lateness: list[float]) -> None:
    pod = a_pod(uid=uid, started=at(0), **with_options(interval_s=INTERVAL_S))
    names: set[str] = set()
    last: list[KnownOrder] = []
    now_s = 0.0
    for late_s in lateness:
        now_s += due_after(uid, INTERVAL_S).total_seconds() + late_s
        (action,) = due(a_node(), pod, *last, now_s=now_s)
        names.add(action.order.name)
        last = [an_order(pod, notice="", trigger=Trigger.INTERVAL, leave_running=True, completed_s=now_s)]
    assert len(names) == len(lateness)


@given(uid=st.text(max_size=40), interval_s=st.floats(60, 10**7))
def test_pods_are_spread_over_a_tenth_of_the_interval(uid: str, interval_s: float) -> None:
    assert interval_s * 0.999 <= due_after(uid, interval_s).total_seconds() <= interval_s * 1.101


def test_pods_that_started_together_are_not_due_together() -> None:
    dues = {round(due_after(f"pod-{number}", INTERVAL_S).total_seconds()) for number in range(20)}
    assert len(dues) > 15


@pytest.mark.parametrize(
    "node",
    [a_node(notice=a_notice()), a_node("n2"), a_node(ready=False)],
    ids=["under a final notice", "not known", "not ready"],
)
def test_a_node_that_cannot_or_must_not_takes_none(node: Any) -> None:
    assert not due(node, POD, now_s=DUE_S + 1)


def test_a_warning_or_maintenance_far_ahead_do_not_stop_them() -> None:
    far = a_notice(trigger=Trigger.SCHEDULED_EVENT, deadline_s=10**6)
    assert due(a_node(notice=a_rebalance()), POD, now_s=DUE_S + 1)
    assert due(a_node(notice=far), POD, now_s=DUE_S + 1)


def test_a_pod_that_is_saved_and_about_to_be_ended_is_not_ordered_besides() -> None:
    saved = an_order(POD, notice="rebalance-1", trigger=Trigger.REBALANCE_RECOMMENDATION, completed_s=20)
    assert not due(a_node(notice=a_rebalance()), POD, saved, now_s=20 + DUE_S)
    assert not due(
        a_node(), POD, an_order(POD, notice="", trigger=Trigger.MANUAL, completed_s=20), now_s=20 + DUE_S
    )
    assert due(a_node(), POD, saved, now_s=20 + DUE_S), "its node was spared, and it runs on"


@pytest.mark.parametrize("phase", [OrderPhase.PENDING, OrderPhase.DUMPING])
def test_a_pod_that_is_being_saved_is_not_ordered_besides(phase: OrderPhase) -> None:
    assert not due(a_node(), POD, an_order(POD, phase=phase, notice=""), now_s=DUE_S + 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"options": None},
        with_options(),
        {"started": None},
        {"phase": "Succeeded"},
        {"deleting": True},
        {"injected": ()},
    ],
    ids=str,
)
def test_a_pod_that_cannot_be_saved_or_does_not_ask_gets_none(changes: dict[str, Any]) -> None:
    pod = a_pod(**({"started": at(0)} | with_options(interval_s=INTERVAL_S) | changes))
    assert not due(a_node(), pod, now_s=10**6)
