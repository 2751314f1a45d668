"""What the members of a group say to each other about one set of checkpoints, and what was decided about it.

A word is an object of its own for each member, so that nobody overwrites another's; a decision is written only if
there is none, so that of two opposite ones exactly one stands. docs/formats.md, "Records of groups", is the
authority. What follows from all this is said by crikpy.model.groups.
"""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec

from crikpy.errors import IntegrityError, ObjectNotFoundError, StoreUnavailableError, UsageError
from crikpy.model.groups import ABANDONED, Decide, Decision, GroupMember, Obey, Question, Said, Seen
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.layout import group_folder
from crikpy.store.records import now

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_SET = "set.json"
_UNREADABLE = Decision(outcome=ABANDONED, by="somebody unreadable", reason="the decision cannot be read")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRecord:
    """What a set consists of.

    Attributes:
        group: the group's name.
        members: all of them.
        moves: its jobs stay stopped afterwards.
        time: RFC 3339 time at which it was begun.
    """

    group: str
    members: tuple[GroupMember, ...]
    moves: bool
    time: str = ""

    @property
    def pods(self) -> dict[str, str]:
        """The names of the pods by their UIDs."""
        return {member.pod_uid: member.pod for member in self.members}


class GroupSets:
    """The sets of one group.

    Attributes:
        folder: the group's own, in which its records lie.
    """

    def __init__(self, store: ObjectStore, *, cluster: str, namespace: str, group: str) -> None:
        """Take a group.

        Raises:
            UsageError: its name, or another, cannot be part of a key.
        """
        self._store = store
        try:
            self.folder = Workload(cluster=cluster, namespace=namespace, name=group_folder(group))
        except ValueError as fault:
            raise UsageError(str(fault)) from fault

    def of(self, set_id: str) -> Talk:
        """Return what is said about one set.

        Raises:
            UsageError: that is not an id.
        """
        if not _PART.fullmatch(set_id):
            raise UsageError(f"{set_id!r} is not the id of a set")
        return Talk(self._store, f"{self.folder}/sets/{set_id}/")

    def ids(self) -> Iterator[str]:
        """Yield the ids of all sets of which something is there."""
        for found in self._store.folders(f"{self.folder}/sets/"):
            if _PART.fullmatch(found):
                yield found


class Talk:
    """What is said and decided about one set. Every method may be called from any thread, and asks the store."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def describe(self, record: SetRecord) -> SetRecord:
        """Write what the set consists of, unless that is there; return what stands.

        Raises:
            UsageError: what stands is of other members.
        """
        self._store.put_if_absent(self._prefix + _SET, msgspec.json.encode(record))
        found = self.record()
        if found is None or {one.pod_uid for one in found.members} != {one.pod_uid for one in record.members}:
            raise UsageError(f"the set at {self._prefix} is of other pods")
        return found

    def record(self) -> SetRecord | None:
        """Return what the set consists of; None when nobody has written that.

        Raises:
            IntegrityError: it cannot be read.
        """
        try:
            return msgspec.json.decode(self._store.get(self._prefix + _SET), type=SetRecord)
        except ObjectNotFoundError:
            return None
        except msgspec.MsgspecError as fault:
            raise IntegrityError(f"{self._prefix}{_SET} cannot be read: {fault}") from fault

    def say(self, word: Said, member: str, *, pod: str = "") -> None:
        """Say a word for a member, again if it was said."""
        self._store.put(self._key(word, member), msgspec.json.encode({"pod": pod, "time": now()}))

    def unsay(self, word: Said, member: str) -> None:
        """Take a word back."""
        self._store.delete(self._key(word, member))

    def look(self) -> Seen:
        """Return what was said so far."""
        said: defaultdict[Said, dict[str, datetime]] = defaultdict(dict)
        decided = set()
        for info in self._store.list(self._prefix):
            first, _, rest = info.key.removeprefix(self._prefix).partition(".")
            with contextlib.suppress(ValueError):  # a later release has more to say
                if rest == "json":
                    decided.add(Question(first))
                else:
                    said[Said(first)][rest] = info.modified
        return Seen(said=said, decided=frozenset(decided))

    def decision(self, question: Question) -> Decision | None:
        """Return what was decided; None when nothing is yet. One that cannot be read counts as against."""
        try:
            return msgspec.json.decode(self._store.get(self._answer(question)), type=Decision)
        except ObjectNotFoundError:
            return None
        except msgspec.MsgspecError:
            return _UNREADABLE

    def settle(self, question: Question, move: Decide | Obey, *, by: str) -> Decision:
        """Return the decision that a member obeys after such a move: the one that stands, or else its own.

        Args:
            question: what is decided.
            move: what `next_move` says.
            by: the pod for which it is decided, if it is.

        Raises:
            StoreUnavailableError: nobody knows which one stands; it may be asked again.
        """
        if isinstance(move, Obey):
            if (found := self.decision(question)) is not None:
                return found
            move = Decide(ABANDONED, "a decision was there and is gone")
        return self.decide(question, Decision(outcome=move.outcome, by=by, reason=move.reason))

    def decide(self, question: Question, decision: Decision) -> Decision:
        """Write a decision unless there is one; return the one that stands.

        Raises:
            StoreUnavailableError: nobody knows which one stands; it may be asked again.
        """
        if self._store.put_if_absent(self._answer(question), msgspec.json.encode(decision)):
            return decision
        found = self.decision(question)
        if found is None:
            raise StoreUnavailableError(f"the decision at {self._answer(question)} was there and is gone")
        return found

    def remove(self) -> None:
        """Remove all that was said, what the set consists of last."""
        for info in sorted(self._store.list(self._prefix), key=lambda info: info.key.endswith(_SET)):
            self._store.delete(info.key)

    def _key(self, word: Said, member: str) -> str:
        if not _PART.fullmatch(member):
            raise UsageError(f"{member!r} is not the UID of a pod")
        return f"{self._prefix}{word}.{member}"

    def _answer(self, question: Question) -> str:
        return f"{self._prefix}{question}.json"
