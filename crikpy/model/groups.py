"""Pods that are saved and resumed as one: what a set of checkpoints consists of, and what a member does next.

docs/groups.md has the protocol. `next_move` is all of what a member decides at each look: pure, so that what holds
for every order of events can be tried. Whoever waits, writes and obeys is elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from crikpy.model.quantities import some_of

MOST_MEMBERS: Final = 256
"""Pods of one group; as many as an order names."""

_NAMED: Final = 5
"""Members that a message names."""


class Said(StrEnum):
    """What a member says, once each; ALIVE is renewed as long as it saves, RETURNING as long as it restores."""

    ALIVE = "alive"
    READY = "ready"
    FROZEN = "frozen"
    STORED = "stored"
    WAITING = "waiting"
    RETURNING = "returning"
    RESTORED = "restored"


class Question(StrEnum):
    """What is decided once for a set, by whoever comes first."""

    SAVED = "saved"
    MOVED = "moved"
    GATHERED = "gathered"
    RESUMED = "resumed"

    @property
    def yes(self) -> str:
        """The outcome for which everything was done; every other one ends it."""
        return _YES[self]


_YES: Final = {
    Question.SAVED: "complete",
    Question.MOVED: "moves",
    Question.GATHERED: "goes",
    Question.RESUMED: "goes",
}

ABANDONED: Final = "abandoned"
STAYS: Final = "stays"

_ANSWERS: Final = {Said.STORED: Question.SAVED, Said.WAITING: Question.GATHERED, Said.RESTORED: Question.RESUMED}
"""Once all members have said the one, the other is answered with yes."""

QUESTION_OF: Final = {Said.READY: Question.SAVED, Said.FROZEN: Question.SAVED, **_ANSWERS}
"""Which question is open as long as one waits for all to say a word."""

SIGN_OF: Final = {Question.SAVED: Said.ALIVE, Question.GATHERED: Said.ALIVE, Question.RESUMED: Said.RETURNING}
"""By which sign a member is known to live as long as a question is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMember:
    """One pod of a group that is saved.

    Attributes:
        pod: its name.
        pod_uid: its UID, by which it speaks.
        node: its node.
        workload: name under which its checkpoints are kept.
    """

    pod: str
    pod_uid: str
    node: str
    workload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOrder:
    """The set that an order is a part of.

    Attributes:
        name: the group's name.
        set_id: the set's id.
        cause: the node whose event it is for, or empty.
        members: all members, the order's own pod among them.
    """

    name: str
    set_id: str
    cause: str = ""
    members: tuple[GroupMember, ...]

    def has(self, pod_uid: str) -> bool:
        """Say whether a pod is a member."""
        return any(member.pod_uid == pod_uid for member in self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided, by whom and why.

    Attributes:
        outcome: the question's `yes`, or ABANDONED, or STAYS.
        by: the pod for which it was decided.
        reason: one line for people; empty for a yes.
    """

    outcome: str
    by: str
    reason: str = ""


def abandoned(pod: str, reason: str) -> Decision:
    """Return the decision of a pod that the others wait in vain, or are not to go on."""
    return Decision(outcome=ABANDONED, by=pod, reason=f"{pod}: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One look at what the members of a set have said.

    Attributes:
        said: by word, who has said it and when, by the store's clock, aware UTC.
        decided: the questions that are answered.
    """

    said: Mapping[Said, Mapping[str, datetime]] = field(default_factory=dict)
    decided: frozenset[Question] = frozenset()

    def missing(self, word: Said, members: Iterable[str]) -> tuple[str, ...]:
        """Return who has not said a word yet."""
        heard = self.said.get(word, {})
        return tuple(sorted(member for member in members if member not in heard))

    def silent(self, sign: Said, me: str, members: Iterable[str], silence_s: float) -> tuple[str, ...]:
        """Return who gave a sign of life once, and none for longer than we; nobody before we have."""
        alive = self.said.get(sign, {})
        if me not in alive:
            return ()
        since = alive[me] - timedelta(seconds=silence_s)
        return tuple(sorted(member for member in members if member in alive and alive[member] < since))


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again in a moment; these have not spoken."""

    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pass:
    """All have said it: take the next step."""


@dataclass(frozen=True, slots=True)
class Decide:
    """Write this decision unless there is one, and obey the one that stands."""

    outcome: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Obey:
    """The question is answered already: read the decision and obey it."""


def next_move(
    word: Said, members: Mapping[str, str], seen: Seen, *, me: str, late: str = "", silence_s: float | None = None
) -> Wait | Pass | Decide | Obey:
    """Say what a member does that has said a word and waits for the others to say it.

    Args:
        word: what it has said.
        members: the names of all members' pods by their UIDs, its own among them.
        seen: what it sees now.
        me: its own UID.
        late: why it waits no longer, or empty as long as it does.
        silence_s: who has said nothing for so much longer than we is taken for dead; None asks nobody to be alive.
    """
    question = QUESTION_OF[word]
    if question in seen.decided:
        return Obey()
    missing = seen.missing(word, members)
    if not missing:
        return Decide(question.yes) if word in _ANSWERS else Pass()
    silent = () if silence_s is None else seen.silent(SIGN_OF[question], me, missing, silence_s)
    if silent:
        return Decide(ABANDONED, f"the agent of {named(members, silent)} has fallen silent before it was {word}")
    if late:
        return Decide(ABANDONED, f"{named(members, missing)} not {word} {late}")
    return Wait(missing)


def named(members: Mapping[str, str], some: Collection[str]) -> str:
    """Return members for a message, the first of them by name."""
    return some_of(sorted(members.get(uid, uid) for uid in some), _NAMED)


def set_id(namespace: str, group: str, occasion: str, members: Iterable[str]) -> str:
    """Return the id of the one set of these members, by their UIDs, for an occasion."""
    words = "\n".join((namespace, group, occasion, *sorted(members)))
    return hashlib.sha256(words.encode()).hexdigest()[:20]
