"""What members of a group say is heard by all, and of two decisions exactly one stands."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from crikpy.errors import IntegrityError, UsageError
from crikpy.model.groups import ABANDONED, Decision, GroupMember, Question, Said
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import list_workloads
from crikpy.store.sets import GroupSets, SetRecord, Talk

YES = Decision(outcome="complete", by="a")
NO = Decision(outcome=ABANDONED, by="b", reason="too late")


def a_record(*uids: str) -> SetRecord:
    members = tuple(GroupMember(pod=f"pod-{uid}", pod_uid=uid, node="n", workload=f"w-{uid}") for uid in uids)
    return SetRecord(group="g", members=members, moves=True)


def talk(store: ObjectStore, set_id: str = "s1") -> Talk:
    return GroupSets(store, cluster="c", namespace="n", group="g").of(set_id)


def test_a_word_is_heard_by_all_until_it_is_taken_back(store: ObjectStore) -> None:
    talk(store).say(Said.READY, "a")
    talk(store).say(Said.READY, "b")
    talk(store, "s2").say(Said.FROZEN, "a")
    assert talk(store).look().said.keys() == {Said.READY}
    assert talk(store).look().said[Said.READY].keys() == {"a", "b"}
    talk(store).unsay(Said.READY, "a")
    assert talk(store).look().said[Said.READY].keys() == {"b"}


def test_of_decisions_at_once_exactly_one_stands_and_all_are_told_the_same(store: ObjectStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda one: talk(store).decide(Question.SAVED, one), [YES, NO] * 4))
    assert len(set(found)) == 1
    assert talk(store).decision(Question.SAVED) == found[0]
    assert talk(store).look().decided == {Question.SAVED}
    assert talk(store).decision(Question.RESUMED) is None


def test_a_decision_that_cannot_be_read_counts_as_against(local_store: ObjectStore) -> None:
    local_store.put("c/n/_group-g/sets/s1/saved.json", b"{")
    assert talk(local_store).decide(Question.SAVED, YES).outcome == ABANDONED


def test_a_set_is_of_the_same_pods_for_all(local_store: ObjectStore) -> None:
    talk(local_store).describe(a_record("a", "b"))
    assert talk(local_store).describe(a_record("b", "a")).pods == {"a": "pod-a", "b": "pod-b"}
    assert talk(local_store, "s2").record() is None
    with pytest.raises(UsageError, match="of other pods"):
        talk(local_store).describe(a_record("a"))
    local_store.put("c/n/_group-g/sets/s1/set.json", b"[]")
    with pytest.raises(IntegrityError):
        talk(local_store).record()


def test_words_of_a_later_release_are_passed_over(local_store: ObjectStore) -> None:
    local_store.put("c/n/_group-g/sets/s1/dancing.a", b"{}")
    local_store.put("c/n/_group-g/sets/s1/whither.json", b"{}")
    assert not talk(local_store).look().said
    assert not talk(local_store).look().decided


@pytest.mark.parametrize("odd", ["", "../x", "a/b", ".json", "a" * 64])
def test_nothing_leads_out_of_a_sets_folder(local_store: ObjectStore, odd: str) -> None:
    with pytest.raises(UsageError):
        talk(local_store, odd)
    with pytest.raises(UsageError):
        talk(local_store).say(Said.READY, odd)


def test_the_folder_of_a_group_is_no_workload_and_is_removed_with_what_it_consists_of_last(
    local_store: ObjectStore,
) -> None:
    talk(local_store).describe(a_record("a"))
    talk(local_store).say(Said.STORED, "a")
    talk(local_store).decide(Question.SAVED, YES)
    assert list_workloads(local_store) == []
    assert list(GroupSets(local_store, cluster="c", namespace="n", group="g").ids()) == ["s1"]
    talk(local_store).remove()
    assert list(local_store.list("c/")) == []
