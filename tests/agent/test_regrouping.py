"""What a member of a group may resume: only a part of a complete set, and only when all old pods are gone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.agent.choosing import Cold, OriginState, Resume, Wait, choose
from crikpy.agent.regrouping import Standing, companions, judged
from crikpy.flows.gathering import Candidate
from crikpy.model.groups import GroupMember
from crikpy.store.sets import SetRecord

OLD, NEW = "20250101T000000Z-00000001", "20250102T000000Z-00000002"
ALIVE, ENDING, GONE, OVER = OriginState
UIDS = ("a", "b", "c")


def a_record(*, moves: bool = True) -> SetRecord:
    members = tuple(GroupMember(pod=f"rank-{uid}", pod_uid=uid, node="n", workload=f"w-{uid}") for uid in UIDS)
    return SetRecord(group="ring", members=members, moves=moves)


COMPLETE = Standing(record=a_record(), complete=True)
OPEN = Standing(record=a_record(), open=True, why="it is not known yet")
ABANDONED = Standing(record=a_record(), why="its set was abandoned: b not stored")
SPENT = Standing(record=a_record(), complete=True, why="its set was not resumed: c not waiting")


def part(checkpoint: str, set_id: str, group: str = "ring") -> Candidate:
    return Candidate(checkpoint=checkpoint, pod="n/rank-a", pod_uid="a", group=group, set=set_id)


def chosen(standings: Mapping[str, Standing], *candidates: Candidate, group: str = "ring") -> Resume | Wait | Cold:
    return choose(judged(candidates, standings, group), {"a": GONE}, "new")


def test_the_newest_part_of_a_complete_set_is_resumed() -> None:
    new = part(NEW, "s2")
    assert chosen({"s1": COMPLETE, "s2": COMPLETE}, part(OLD, "s1"), new) == Resume(candidate=new)


def test_a_set_that_was_abandoned_is_passed_over_for_the_one_before() -> None:
    old = part(OLD, "s1")
    assert chosen({"s1": COMPLETE, "s2": ABANDONED}, old, part(NEW, "s2")) == Resume(candidate=old)


def test_a_set_that_the_others_gave_up_to_resume_has_no_older_one_tried_in_its_place() -> None:
    found = chosen({"s1": COMPLETE, "s2": SPENT}, part(OLD, "s1"), part(NEW, "s2"))
    assert isinstance(found, Cold)
    assert "c not waiting" in found.reason
    assert found.spoiled == NEW


@pytest.mark.parametrize(
    ("candidate", "group", "why"),
    [
        (part(NEW, "", group=""), "ring", "without its group"),
        (part(NEW, "s1"), "", "was saved with group ring"),
        (part(NEW, "s1"), "other", "was saved with group ring"),
    ],
)
def test_what_was_saved_with_others_or_alone_is_resumed_only_so(
    candidate: Candidate, group: str, why: str
) -> None:
    found = chosen({"s1": COMPLETE}, candidate, group=group)
    assert isinstance(found, Cold)
    assert why in found.reason


def test_a_pod_without_a_group_goes_on_as_ever() -> None:
    alone = part(NEW, "", group="")
    assert chosen({}, alone, group="") == Resume(candidate=alone)


def test_an_open_set_is_waited_for() -> None:
    assert companions(part(NEW, "s1"), OPEN, {}) == Wait(pod_uid="")
    assert companions(part(NEW, "s1"), OPEN, {"b": ALIVE}) == Wait(pod_uid="b")


def test_members_that_run_on_after_a_periodic_set_are_not_waited_for() -> None:
    standing = Standing(record=a_record(moves=False), complete=True)
    found = companions(part(NEW, "s1"), standing, {"b": ALIVE})
    assert isinstance(found, Cold)
    assert "rank-b of group ring runs on" in found.reason
    assert companions(part(NEW, "s1"), COMPLETE, {"b": ALIVE}) == Wait(pod_uid="b")


STANDINGS = st.sampled_from([COMPLETE, OPEN, ABANDONED, SPENT, Standing(record=None, complete=True)])


@given(
    standings=st.fixed_dictionaries({"s1": STANDINGS, "s2": STANDINGS}),
    states=st.dictionaries(st.sampled_from(["b", "c"]), st.sampled_from(list(OriginState))),
)
def test_nothing_is_resumed_but_of_a_complete_set_all_of_whose_old_pods_are_gone(
    standings: dict[str, Standing], states: dict[str, OriginState]
) -> None:
    choice = chosen(standings, part(OLD, "s1"), part(NEW, "s2"))
    if isinstance(choice, Resume):
        choice = companions(choice.candidate, standings[choice.candidate.set], states)
    if isinstance(choice, Resume):
        standing = standings[choice.candidate.set]
        assert standing.complete
        assert not standing.why
        assert standing.record is not None
        assert set(states.values()) <= {GONE}
