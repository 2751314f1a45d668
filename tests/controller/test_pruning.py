"""Checkpoint objects go when they have served their time, and none that still means something."""

from __future__ import annotations

from typing import Any

import pytest

from crikpy.controller.actions import TellNotInjected
from crikpy.controller.pruning import plan_prunings
from crikpy.controller.warning import plan_warnings
from crikpy.model.notices import Trigger
from crikpy.model.orders import OrderPhase
from tests.controller.clusters import a_node, a_notice, a_pod, a_view, an_order, with_options

DAY_S = 86400.0


def pruned(*objects: Any, now_s: float = 100) -> list[float]:
    """Return when the objects to be deleted were made, seconds."""
    view = a_view(*objects, now_s=now_s)
    return sorted((action.order.created - view.now).total_seconds() + now_s for action in plan_prunings(view))  # type: ignore[operator]


def periodic(number: int, **changes: Any) -> Any:
    """Return a periodic checkpoint, made so many seconds from the beginning."""
    usual: dict[str, Any] = {"notice": "", "trigger": Trigger.INTERVAL, "leave_running": True, "created_s": number}
    return an_order(**(usual | changes))


@pytest.mark.parametrize("phase", [phase for phase in OrderPhase if phase.final])
def test_an_object_in_a_final_phase_goes_after_its_time(phase: OrderPhase) -> None:
    assert not pruned(a_node(), an_order(phase=phase), now_s=DAY_S + 19)
    assert pruned(a_node(), an_order(phase=phase), now_s=DAY_S + 21) == [1]


@pytest.mark.parametrize("phase", [OrderPhase.PENDING, OrderPhase.DUMPING])
def test_an_object_that_is_worked_on_stays(phase: OrderPhase) -> None:
    assert not pruned(a_node(), an_order(phase=phase), now_s=10**7)


def test_of_a_pod_as_many_are_kept_as_it_asks_for() -> None:
    orders = [periodic(number) for number in range(5)]
    assert pruned(a_node(), a_pod(**with_options(keep=3)), *orders) == [0, 1]
    assert pruned(a_node(), a_pod(), *orders) == [0, 1, 2]
    assert pruned(a_node(), *orders) == [0, 1, 2]


def test_failures_crowd_out_no_checkpoints() -> None:
    complete = [periodic(number) for number in range(2)]
    failed = [periodic(number, phase=OrderPhase.FAILED) for number in range(10, 14)]
    assert pruned(a_node(), a_pod(), *complete, *failed) == [10, 11]


def test_pods_do_not_share_their_number_even_of_one_workload() -> None:
    pods = [a_pod(name, workload="rs") for name in "abc"]
    assert not pruned(a_node(), *pods, *(an_order(pod, leave_running=True) for pod in pods))


def test_an_order_for_the_notice_that_is_told_stays_or_it_would_be_made_again() -> None:
    node = a_node(notice=a_notice(deadline_s=None))
    assert not pruned(node, an_order(), now_s=10**7)
    assert pruned(a_node(notice=a_notice("spot-2")), an_order(), now_s=10**7)


def test_an_order_that_holds_a_bare_pod_stays_until_the_pod_is_made_again() -> None:
    assert not pruned(a_node(), an_order(recreates=True), now_s=10**7)
    assert pruned(a_node(), an_order(recreates=True, phase=OrderPhase.FAILED), now_s=10**7)


def test_the_last_checkpoint_of_a_pod_with_an_interval_stays_or_the_next_would_be_due_at_once() -> None:
    orders = [periodic(number, completed_s=number) for number in range(2)]
    assert pruned(a_node(), a_pod(**with_options(interval_s=10**6)), *orders, now_s=3 * DAY_S) == [0]
    assert pruned(a_node(), a_pod(), *orders, now_s=3 * DAY_S) == [0, 1]


def test_an_order_that_keeps_a_job_standing_still_stays() -> None:
    by_hand = an_order(notice="", trigger=Trigger.MANUAL)
    assert not pruned(a_node(), a_pod(), by_hand, now_s=10**7)
    assert pruned(a_node(), by_hand, now_s=10**7)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"injected": ()}, True),
        ({}, False),
        ({"injected": (), "phase": "Succeeded"}, False),
        ({"injected": (), "deleting": True}, False),
    ],
    ids=str,
)
def test_people_are_told_of_pods_that_run_without_our_launcher(changes: dict[str, Any], told: bool) -> None:
    pod = a_pod(**changes)
    assert list(plan_warnings(a_view(pod))) == ([TellNotInjected(pod=pod)] if told else [])
    assert not list(plan_warnings(a_view(pod, warned=(pod.uid,))))
