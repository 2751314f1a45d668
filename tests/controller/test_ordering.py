"""Every pod that can be saved gets exactly one order per notice; no other pod gets any."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from crikpy.controller.actions import ExpireOrder, MakeOrder
from crikpy.controller.ordering import plan_expiries, plan_orders
from crikpy.controller.planning import plan
from crikpy.controller.viewing import ClusterView
from crikpy.model.notices import Trigger
from crikpy.model.orders import OrderPhase, order_name
from crikpy.model.pods import OnRebalance, Pod
from tests.controller.clusters import (
    a_node,
    a_notice,
    a_pod,
    a_rebalance,
    a_view,
    an_order,
    at,
    with_options,
)


def orders_of(view: ClusterView) -> list[MakeOrder]:
    """Return the orders that a plan makes."""
    return [action for action in plan(view) if isinstance(action, MakeOrder)]


def test_a_final_notice_orders_every_pod_of_its_node() -> None:
    made = orders_of(
        a_view(a_node(notice=a_notice()), a_node("n2"), a_pod("a"), a_pod("b"), a_pod("c", node="n2"))
    )
    assert [action.pod.name for action in made] == ["a", "b"]
    order = made[0].order
    assert (order.namespace, order.name) == ("default", order_name("a", "a-uid", "spot-1"))
    spec = order.spec
    assert (spec.pod, spec.pod_uid, spec.node, spec.containers) == ("a", "a-uid", "n1", ("main",))
    assert (spec.trigger, spec.notice, spec.leave_running) == (Trigger.SPOT_INTERRUPTION, "spot-1", False)
    assert (spec.workload, spec.deadline) == ("pod-a", at(110))


@pytest.mark.parametrize(
    "changes",
    [
        {"deleting": True},
        {"phase": "Succeeded"},
        {"phase": "Failed"},
        {"phase": "Pending"},
        {"injected": ()},
        {"opted_in": False},
        {"node": ""},
        {"node": "n2", "started": at(-10)},
    ],
    ids=str,
)
def test_a_pod_that_cannot_be_saved_gets_none(changes: dict[str, Any]) -> None:
    assert not orders_of(a_view(a_node(notice=a_notice()), a_pod(**changes)))


@pytest.mark.parametrize("phase", OrderPhase)
def test_a_pod_gets_one_per_notice_whatever_became_of_it(phase: OrderPhase) -> None:
    node = a_node(notice=a_notice())
    assert not list(plan_orders(a_view(node, a_pod(), an_order(phase=phase))))


def test_an_order_of_one_namespace_stands_for_no_pod_of_another() -> None:
    elsewhere = an_order(a_pod(namespace="team-b"), phase=OrderPhase.PENDING)
    view = a_view(a_node(notice=a_notice()), a_pod(namespace="team-a"), elsewhere, now_s=62)
    assert [action.order.namespace for action in orders_of(view)] == ["team-a"]
    assert [action.message for action in plan_expiries(view)] == ["the pod is gone"]


def test_another_notice_is_another_order() -> None:
    made = orders_of(a_view(a_node(notice=a_notice("spot-2")), a_pod(), an_order(phase=OrderPhase.FAILED)))
    assert [action.order.spec.notice for action in made] == ["spot-2"]


def test_a_new_pod_of_an_old_name_is_another_pod() -> None:
    old, new = a_pod(uid="old"), a_pod(uid="new")
    made = orders_of(a_view(a_node(notice=a_notice()), new, an_order(old)))
    assert [action.order.spec.pod_uid for action in made] == ["new"]


def test_the_most_important_pods_come_first() -> None:
    pods = [
        a_pod("a"),
        a_pod("b", priority=10),
        a_pod("c", priority=1000, **with_options(priority=5)),
        a_pod("d", **with_options(priority=20)),
    ]
    made = orders_of(a_view(a_node(notice=a_notice()), *pods))
    assert [action.pod.name for action in made] == ["d", "b", "c", "a"]


def test_unreadable_annotations_do_not_keep_a_pod_from_being_saved() -> None:
    assert orders_of(a_view(a_node(notice=a_notice()), a_pod(options=None, fault="annotation crikpy.io/keep: …")))


def test_maintenance_is_acted_upon_shortly_before_it_begins() -> None:
    notice = a_notice(trigger=Trigger.SCHEDULED_EVENT, deadline_s=86400, action="reboot")
    node = a_node(notice=notice)
    assert not plan(a_view(node, a_pod(), now_s=86400 - 901))
    assert orders_of(a_view(node, a_pod(), now_s=86400 - 900))


def test_a_spot_interruption_is_acted_upon_at_once_however_far_its_time() -> None:
    assert orders_of(a_view(a_node(notice=a_notice(deadline_s=86400)), a_pod()))


@pytest.mark.parametrize(
    ("option", "leave_running"), [(OnRebalance.CHECKPOINT, True), (OnRebalance.MIGRATE, False)], ids=str
)
def test_a_rebalance_recommendation_means_what_the_pod_says(option: OnRebalance, leave_running: bool) -> None:
    made = orders_of(a_view(a_node(notice=a_rebalance()), a_pod(**with_options(on_rebalance=option))))
    assert [action.order.spec.leave_running for action in made] == [leave_running]
    assert made[0].order.spec.deadline is None


def test_a_pod_may_ignore_a_rebalance_recommendation_but_no_interruption() -> None:
    pod = a_pod(**with_options(on_rebalance=OnRebalance.IGNORE))
    assert not orders_of(a_view(a_node(notice=a_rebalance()), pod))
    assert orders_of(a_view(a_node(notice=a_notice()), pod))


def test_a_pod_that_migrated_to_a_node_under_a_recommendation_stays_there() -> None:
    pod = a_pod(created=at(60), **with_options(on_rebalance=OnRebalance.MIGRATE))
    made = orders_of(a_view(a_node(notice=a_rebalance()), pod, now_s=90))
    assert [action.order.spec.leave_running for action in made] == [True]


def test_past_the_deadline_only_a_node_that_lives_is_asked() -> None:
    notice = a_notice()
    assert orders_of(a_view(a_node(notice=notice), a_pod(), now_s=125))
    assert not orders_of(a_view(a_node(notice=notice, ready=False), a_pod(), now_s=125))
    assert orders_of(a_view(a_node(notice=notice, ready=False), a_pod(), now_s=115))


def test_only_a_bare_pod_that_asks_for_it_is_kept_for_being_made_again() -> None:
    def kept(pod: Pod, notice: object = None) -> list[bool]:
        return [action.recreates for action in orders_of(a_view(a_node(notice=notice or a_notice()), pod))]

    recreate = with_options(recreate=True)
    assert kept(a_pod(owner=None, **recreate)) == [True]
    assert kept(a_pod(owner=None)) == [False]
    assert kept(a_pod(**recreate)) == [False]
    assert kept(a_pod(owner=None, **recreate), a_rebalance()) == [False]


def expired(view: ClusterView) -> list[str]:
    """Return why orders are closed."""
    return [action.message for action in plan(view) if isinstance(action, ExpireOrder)]


@pytest.mark.parametrize(
    ("phase", "word"), [(OrderPhase.PENDING, "no agent of node n1"), (OrderPhase.DUMPING, "not complete in time")]
)
def test_an_order_that_nobody_answered_in_time_expires(phase: OrderPhase, word: str) -> None:
    objects = (a_node(notice=a_notice(), ready=False), a_pod(), an_order(phase=phase))
    assert not expired(a_view(*objects, now_s=169))
    assert [word in message for message in expired(a_view(*objects, now_s=171))] == [True]


def test_an_order_whose_pod_is_gone_or_over_expires_after_a_while() -> None:
    order = an_order(phase=OrderPhase.PENDING, deadline_s=None, notice="", trigger=Trigger.MANUAL)
    assert not expired(a_view(a_node(), order, now_s=30))
    assert expired(a_view(a_node(), order, now_s=90)) == ["the pod is gone"]
    assert expired(a_view(a_node(), order, a_pod(phase="Succeeded"), now_s=90)) == ["the pod has ended"]
    assert not expired(a_view(a_node(), order, a_pod(), now_s=90000))


@pytest.mark.parametrize("phase", [phase for phase in OrderPhase if phase.final])
def test_a_finished_order_never_expires(phase: OrderPhase) -> None:
    view = a_view(a_node(), an_order(phase=phase), now_s=timedelta(hours=20).total_seconds())
    assert not list(plan_expiries(view))
