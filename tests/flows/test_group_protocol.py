"""Whatever the order of events: no member stands still for ever, none goes on from a part of a set, none alone.

Members of a group take one step at a time, in any order, with any delay; processes die, the store is out of reach.
Each decides by crikpy.model.groups; what it does about it is what crikpy.flows.company does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from crikpy.model.groups import (
    ABANDONED,
    QUESTION_OF,
    SIGN_OF,
    Decide,
    Obey,
    Pass,
    Question,
    Said,
    Seen,
    next_move,
)

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
WAIT_S, SILENCE_S, DEADLINE_S, INSIST_S, BEAT_S = 30, 30, 120, 60, 6
MEMBERS = {"a": "pod-a", "b": "pod-b", "c": "pod-c"}
SAVING = (Said.READY, Said.FROZEN, Said.STORED)
RESUMING = (Said.RESTORED,)


class Job(Enum):
    """RUNS before, or because the set came to nothing; FROZEN; HELD after a complete set; EMPTY: nothing of it."""

    RUNS = auto()
    FROZEN = auto()
    HELD = auto()
    EMPTY = auto()


@dataclass
class Member:
    """One process that takes a pod through a sequence of words."""

    uid: str
    words: tuple[Said, ...]
    job: Job
    word: int = -1
    since: int = 0
    beat: int = 0
    dead: bool = False
    away: bool = False
    outcome: str = ""

    @property
    def active(self) -> bool:
        """Whether it has anything left to do."""
        return not self.dead and not self.outcome


@dataclass
class Store:
    """What all see."""

    said: dict[Said, dict[str, datetime]] = field(default_factory=dict)
    decided: dict[Question, str] = field(default_factory=dict)

    def look(self) -> Seen:
        """Return what is seen of it."""
        return Seen(said={word: dict(who) for word, who in self.said.items()}, decided=frozenset(self.decided))


class Group(RuleBasedStateMachine):
    """A group that is saved, then resumed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.store = Store()
        self.members: dict[str, Member] = {}
        self.resuming = False

    @initialize()
    def begin(self) -> None:
        """Order a set."""
        self.members = {uid: Member(uid, SAVING, Job.RUNS) for uid in MEMBERS}

    # What happens.

    @rule(uid=st.sampled_from(sorted(MEMBERS)))
    def acts(self, uid: str) -> None:
        """Have a member do the next thing."""
        member = self.members[uid]
        if not member.active:
            return
        if member.away:
            self.waits_for_the_store(member)
        elif member.word < 0:
            self.steps(member)
        else:
            self.looks(member)

    @rule(seconds=st.sampled_from([1, 2, 5, 20]))
    def time_passes(self, seconds: int) -> None:
        """Pass some time; processes that live and reach the store give signs of life."""
        self.now += seconds
        for member in self.members.values():
            if member.active and not member.away and member.word >= 0:
                self.says(member, Said.RETURNING if self.resuming else Said.ALIVE)

    @rule(uid=st.sampled_from(sorted(MEMBERS)))
    def dies(self, uid: str) -> None:
        """End a process; a launcher lets its job run on, and what was being restored is gone."""
        member = self.members[uid]
        if member.dead or member.outcome:
            return
        member.dead = True
        member.job = Job.EMPTY if self.resuming else Job.RUNS

    @rule(uid=st.sampled_from(sorted(MEMBERS)), away=st.booleans())
    def store_comes_and_goes(self, uid: str, away: bool) -> None:
        """Have one not reach the store, or reach it again."""
        self.members[uid].away = away

    @rule(uid=st.sampled_from(sorted(MEMBERS)))
    def cannot(self, uid: str) -> None:
        """Have a member fail by itself, before it has said the last word."""
        member = self.members[uid]
        if member.active and member.word < len(member.words) - 1:
            self.gives_up(member)

    @rule()
    def replacements_come(self) -> None:
        """Resume a set that is complete."""
        if self.resuming or self.store.decided.get(Question.SAVED) != Question.SAVED.yes:
            return
        if any(member.active for member in self.members.values()):
            return
        self.resuming = True
        self.members = {uid: Member(uid, RESUMING, Job.EMPTY) for uid in MEMBERS}

    @rule()
    def all_is_well_again(self) -> None:
        """Let everybody who lives come to an end: all waits have one."""
        for _ in range(DEADLINE_S + INSIST_S + 2 * WAIT_S):
            self.time_passes(5)
            for uid in MEMBERS:
                self.acts(uid)
        assert not any(member.active for member in self.members.values()), "one waits for ever"
        assert not any(member.job is Job.FROZEN for member in self.members.values()), "one stands still for ever"

    # What members do.

    def says(self, member: Member, word: Said) -> None:
        self.store.said.setdefault(word, {})[member.uid] = BEGIN + timedelta(seconds=self.now)

    def steps(self, member: Member) -> None:
        """Do what comes after a word, and say the next one."""
        if member.word < 0 and member.uid in self.store.said.get(member.words[0], {}):
            member.outcome = "an earlier process took part"
            return
        member.word += 1
        member.since = self.now
        word = member.words[member.word]
        if word is Said.FROZEN:
            member.job = Job.FROZEN
        if word is Said.RESTORED:
            member.job = Job.FROZEN
        self.says(member, word)
        self.says(member, Said.RETURNING if self.resuming else Said.ALIVE)

    def looks(self, member: Member) -> None:
        word = member.words[member.word]
        bound = WAIT_S if word in (Said.READY, Said.FROZEN) else DEADLINE_S
        late = "in time" if self.now > member.since + bound else ""
        move = next_move(word, MEMBERS, self.store.look(), me=member.uid, late=late, silence_s=SILENCE_S)
        question = QUESTION_OF[word]
        if isinstance(move, Pass):
            self.steps(member)
        elif isinstance(move, Decide):
            self.obeys(member, word, self.store.decided.setdefault(question, move.outcome))
        elif isinstance(move, Obey):
            self.obeys(member, word, self.store.decided[question])

    def obeys(self, member: Member, word: Said, outcome: str) -> None:
        yes = outcome == QUESTION_OF[word].yes and word in (Said.STORED, Said.RESTORED)
        member.outcome = "goes" if yes else ABANDONED
        if word is Said.RESTORED:
            member.job = Job.RUNS if yes else Job.EMPTY
        else:
            member.job = Job.HELD if yes else Job.RUNS

    def gives_up(self, member: Member) -> None:
        question = Question.RESUMED if self.resuming else Question.SAVED
        if not member.away:
            self.store.decided.setdefault(question, ABANDONED)
        member.outcome = "gave up"
        member.job = Job.EMPTY if self.resuming else Job.RUNS

    def waits_for_the_store(self, member: Member) -> None:
        decisive = member.word == len(member.words) - 1
        bound = (DEADLINE_S if decisive else WAIT_S) + (INSIST_S if decisive else 0)
        if member.word < 0 or self.now > member.since + bound:
            member.outcome = "nobody says"
            member.job = Job.EMPTY if self.resuming else Job.RUNS

    # What must be true all the time.

    @invariant()
    def all_that_conclude_conclude_the_same(self) -> None:
        """Check that nobody takes for complete what another takes for abandoned."""
        found = {member.outcome for member in self.members.values()} & {"goes", ABANDONED}
        assert len(found) <= 1

    @invariant()
    def a_set_counts_only_if_all_have_stored_it(self) -> None:
        """Check that no part of a set is taken for the whole."""
        if self.store.decided.get(Question.SAVED) == Question.SAVED.yes:
            assert self.store.said[Said.STORED].keys() == MEMBERS.keys()
        if any(member.job is Job.HELD for member in self.members.values()):
            assert self.store.decided[Question.SAVED] == Question.SAVED.yes

    @invariant()
    def nobody_is_stored_before_all_stand_still(self) -> None:
        """Check that what is stored is of one moment."""
        if self.store.said.get(Said.STORED):
            assert self.store.said[Said.FROZEN].keys() == MEMBERS.keys()

    @invariant()
    def nobody_goes_on_before_all_are_restored(self) -> None:
        """Check that no part of a set is resumed."""
        if self.resuming and any(member.job is Job.RUNS for member in self.members.values()):
            assert self.store.said[Said.RESTORED].keys() == MEMBERS.keys()
            assert self.store.decided[Question.RESUMED] == Question.RESUMED.yes

    @invariant()
    def nobody_is_stopped_before_all_are_ready(self) -> None:
        """Check that a member that will not be saved costs the others nothing."""
        if not self.resuming and any(member.job is Job.FROZEN for member in self.members.values()):
            assert self.store.said[Said.READY].keys() == MEMBERS.keys()


def test_when_nothing_goes_wrong_all_are_saved_and_all_go_on() -> None:
    group = Group()
    group.begin()
    group.all_is_well_again()
    assert {member.job for member in group.members.values()} == {Job.HELD}
    group.replacements_come()
    assert group.resuming
    group.all_is_well_again()
    assert {member.job for member in group.members.values()} == {Job.RUNS}


TestGroup = Group.TestCase
TestGroup.settings = settings(
    max_examples=100, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_whatever_word_is_waited_for_there_is_a_sign_of_life() -> None:
    assert set(QUESTION_OF.values()) <= SIGN_OF.keys()
