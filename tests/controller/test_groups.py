"""All pods of a group are ordered at once or none is, with one set and one deadline, and all follow the first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.controller.actions import EvictPod, MakeOrder, TellNotWhole
from crikpy.controller.planning import plan
from crikpy.controller.viewing import ClusterView, KnownOrder
from crikpy.model.groups import GroupOrder
from crikpy.model.notices import Trigger
from crikpy.model.orders import OrderPhase
from crikpy.model.pods import Pod
from tests.controller.clusters import a_node, a_notice, a_pod, a_rebalance, a_view, an_order, at, with_options
from tests.controller.test_evicting import MARKED

NODES = tuple(a_node(f"n{number}") for number in (1, 2, 3))
DYING = (replace(NODES[0], notice=a_notice()), *NODES[1:])


def members(count: int = 3, **changes: Any) -> list[Pod]:
    """Return the pods of a group, one on each node."""
    made = [a_pod(f"rank-{rank}", node=f"n{rank + 1}", group="ring") for rank in range(count)]
    return [replace(pod, **changes) for pod in made]


def orders(view: ClusterView) -> list[MakeOrder]:
    return [action for action in plan(view) if isinstance(action, MakeOrder)]


def told(view: ClusterView) -> list[TellNotWhole]:
    return [action for action in plan(view) if isinstance(action, TellNotWhole)]


def made(*actions: MakeOrder, **changes: Any) -> list[KnownOrder]:
    """Return the objects that a controller has made, their statuses changed so."""
    return [
        KnownOrder(order=replace(one.order, created=at(1), status=replace(one.order.status, **changes)))
        for one in actions
    ]


def groups(found: list[MakeOrder]) -> set[GroupOrder | None]:
    return {action.order.spec.group for action in found}


def test_a_notice_for_the_node_of_one_orders_all_as_one_set_with_its_deadline() -> None:
    found = orders(a_view(*DYING, *members()))
    assert {action.pod.name for action in found} == {"rank-0", "rank-1", "rank-2"}
    (group,) = groups(found)
    assert group is not None
    assert (group.name, group.cause) == ("ring", "n1")
    assert [member.pod for member in group.members] == ["rank-0", "rank-1", "rank-2"]
    assert {action.order.spec.deadline for action in found} == {at(110)}
    assert {(action.order.spec.notice, action.order.spec.leave_running) for action in found} == {("spot-1", False)}
    assert {action.order.spec.node for action in found} == {"n1", "n2", "n3"}


def test_the_earliest_deadline_of_all_members_nodes_counts() -> None:
    nodes = (
        replace(NODES[0], notice=a_notice("late", deadline_s=600)),
        replace(NODES[1], notice=a_notice("soon", deadline_s=100)),
        NODES[2],
    )
    assert {action.order.spec.deadline for action in orders(a_view(*nodes, *members()))} == {at(90)}


@given(done=st.sets(st.integers(0, 2)), phase=st.sampled_from([OrderPhase.PENDING, OrderPhase.DUMPING]))
def test_what_was_left_half_made_is_completed_as_the_same_set_and_nothing_is_made_twice(
    done: set[int], phase: OrderPhase
) -> None:
    first = orders(a_view(*DYING, *members()))
    there = made(*(first[number] for number in sorted(done)), phase=phase)
    rest = orders(a_view(*DYING, *members(), *there))
    assert sorted(action.order.name for action in rest) == sorted(
        action.order.name for number, action in enumerate(first) if number not in done
    )
    assert groups([*rest, *first]) == groups(first)
    assert not orders(a_view(*DYING, *members(), *there, *made(*rest)))


def test_a_second_notice_for_another_member_makes_no_second_set() -> None:
    there = made(*orders(a_view(*DYING, *members())), phase=OrderPhase.DUMPING)
    both = (DYING[0], replace(NODES[1], notice=a_notice("spot-2", deadline_s=60)), NODES[2])
    assert not orders(a_view(*both, *members(), *there, now_s=5))


def test_a_set_that_failed_is_not_tried_again_for_its_notice() -> None:
    there = made(*orders(a_view(*DYING, *members())), phase=OrderPhase.FAILED)
    assert not orders(a_view(*DYING, *members(), *there, now_s=5))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"opted_in": False}, "rank-1 of it has not opted in"),
        ({"injected": ()}, "no container of rank-1 runs below"),
        ({"phase": "Pending"}, "rank-1 of it does not run yet"),
        ({"workload": "pod-rank-0"}, "rank-0, rank-1 cannot be told from each other"),
        ({"group_size": 4}, "3 of its 4 pods are there"),
    ],
)
def test_one_that_cannot_be_saved_keeps_all_from_being_ordered_and_all_are_told_once(
    change: dict[str, Any], why: str
) -> None:
    pods = members()
    pods[1] = replace(pods[1], **change)
    view = a_view(*DYING, *(pod for pod in pods if pod.opted_in))
    view = replace(view, strangers={pod.uid: pod for pod in pods if not pod.opted_in})
    assert not orders(view)
    messages = told(view)
    assert {action.pod.name for action in messages} == {pod.name for pod in pods if pod.opted_in}
    assert all(why in action.message for action in messages)
    known = frozenset((action.pod.uid, action.message) for action in messages)
    assert not told(replace(view, told_apart=known))


@pytest.mark.parametrize(("change", "soon"), [({"injected": ()}, True), ({"phase": "Pending"}, False)])
def test_what_cannot_change_is_told_before_there_is_any_notice(change: dict[str, Any], soon: bool) -> None:
    pods = members()
    assert bool(told(a_view(*NODES, replace(pods[0], **change), *pods[1:]))) == soon


def test_members_that_have_ended_well_count_for_the_size_and_are_not_saved() -> None:
    pods = members(group_size=3)
    pods[2] = replace(pods[2], phase="Succeeded")
    assert {action.pod.name for action in orders(a_view(*DYING, *pods))} == {"rank-0", "rank-1"}


def test_groups_of_other_namespaces_and_pods_without_one_are_none_of_its_business() -> None:
    other = [replace(pod, namespace="else", uid=f"else-{pod.uid}") for pod in members()[1:]]
    alone = a_pod("alone", node="n1")
    found = orders(a_view(*DYING, *members(), *other, alone))
    assert len(found) == 4
    assert {action.order.spec.group is None for action in found if action.pod.name == "alone"} == {True}


def test_a_rebalance_recommendation_does_to_all_what_the_one_on_the_node_asks_for() -> None:
    nodes = (replace(NODES[0], notice=a_rebalance()), *NODES[1:])
    assert {action.order.spec.leave_running for action in orders(a_view(*nodes, *members()))} == {True}


def test_a_member_that_is_drained_has_all_saved_for_good_before_it_is_killed() -> None:
    pods = members()
    pods[0] = replace(pods[0], deleting=True, disruption="EvictionByEvictionAPI", deletion_deadline=at(60))
    found = orders(a_view(*NODES, *pods))
    assert {action.order.spec.trigger for action in found} == {Trigger.DRAIN}
    assert {action.order.spec.deadline for action in found} == {at(57)}
    assert len(groups(found)) == 1
    assert not orders(a_view(*NODES, *pods, *made(*found)))


def test_the_shortest_interval_of_any_member_is_that_of_the_group() -> None:
    pods = members()
    pods[1] = replace(pods[1], **with_options(interval_s=600.0))
    pods[2] = replace(pods[2], **with_options(interval_s=7200.0))
    found = orders(a_view(*NODES, *pods))
    assert {action.order.spec.trigger for action in found} == {Trigger.INTERVAL}
    assert len(found) == 3
    there = made(*found, phase=OrderPhase.COMPLETE, completed=at(0))
    assert not orders(a_view(*NODES, *pods, *there, now_s=590))
    again = orders(a_view(*NODES, *pods, *there, now_s=700))
    assert len(again) == 3
    assert groups(again) != groups(found)


def evicted(view: ClusterView) -> set[str]:
    return {action.pod.name for action in plan(view) if isinstance(action, EvictPod)}


def test_saved_members_on_healthy_nodes_are_evicted_once_the_node_that_goes_is_marked() -> None:
    there = made(*orders(a_view(*DYING, *members())), phase=OrderPhase.COMPLETE, completed=at(20))
    assert not evicted(a_view(*DYING, *members(), *there, now_s=21))
    marked = (replace(DYING[0], **MARKED), *NODES[1:])
    assert evicted(a_view(*marked, *members(), *there, now_s=21)) == {"rank-0", "rank-1", "rank-2"}


def test_when_the_notice_is_withdrawn_nobody_is_evicted_unless_one_has_gone_already() -> None:
    there = made(*orders(a_view(*DYING, *members())), phase=OrderPhase.COMPLETE, completed=at(20))
    assert not evicted(a_view(*NODES, *members(), *there, now_s=30))
    gone = [replace(members()[0], deleting=True), *members()[1:]]
    assert evicted(a_view(*NODES, *gone, *there, now_s=30)) == {"rank-1", "rank-2"}
    assert evicted(a_view(*NODES, *members()[1:], *there, now_s=30)) == {"rank-1", "rank-2"}


def test_one_whose_agent_was_lost_follows_the_others_of_a_complete_set() -> None:
    first = orders(a_view(*DYING, *members()))
    there = [
        *made(*first[:2], phase=OrderPhase.COMPLETE, completed=at(20)),
        *made(first[2], phase=OrderPhase.FAILED, completed=at(20), reason="GroupAbandoned"),
    ]
    marked = (replace(DYING[0], **MARKED), *NODES[1:])
    assert evicted(a_view(*marked, *members(), *there, now_s=21)) == {"rank-0", "rank-1", "rank-2"}
    failed = made(*first, phase=OrderPhase.FAILED, completed=at(20), reason="GroupAbandoned")
    assert not evicted(a_view(*marked, *members(), *failed, now_s=21))


@given(
    opted=st.lists(st.booleans(), min_size=3, max_size=3),
    running=st.lists(st.booleans(), min_size=3, max_size=3),
    noticed=st.sets(st.sampled_from(["n1", "n2", "n3"])),
    size=st.integers(0, 4),
)
def test_either_all_of_a_group_are_ordered_or_none(
    opted: list[bool], running: list[bool], noticed: set[str], size: int
) -> None:
    pods = [
        replace(pod, opted_in=yes, phase="Running" if runs else "Pending", group_size=size)
        for pod, yes, runs in zip(members(), opted, running, strict=True)
    ]
    nodes = [replace(node, notice=a_notice()) if node.name in noticed else node for node in NODES]
    view = a_view(*nodes, *(pod for pod in pods if pod.opted_in))
    view = replace(view, strangers={pod.uid: pod for pod in pods if not pod.opted_in})
    found = orders(view)
    assert len(found) in (0, 3)
    assert len(groups(found)) <= 1
    assert bool(found) == (all(opted) and all(running) and bool(noticed) and size <= 3)


def test_orders_made_by_hand_for_one_pod_are_no_set() -> None:
    alone = an_order(members()[0], notice="", trigger=Trigger.MANUAL, phase=OrderPhase.PENDING)
    assert len(orders(a_view(*DYING, *members(), alone))) == 3
