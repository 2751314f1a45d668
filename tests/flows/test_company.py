"""Members of a group go on together, or all are told that they do not, whatever happens to any of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from crikpy.aio.clock import Deadline
from crikpy.errors import CrikpyError, DumpError, GroupError
from crikpy.flows.company import Alone, Patience, Room, Together
from crikpy.model.groups import ABANDONED, STAYS, Decision, GroupMember, Question, Said
from crikpy.settings import StoreSettings
from crikpy.store.base import ObjectStore
from crikpy.store.opening import open_store
from crikpy.store.sets import GroupSets, SetRecord, Talk

PATIENT = Patience(wait_s=30.0, silence_s=30.0)
HASTY = Patience(wait_s=1.0, silence_s=30.0)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return a_store(tmp_path / "store")


def a_store(folder: Path) -> ObjectStore:
    made = open_store(str(folder), StoreSettings())
    made.check()
    return made


@dataclass
class Group:
    """A group whose members are saved, each in a thread of its own."""

    store: ObjectStore
    names: tuple[str, ...] = ("a", "b", "c")
    patience: Patience = PATIENT
    within_s: float = 30.0
    heard: list[str] = field(default_factory=list)

    @property
    def talk(self) -> Talk:
        return GroupSets(self.store, cluster="c", namespace="n", group="g").of("s")

    def member(
        self, name: str, question: Question = Question.SAVED, room: Room = lambda _: nullcontext()
    ) -> Together:
        members = tuple(GroupMember(pod=one, pod_uid=one, node="n", workload=one) for one in self.names)
        return Together(
            self.talk,
            SetRecord(group="g", members=members, moves=True),
            me=name,
            pod=name,
            deadline=Deadline.after(self.within_s),
            patience=self.patience,
            question=question,
            room=room,
            hear=self.heard.append,
        )

    def save(self, name: str, at: Callable[[str], None] = lambda _: None) -> str:
        """Save a member; return what it came to. `at` is called before each step."""
        try:
            with self.member(name) as company:
                for step in ("ready", "frozen", "stored"):
                    at(step)
                    getattr(company, step)()
        except GroupError as fault:
            return str(fault)
        except CrikpyError as fault:
            return f"own: {fault}"
        return "complete"


@contextmanager
def begun(group: Group, ways: dict[str, Callable[[str], None]]) -> Iterator[dict[str, Future[str]]]:
    with ThreadPoolExecutor(len(group.names)) as threads:
        yield {name: threads.submit(group.save, name, ways.get(name, lambda _: None)) for name in group.names}


def outcomes(group: Group, **ways: Callable[[str], None]) -> dict[str, str]:
    with begun(group, ways) as found:
        return {name: one.result(timeout=60) for name, one in found.items()}


def test_all_are_frozen_before_any_is_read_and_all_stored_before_any_counts(store: ObjectStore) -> None:
    order: list[tuple[str, str]] = []
    group = Group(store)

    def notes(name: str) -> Callable[[str], None]:
        return lambda step: order.append((step, name))

    found = outcomes(group, **{name: notes(name) for name in group.names})
    assert set(found.values()) == {"complete"}
    steps = [step for step, _ in order]
    # Each notes a step before it says the word; nobody begins the next one before all have noted this one.
    assert steps == ["ready"] * 3 + ["frozen"] * 3 + ["stored"] * 3
    assert group.talk.decision(Question.SAVED) is not None


@pytest.mark.parametrize("step", ["ready", "frozen", "stored"])
def test_one_that_fails_at_any_step_has_all_others_end_with_its_reason_at_once(
    store: ObjectStore, step: str
) -> None:
    def fails(at: str) -> None:
        if at == step:
            raise DumpError("it holds a device")

    found = outcomes(Group(store), b=fails)
    assert found["b"] == "own: it holds a device"
    assert all("b: it holds a device" in found[name] for name in ("a", "c"))


@pytest.mark.parametrize("step", ["ready", "frozen"])
def test_one_that_is_late_is_waited_for_no_longer_than_the_group_waits(store: ObjectStore, step: str) -> None:
    over = threading.Event()

    def dawdles(at: str) -> None:
        if at == step:
            over.wait(30)

    group = Group(store, patience=HASTY)
    with begun(group, {"b": dawdles}) as found:
        reasons = [found[name].result(timeout=30) for name in ("a", "c")]
        over.set()
        late = found["b"].result(timeout=30)
    assert all(f"b not {step}" in reason for reason in reasons)
    assert f"b not {step}" in late  # it comes to a set that is decided, and is not stopped in vain


def test_one_whose_agent_has_died_is_taken_for_dead_once_it_is_silent(store: ObjectStore) -> None:
    group = Group(store, names=("a", "b"), patience=Patience(wait_s=30.0, silence_s=1.0))
    group.talk.say(Said.READY, "b")
    group.talk.say(Said.FROZEN, "b")
    group.talk.say(Said.ALIVE, "b")
    assert "the agent of b has fallen silent" in group.save("a")


def test_the_deadline_ends_the_wait_for_what_others_have_yet_to_store(store: ObjectStore) -> None:
    group = Group(store, names=("a", "b"), within_s=2.0)
    for word in (Said.READY, Said.FROZEN, Said.ALIVE):
        group.talk.say(word, "b")
    assert "b not stored" in group.save("a")
    decided = group.talk.decision(Question.SAVED)
    assert decided is not None
    assert decided.outcome == ABANDONED


def test_who_stored_and_died_is_part_of_the_set_all_the_same(store: ObjectStore) -> None:
    group = Group(store, names=("a", "b"))
    for word in (Said.READY, Said.FROZEN, Said.STORED):
        group.talk.say(word, "b")
    assert group.save("a") == "complete"


def test_a_second_agent_never_takes_part_for_jobs_that_have_gone_on_since(
    store: ObjectStore, tmp_path: Path
) -> None:
    group = Group(store, names=("a", "b"))
    group.talk.say(Said.READY, "a")
    assert "an earlier agent" in group.save("a")
    assert group.talk.decision(Question.SAVED) is not None, "nobody waits for it"

    other = Group(a_store(tmp_path / "other"), names=("a", "b"))
    for word in (Said.READY, Said.FROZEN, Said.STORED):
        other.talk.say(word, "a")
    assert "an earlier agent" in other.save("a")
    assert other.talk.decision(Question.SAVED) is None, "what it has stored counts still"


def test_a_set_that_is_complete_already_stops_nobody_again(store: ObjectStore) -> None:
    group = Group(store, names=("a", "b"))
    group.talk.decide(Question.SAVED, Decision(outcome="complete", by="b"))
    assert "complete already" in group.save("a")


def test_people_are_told_whom_one_waits_for(store: ObjectStore) -> None:
    group = Group(store, names=("a", "b"), patience=HASTY)
    group.save("a")
    assert "is ready, waits for b" in group.heard


def test_room_is_had_from_the_freeze_to_the_end_of_storing_and_given_back_by_a_failure(
    store: ObjectStore, tmp_path: Path
) -> None:
    free = threading.Semaphore(1)

    @contextmanager
    def room(_: Deadline) -> Iterator[None]:
        with free:
            yield

    def taken() -> bool:
        if free.acquire(blocking=False):
            free.release()
            return False
        return True

    group = Group(store, names=("a",))
    with group.member("a", room=room) as company:
        company.ready()
        assert not taken()
        company.frozen()
        assert taken()
        company.stored()
        assert not taken()
    failing = Group(a_store(tmp_path / "other"), names=("a",))
    with pytest.raises(DumpError), failing.member("a", room=room) as company:
        company.ready()
        company.frozen()
        raise DumpError("no")
    assert not taken()


def test_who_reads_what_its_job_has_saved_seems_not_to_return_and_gives_no_signs_of_life_afterwards(
    store: ObjectStore,
) -> None:
    group = Group(store, names=("a",), patience=Patience(wait_s=30.0, silence_s=0.1))
    with group.member("a") as company:
        company.ready()
        with company.room():
            pass
        company.stored()
    last = group.talk.look().said
    assert Said.RETURNING not in last
    time.sleep(0.3)
    assert group.talk.look().said[Said.ALIVE] == last[Said.ALIVE]
    assert not [thread for thread in threading.enumerate() if thread.name == "pulse a"]


def test_what_is_restored_goes_on_only_when_all_are(store: ObjectStore) -> None:
    group = Group(store, names=("a", "b"))

    def restore(name: str) -> str:
        try:
            with group.member(name, Question.RESUMED) as company:
                with company.room():
                    if name == "b":
                        time.sleep(0.5)
                        raise DumpError("it does not fit")
                company.restored()
        except CrikpyError as fault:
            return str(fault)
        return "goes on"

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(restore, group.names))
    assert "b: it does not fit" in found[0]
    assert found[1] == "it does not fit"
    assert group.talk.decision(Question.SAVED) is None


def test_a_restore_waits_neither_for_one_that_has_died_on_the_way_nor_for_one_that_never_began(
    store: ObjectStore, tmp_path: Path
) -> None:
    def restores(group: Group) -> str:
        with pytest.raises(GroupError) as fault, group.member("a", Question.RESUMED) as company:
            with company.room():
                pass
            company.restored()
        return str(fault.value)

    group = Group(store, names=("a", "b"), patience=Patience(wait_s=30.0, silence_s=1.0))
    group.talk.say(Said.ALIVE, "b")  # long ago, when it was saved
    group.talk.say(Said.RETURNING, "b")
    assert "the agent of b has fallen silent" in restores(group)
    other = Group(a_store(tmp_path / "other"), names=("a", "b"), patience=HASTY)
    other.talk.say(Said.ALIVE, "b")
    assert "b not restored after" in restores(other)


def test_the_first_that_moves_or_stays_after_a_set_decides_for_all(store: ObjectStore, tmp_path: Path) -> None:
    group = Group(store, names=("a", "b"))
    assert group.member("a").leaves(ends=True)
    assert group.member("b").leaves(ends=False), "the others have moved"
    other = Group(a_store(tmp_path / "other"), names=("a", "b"))
    assert not other.member("a").leaves(ends=False)
    assert other.talk.decision(Question.MOVED) == Decision(outcome=STAYS, by="a")


def test_who_is_alone_waits_for_nobody() -> None:
    with Alone() as company:
        company.ready()
        company.frozen()
        company.stored()
        with company.room():
            company.restored()
