"""No job runs twice, none is begun anew that could go on: whatever happens to the pods of a workload."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from crikpy.agent.choosing import Cold, OriginState, Resume, Wait, choose, doubtful
from crikpy.flows.gathering import Candidate
from crikpy.store.records import FINISHED, Claim, Quarantine

OWN = "own"
ALIVE, ENDING, GONE, OVER = OriginState.ALIVE, OriginState.ENDING, OriginState.GONE, OriginState.OVER
CLAIM = Claim(host="h", instance="", boot_id="b", pid=1, time="", token="")
DONE = replace(CLAIM, outcome=FINISHED)
BROKEN = Quarantine(reason="it was torn", time="")


def checkpoint(
    number: int, uid: str, *, claim: Claim | None = None, quarantine: Quarantine | None = None, fault: str = ""
) -> Candidate:
    return Candidate(
        checkpoint=f"20250101T000000Z-{number:08x}",
        pod=f"ns/{uid}",
        pod_uid=uid,
        created="2025-01-01T00:00:00Z",
        claim=claim,
        quarantine=quarantine,
        fault=fault,
    )


def test_the_newest_checkpoint_of_a_pod_that_is_gone_is_resumed() -> None:
    found = [checkpoint(1, "a"), checkpoint(3, "a"), checkpoint(2, "a")]
    assert choose(found, {"a": GONE}, OWN) == Resume(candidate=found[1])


def test_of_several_that_are_gone_the_one_with_the_newest_checkpoint_is_followed() -> None:
    found = [checkpoint(1, "a"), checkpoint(2, "b")]
    assert choose(found, {"a": GONE, "b": GONE}, OWN) == Resume(candidate=found[1])
    assert choose([found[0], replace(found[1], claim=CLAIM)], {"a": GONE, "b": GONE}, OWN) == Resume(
        candidate=found[0]
    )


@pytest.mark.parametrize("state", [ALIVE, OVER])
def test_a_pod_that_lives_or_is_done_is_not_followed(state: OriginState) -> None:
    assert isinstance(choose([checkpoint(1, "a")], {"a": state}, OWN), Cold)
    assert isinstance(choose([checkpoint(1, "a")], {}, OWN), Cold)


def test_a_pod_that_is_being_ended_is_waited_for_whether_it_was_saved_or_not() -> None:
    assert choose([checkpoint(1, "a")], {"a": ENDING}, OWN) == Wait(pod_uid="a")
    assert choose([], {"a": ENDING}, OWN) == Wait(pod_uid="a")


def test_nobody_waits_for_what_is_taken_or_while_there_is_something_to_resume() -> None:
    taken = checkpoint(1, "a", claim=CLAIM)
    assert isinstance(choose([taken], {"a": ENDING}, OWN), Cold)
    ready = checkpoint(2, "b")
    assert choose([taken, ready], {"a": ENDING, "b": GONE, "c": ENDING}, OWN) == Resume(candidate=ready)


def test_what_is_older_than_a_claimed_checkpoint_is_never_resumed() -> None:
    for claim in (CLAIM, DONE):
        found = [checkpoint(1, "a"), checkpoint(2, "a", claim=claim)]
        assert isinstance(choose(found, {"a": GONE}, OWN), Cold)


def test_a_job_that_had_finished_and_began_again_can_be_resumed() -> None:
    found = [checkpoint(1, "a", claim=DONE), checkpoint(2, "a")]
    assert choose(found, {"a": GONE}, OWN) == Resume(candidate=found[1])


def test_the_one_before_a_checkpoint_that_was_never_whole_counts() -> None:
    found = [checkpoint(1, "a"), checkpoint(2, "a", quarantine=BROKEN)]
    assert choose(found, {"a": GONE}, OWN) == Resume(candidate=found[0])
    failed = [checkpoint(1, "a"), checkpoint(2, "a", quarantine=BROKEN, claim=CLAIM)]
    assert choose(failed, {"a": GONE}, OWN) == Cold(
        reason=f"checkpoint {failed[1].checkpoint} of pod ns/a is in quarantine: it was torn",
        spoiled=failed[1].checkpoint,
    )


def test_a_pods_own_checkpoint_counts_only_if_it_was_ended_for_it() -> None:
    own = checkpoint(1, OWN)
    assert choose([own], {OWN: GONE}, OWN) == Resume(candidate=own)
    assert isinstance(choose([own], {OWN: ALIVE}, OWN), Cold)
    assert isinstance(choose([own], {OWN: ENDING}, OWN), Cold)


def test_what_could_have_been_resumed_and_cannot_be_is_named() -> None:
    damaged = checkpoint(1, "a", fault="its manifest is damaged")
    assert choose([damaged], {"a": GONE}, OWN) == Cold(
        reason=f"checkpoint {damaged.checkpoint} of pod ns/a cannot be used: its manifest is damaged",
        spoiled=damaged.checkpoint,
    )
    assert choose([checkpoint(1, "a", claim=CLAIM)], {"a": GONE}, OWN) == Cold(
        reason=f"checkpoint {damaged.checkpoint} of pod ns/a was resumed before"
    )


def test_what_a_pod_made_after_somebody_took_over_from_it_is_doubtful() -> None:
    found = [checkpoint(1, "a"), checkpoint(2, "a", claim=CLAIM), checkpoint(3, "a"), checkpoint(4, "b")]
    assert doubtful(found) == {found[2].checkpoint: CLAIM}
    assert doubtful([replace(one, claim=DONE if one.claim else None) for one in found]) == {}


CANDIDATES = st.lists(
    st.builds(
        checkpoint,
        st.integers(0, 20),
        st.sampled_from(("a", "b", "c", OWN, "")),
        claim=st.sampled_from((None, CLAIM, DONE)),
        quarantine=st.sampled_from((None, BROKEN)),
        fault=st.sampled_from(("", "damaged")),
    ),
    unique_by=lambda candidate: candidate.checkpoint,
)
ORIGINS = st.dictionaries(st.sampled_from(("a", "b", "c", OWN)), st.sampled_from(OriginState))


@settings(deadline=None)
@given(CANDIDATES, ORIGINS)
def test_whatever_there_is_only_what_is_left_of_the_gone_is_resumed(
    candidates: list[Candidate], origins: dict[str, OriginState]
) -> None:
    choice = choose(candidates, origins, OWN)
    if isinstance(choice, Resume):
        chosen = choice.candidate
        assert chosen.resumable
        assert origins[chosen.pod_uid] is GONE
        later = [one for one in candidates if one.pod_uid == chosen.pod_uid and one.checkpoint > chosen.checkpoint]
        assert all(one.quarantine is not None and one.claim is None for one in later)
    if isinstance(choice, Wait):
        assert origins[choice.pod_uid] is ENDING
        assert choice.pod_uid != OWN
    if isinstance(choice, Cold) and choice.spoiled:
        assert not next(one for one in candidates if one.checkpoint == choice.spoiled).resumable


@settings(deadline=None)
@given(CANDIDATES, ORIGINS, st.randoms(use_true_random=False))
def test_the_order_of_the_checkpoints_does_not_matter(
    candidates: list[Candidate], origins: dict[str, OriginState], random: object
) -> None:
    shuffled = list(candidates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis hands out a random.Random
    assert choose(shuffled, origins, OWN) == choose(candidates, origins, OWN)


class Workload(RuleBasedStateMachine):
    """Interchangeable pods of one workload that are saved, ended, lost and replaced in every order.

    Each piece of work is a number that begins with a cold start and goes on with each resumption. At no time two
    pods may do the same one.
    """

    pods = Bundle("pods")
    ending = Bundle("ending")
    fresh = Bundle("fresh")

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.work: dict[str, int] = {}
        self.states: dict[str, OriginState] = {}
        self.checkpoints: dict[str, Candidate] = {}
        self.of_work: dict[str, int] = {}

    @rule(target=fresh)
    def create(self) -> str:
        self.made += 1
        uid = f"p{self.made}"
        self.states[uid] = ALIVE
        return uid

    @rule(target=pods, uid=consumes(fresh))
    def begin(self, uid: str) -> str:
        choice = choose(list(self.checkpoints.values()), dict(self.states), uid)
        if isinstance(choice, Resume):
            chosen = choice.candidate
            assert self.checkpoints[chosen.checkpoint].claim is None, "resumed twice"
            self.checkpoints[chosen.checkpoint] = replace(chosen, claim=CLAIM)
            self.work[uid] = self.of_work[chosen.checkpoint]
        else:
            self.made += 1
            self.work[uid] = self.made
        return uid

    @rule(uid=pods)
    def save(self, uid: str) -> None:
        if uid in self.work and self.states[uid] in (ALIVE, ENDING):
            self.made += 1
            made = checkpoint(self.made, uid)
            self.checkpoints[made.checkpoint] = made
            self.of_work[made.checkpoint] = self.work[uid]

    @rule(target=ending, uid=pods)
    def evict(self, uid: str) -> str:
        if self.states[uid] is ALIVE:
            self.states[uid] = ENDING
        return uid

    @rule(uid=ending)
    def vanish(self, uid: str) -> None:
        if self.states[uid] is ENDING:
            self.states[uid] = GONE
            self.work.pop(uid, None)

    @rule(uid=pods)
    def finish(self, uid: str) -> None:
        if self.states[uid] in (ALIVE, ENDING) and uid in self.work:
            self.states[uid] = OVER
            del self.work[uid]
            for one in [one for one in self.checkpoints.values() if one.pod_uid == uid and one.claim is None]:
                self.checkpoints[one.checkpoint] = replace(one, claim=DONE)

    @invariant()
    def nothing_is_done_by_two(self) -> None:
        assert len(set(self.work.values())) == len(self.work)


Workload.TestCase.settings = settings(deadline=None)
TestWorkload = Workload.TestCase
