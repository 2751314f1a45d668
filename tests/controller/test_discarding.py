"""Checkpoint objects that are being deleted go once the store holds nothing for them, and no later than that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from crikpy.controller.actions import Action, DiscardOn, KeepOrder, ReleaseOrder
from crikpy.controller.discarding import plan_discards
from crikpy.controller.planning import plan
from crikpy.controller.viewing import KnownOrder
from crikpy.model.orders import OrderPhase
from tests.controller.clusters import a_node, a_notice, a_pod, a_view, an_order, at

_WITH_BYTES = (OrderPhase.COMPLETE, OrderPhase.RESTORED, OrderPhase.FAILED)


def leaving(phase: OrderPhase = OrderPhase.COMPLETE, **changes: Any) -> KnownOrder:
    """Return an object whose deletion was asked for after 30 s."""
    usual: dict[str, Any] = {"phase": phase, "checkpoint": "c-1", "deleted_s": 30}
    return an_order(**(usual | changes))


def planned(*objects: Any, now_s: float = 40) -> list[Action]:
    """Return what is to be done."""
    return list(plan_discards(a_view(*objects, now_s=now_s)))


def able(name: str = "n1", **changes: Any) -> Any:
    """Return a node whose agent reaches the store."""
    return a_node(name, served=True, **changes)


@pytest.mark.parametrize("phase", _WITH_BYTES)
def test_the_agent_of_the_orders_own_node_is_asked_where_it_lives(phase: OrderPhase) -> None:
    known = leaving(phase)
    assert planned(able("n0"), able(), able("n2"), known) == [DiscardOn(order=known.order, node="n1")]


@pytest.mark.parametrize("own", [None, a_node(), able(ready=False), able(deleting=True)])
def test_another_is_asked_where_that_node_is_gone_or_no_agent_there_reaches_the_store(own: Any) -> None:
    known = leaving()
    objects = [able("n2"), known] + ([own] if own else [])
    assert planned(*objects) == [DiscardOn(order=known.order, node="n2")]


def test_the_work_of_many_is_shared_by_all_who_can_do_it() -> None:
    known = [leaving(pod=a_pod(f"p{number}", node="gone")) for number in range(60)]
    asked = {action.node for action in planned(able("n2"), able("n3"), *known) if isinstance(action, DiscardOn)}
    assert asked == {"n2", "n3"}


def test_a_node_whose_name_cannot_be_a_label_is_not_asked() -> None:
    assert planned(able("n" * 64), leaving()) == []


def test_nobody_is_asked_twice_and_another_one_when_the_first_has_died() -> None:
    known = leaving(discarder="n1")
    assert planned(able(), able("n2"), known) == []
    assert planned(able(ready=False), able("n2"), known) == [DiscardOn(order=known.order, node="n2")]


def test_the_jobs_that_stand_still_for_it_are_let_go_first() -> None:
    assert planned(able(), leaving(), now_s=33) == []


@pytest.mark.parametrize("phase", [OrderPhase.DUMPING, OrderPhase.RESTORING, OrderPhase.read("OfALaterRelease")])
def test_nothing_is_removed_while_it_is_written_or_read(phase: OrderPhase) -> None:
    assert planned(able(), leaving(phase)) == []


@pytest.mark.parametrize("phase", [OrderPhase.PENDING, OrderPhase.FAILED, OrderPhase.EXPIRED])
def test_an_object_for_which_nothing_was_stored_goes_at_once(phase: OrderPhase) -> None:
    known = leaving(phase, checkpoint="")
    assert planned(known, now_s=30) == [ReleaseOrder(order=known.order)]


def test_it_goes_when_the_agent_says_that_the_store_holds_nothing_any_more() -> None:
    known = leaving(discarder="n1", discarded=at(36))
    assert planned(able(), known) == [ReleaseOrder(order=known.order)]


def test_what_another_object_stands_for_too_stays_in_the_store() -> None:
    known, other = leaving(), an_order(notice="spot-2", checkpoint="c-1")
    assert planned(able(), known, other) == [ReleaseOrder(order=known.order)]


@pytest.mark.parametrize("phase", OrderPhase)
def test_no_object_holds_up_a_namespace_for_ever(phase: OrderPhase) -> None:
    (action,) = planned(leaving(phase, discarder="n1"), able(), now_s=631)
    assert isinstance(action, ReleaseOrder)
    assert action.left


def test_an_object_without_our_finalizer_is_none_of_our_business() -> None:
    assert planned(able(), leaving(kept=False)) == []


def test_an_object_made_by_hand_is_kept_like_all_others_once_something_is_stored_for_it() -> None:
    known = an_order(kept=False, checkpoint="c-1")
    assert planned(able(), known) == [KeepOrder(order=known.order)]
    assert planned(able(), an_order(kept=False, checkpoint="", phase=OrderPhase.PENDING)) == []
    assert planned(able(), replace(known, kept=True)) == []


def test_one_that_is_being_deleted_orders_nothing_and_its_pod_gets_another() -> None:
    pod, notice = a_pod(), a_notice()
    node = able(notice=notice)
    standing = plan(a_view(node, pod, an_order(pod), now_s=40))
    assert any(action.key.startswith("evict") for action in standing)
    going = plan(a_view(node, pod, leaving(pod=pod), now_s=40))
    assert not any(action.key.startswith(("evict", "delete")) for action in going)
    assert any(action.key.startswith("order") for action in going), [action.key for action in going]
