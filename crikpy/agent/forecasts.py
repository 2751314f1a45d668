"""The plan of a node in words: events for those whose pods have to be saved in time, or cannot be.

Each is told the same thing once only, for an estimate may waver. Saves that nothing presses are not worth a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Final

from crikpy.agent.acts import Act
from crikpy.agent.planning import Plan, Planned, Urgency, Verdict
from crikpy.agent.reporting import Teller
from crikpy.agent.sizing import Sizes
from crikpy.aio.clock import Deadline
from crikpy.model.quantities import human_size

PLANNED_EVENT: Final = "SavePlanned"
UNSAVED_EVENT: Final = "NotSavedInTime"
NODE_EVENT: Final = "SavePlan"

_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


class _Word(Enum):
    """What a pod can be told."""

    PLANNED = auto()
    LAST = auto()
    UNSAVED = auto()


_WORDS: Final = {
    Verdict.RUNNING: _Word.PLANNED,
    Verdict.NEXT: _Word.PLANNED,
    Verdict.WAITS: _Word.PLANNED,
    Verdict.LAST: _Word.LAST,
    Verdict.UNSAVED: _Word.UNSAVED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Short:
    """How much time a save lacks.

    Attributes:
        needs_s: how long it takes, seconds.
        left_s: what is left from its turn until its deadline, seconds.
        others: others come before it.
    """

    needs_s: float
    left_s: float
    others: bool

    @classmethod
    def of(cls, entry: Planned, act: Act) -> _Short:
        """Read it from a plan that was just made."""
        return cls(
            needs_s=entry.needs_s,
            left_s=max(0.0, act.deadline.at - entry.begins),
            others=entry.begins > Deadline.after(1.0).at,
        )

    @property
    def now(self) -> str:
        """Say it while there is time left."""
        return f"needs {_about(self.needs_s)} and {self.left_s:.0f} s are left{self._after}"

    @property
    def then(self) -> str:
        """Say it when the time is up."""
        return f"not begun, since it needed {_about(self.needs_s)} and had {self.left_s:.0f} s{self._after}"

    @property
    def _after(self) -> str:
        return " after those before it" if self.others else ""


class Forecasts:
    """Tells what is planned."""

    def __init__(self, teller: Teller, sizes: Sizes) -> None:
        """Take who passes it on, and who knows the last checkpoint of each pod."""
        self._teller = teller
        self._sizes = sizes
        self._told: dict[str, set[_Word]] = {}
        self._short: dict[str, _Short] = {}
        """Saves that cannot be complete in time, and what was missing when that became clear."""

        self._notices: set[str] = set()

    def tell(self, made: Plan, acts: Mapping[str, Act]) -> None:
        """Tell what is news in a plan.

        Args:
            made: the plan.
            acts: the saves in it by their keys.
        """
        for entry in made.entries:
            if entry.verdict is not Verdict.UNSAVED:
                self._short.pop(entry.key, None)
            elif entry.key not in self._short:
                self._short[entry.key] = _Short.of(entry, acts[entry.key])
        pressing = [(entry, acts[entry.key]) for entry in made.entries if acts[entry.key].presses]
        tried = [act.key for entry, act in pressing if _WORDS.get(entry.verdict) in (_Word.PLANNED, _Word.LAST)]
        for entry, act in pressing:
            word = _WORDS.get(entry.verdict)
            told = self._told.setdefault(act.key, set())
            if word is None or word in told:
                continue
            if entry.verdict is Verdict.RUNNING and _Word.LAST in told:
                continue  # it was told that it would be tried
            told.add(word)
            if word is _Word.UNSAVED:
                message = f"{self._short[act.key].now}; runs on; {self._fallback(act)}"
                self._teller.tell_pod(act.pod, UNSAVED_EVENT, message, warning=True)
            else:
                place = (tried.index(act.key) + 1, len(tried))
                self._teller.tell_pod(act.pod, PLANNED_EVENT, _planned(entry, act, place))
        self._tell_node(pressing)

    def forget(self, act: Act) -> None:
        """Forget what was told of a save that waits no longer."""
        self._told.pop(act.key, None)
        self._short.pop(act.key, None)

    def forget_notice(self, notice: str) -> None:
        """Forget what the node was told of a notice that comes once more."""
        self._notices.discard(notice)

    def why_late(self, act: Act, entry: Planned | None) -> str:
        """Say why the time is up, or will be: what would have been needed, and what there was."""
        if (short := self._short.get(act.key)) is not None:
            return f"{short.then}; {self._fallback(act)}"
        if entry is None or entry.verdict in (Verdict.RUNNING, Verdict.NEXT):
            return "out of time while it waited"
        return f"out of time while others were saved first: it needed {_about(entry.needs_s)}"

    def _fallback(self, act: Act) -> str:
        last = self._sizes.last(act.session.uid)
        if last is None:
            return "no checkpoint of it is known here"
        return f"its last checkpoint is of {last.completed:%H:%M:%S} UTC"

    def _tell_node(self, pressing: list[tuple[Planned, Act]]) -> None:
        """Tell the node how many of its pods are saved for a notice, once."""
        stopping = [(entry, act) for entry, act in pressing if act.notice and act.urgency <= Urgency.FINAL]
        for notice in sorted({act.notice for _, act in stopping} - self._notices):
            found = [(entry, act) for entry, act in stopping if act.notice == notice]
            if len(found) < 2:
                continue
            self._notices.add(notice)
            words = [_WORDS.get(entry.verdict) for entry, _ in found]
            counts = {
                "in time": words.count(_Word.PLANNED),
                "tried last": words.count(_Word.LAST),
                "not in time": words.count(_Word.UNSAVED) + words.count(None),
            }
            told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
            size = human_size(sum(act.size.memory for _, act in found))
            self._teller.tell_node(NODE_EVENT, f"{len(found)} pods with {size} are to be saved: {told}")


def _planned(entry: Planned, act: Act, place: tuple[int, int]) -> str:
    number, count = place
    which = f"{_ordinal(number)} of {_count(count)}, " if count > 1 else ""
    takes = f"{human_size(act.size.memory)} in {_about(entry.needs_s)}"
    if _WORDS[entry.verdict] is _Word.LAST:
        left_s = max(0.0, act.deadline.at - entry.begins)
        return f"{which}tried after what surely fits: {takes}, and {left_s:.0f} s are left"
    return f"{which}{takes}, to be complete by {_clock(entry.ends)} UTC"


def _about(seconds: float) -> str:
    return f"about {max(1.0, seconds):.0f} s"


def _clock(at: float) -> str:
    """Return a monotonic time as people read it."""
    when = datetime.now(UTC) + timedelta(seconds=Deadline(at).remaining())
    return f"{when:%H:%M:%S}"


def _ordinal(number: int) -> str:
    return _ORDINALS[number - 1] if number <= len(_ORDINALS) else f"number {number}"


def _count(number: int) -> str:
    words = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return words[number - 1] if number <= len(words) else str(number)
