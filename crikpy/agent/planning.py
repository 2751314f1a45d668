"""Which pods of a node are saved now, which next, and which not, when the time may not suffice for all of them.

Pure: a picture of the node goes in, a plan comes out, the same one for the same picture. It knows neither a clock
nor pods, only figures; whoever asks begins what the plan says, and asks again when something has changed.

A dump takes a constant, and as long as reading all of the memory or writing what is new of it, whichever is
longer. Dumps that go on side by side share what the node can do. Figures that nobody has measured yet make the
estimate a range: by its expected end it is judged what surely fits, by its best end what is hopeless.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Urgency(IntEnum):
    """How pressing a save is; the lowest comes first."""

    PRESSING = 0
    """A SIGTERM is kept from the jobs for its sake."""

    FINAL = 1
    """The jobs stay stopped, since their machine goes away."""

    RUNNING_ON = 2
    """The jobs run on afterwards."""


class Verdict(StrEnum):
    """What a plan says of a save.

    RUNNING: under way. NEXT: to be begun now. WAITS: its turn comes, and it will be complete in time. LAST: it may
    be complete in time with luck, and is tried when nothing is left that surely will be. UNSAVED: not even with
    luck. REFUSED: it cannot be saved, whatever the time.
    """

    RUNNING = "running"
    NEXT = "next"
    WAITS = "waits"
    LAST = "last"
    UNSAVED = "unsaved"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a node can do.

    Attributes:
        read: bytes of memory per second that one dump alone reads.
        write: new bytes of memory per second that one dump alone writes, counted before they are compressed.
        overhead_s: of each dump, whatever its size.
        several: how many dumps at that rate the node bears at once; beyond, they share.
    """

    read: float
    write: float
    overhead_s: float
    several: float = 1.0

    def moving_s(self, memory: int, new: int, side_by_side: int = 1) -> float:
        """Return how long the bytes of one dump take among so many, seconds."""
        alone = max(memory / self.read, min(new, memory) / self.write)
        return alone * max(1.0, side_by_side / max(1.0, self.several))


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """How far a save is.

    Attributes:
        began: monotonic time.
        moved: bytes of memory read so far.
        seen: monotonic time at which it was so many.
    """

    began: float
    moved: int = 0
    seen: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One pod to be saved, or being saved.

    Attributes:
        key: names it in the plan; unique.
        urgency: how pressing.
        priority: higher comes first among equally pressing ones.
        since: when its work began, any clock; the most work to lose comes first among equal priorities.
        deadline: monotonic time by which it must be complete.
        memory: bytes to be read.
        new: bytes of them that are expected to be new to the store.
        least_new: bytes of them that are new at best.
        under_way: how far it is; None while it waits.
        refusal: why it cannot be saved, or empty.
    """

    key: str
    urgency: Urgency
    priority: int = 0
    since: float = 0.0
    deadline: float
    memory: int
    new: int
    least_new: int = 0
    under_way: UnderWay | None = None
    refusal: str = ""

    @property
    def rank(self) -> tuple[float, ...]:
        """Its place: the lowest comes first."""
        return (self.urgency, -self.priority, self.since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A node at one moment.

    Attributes:
        now: monotonic time.
        slots: the most dumps at once.
        expected: what the node is expected to do.
        best: what it may do with luck.
        exploring: nobody has measured yet what several dumps at once do to each other. The estimates still count
            on the worst; but where it costs nothing, as many as possible are begun, so that it becomes known.
        candidates: every save that is asked for; among equals the first one comes first.
    """

    now: float
    slots: int
    expected: Rates
    best: Rates
    exploring: bool
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What is planned for one save.

    Attributes:
        key: that of the candidate.
        verdict: what becomes of it.
        begin: it is to be begun now.
        begins: monotonic time at which its turn comes: as expected, or with luck where that is what it needs.
        ends: monotonic time at which it is expected to be complete.
        needs_s: how long it is expected to take once it has begun, seconds.
    """

    key: str
    verdict: Verdict
    begin: bool = False
    begins: float = 0.0
    ends: float = 0.0
    needs_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What becomes of every candidate.

    Attributes:
        width: how many dumps there are to be at once.
        entries: one for each candidate: those under way, then the others in the order of their turns.
    """

    width: int
    entries: tuple[Planned, ...]

    @property
    def begins(self) -> tuple[str, ...]:
        """What is to be begun now, in this order."""
        return tuple(entry.key for entry in self.entries if entry.begin)


def plan(picture: Picture) -> Plan:
    """Return the plan for a picture.

    Of what fits, the highest ranks are chosen; it is begun in the order of rank unless only another order lets all
    of it be complete in time. There are as many dumps at once as let the most important pods be saved, and then as
    let them be saved earliest: one at full speed is complete earlier than two at half.
    """
    running = [each for each in picture.candidates if each.under_way is not None]
    waiting = sorted(
        (each for each in picture.candidates if each.under_way is None and not each.refusal),
        key=lambda each: each.rank,
    )
    fewest = max(1, len(running))
    drafts = [_Draft(picture, running, waiting, width) for width in range(fewest, max(fewest, picture.slots) + 1)]
    return max(drafts, key=lambda draft: draft.worth).plan()


class _Lanes:
    """So many dumps side by side: whoever comes next takes the place that is free first."""

    def __init__(self, free_at: Iterable[float]) -> None:
        self._free_at = list(free_at)
        heapq.heapify(self._free_at)

    @property
    def free_at(self) -> float:
        """When the next one may begin."""
        return self._free_at[0]

    def take(self, seconds: float) -> tuple[float, float]:
        """Take a place for so long; return when that begins and ends."""
        begins = self._free_at[0]
        heapq.heapreplace(self._free_at, begins + seconds)
        return begins, begins + seconds


class _Draft:
    """A plan with a given number of dumps at once."""

    def __init__(
        self, picture: Picture, running: Sequence[Candidate], waiting: Sequence[Candidate], width: int
    ) -> None:
        self._picture = picture
        self._running = running
        self._waiting = waiting
        self._width = width
        self._idle = width - len(running)
        self._ends = {each.key: _end_of(each, picture.expected, picture.now, width) for each in running}
        self._needs_s = {
            each.key: picture.expected.overhead_s + picture.expected.moving_s(each.memory, each.new, width)
            for each in waiting
        }
        self._fitting = self._choose()
        self._order = self._arrange()
        lanes = self._lanes()
        self._turns = {each.key: lanes.take(self._needs_s[each.key]) for each in self._order}

    @property
    def worth(self) -> tuple[object, ...]:
        """How good it is: who is saved, in the order of rank; then how early, or what is learnt by it."""
        chosen = {each.key for each in self._fitting}
        under_way = tuple(self._ends[each.key] <= each.deadline for each in _ranked(self._running))
        fitting = tuple(each.key in chosen for each in self._waiting)
        ends = [*self._ends.values(), *(end for _, end in self._turns.values())]
        return under_way, fitting, self._width if self._picture.exploring else -math.fsum(ends)

    def plan(self) -> Plan:
        """Write the plan down."""
        now = self._picture.now
        entries = [
            Planned(
                key=each.key,
                verdict=Verdict.RUNNING,
                begins=each.under_way.began if each.under_way else now,
                ends=self._ends[each.key],
                needs_s=self._ends[each.key] - (each.under_way.began if each.under_way else now),
            )
            for each in self._running
        ]
        for number, each in enumerate(self._order):
            begins, ends = self._turns[each.key]
            begin = number < self._idle
            verdict = Verdict.NEXT if begin else Verdict.WAITS
            entries.append(self._entry(each, verdict, begins=begins, ends=ends, begin=begin))
        entries += self._rest()
        entries += [
            Planned(key=each.key, verdict=Verdict.REFUSED)
            for each in self._picture.candidates
            if each.refusal and each.under_way is None
        ]
        return Plan(width=self._width, entries=tuple(entries))

    def _choose(self) -> list[Candidate]:
        """Return what surely fits, by rank: each one that can be saved besides those before it."""
        chosen: list[Candidate] = []
        for each in self._waiting:
            more = [*chosen, each]
            if self._is_in_time(more) or self._is_in_time(_by_deadline(more)):
                chosen = more
        return chosen

    def _arrange(self) -> list[Candidate]:
        """Return what fits in the order of its turns: the highest rank first that lets all others be in time."""
        rest = list(self._fitting)
        if self._is_in_time(rest):
            return rest
        order: list[Candidate] = []
        while rest:
            for each in rest:
                others = _by_deadline(one for one in rest if one is not each)
                if self._is_in_time([*order, each, *others]):
                    break
            else:  # not reached: what was chosen is in time by its deadlines, and remains so
                each = _by_deadline(rest)[0]
            order.append(each)
            rest.remove(each)
        return order

    def _is_in_time(self, order: Iterable[Candidate]) -> bool:
        lanes = self._lanes()
        return all(lanes.take(self._needs_s[each.key])[1] <= each.deadline for each in order)

    def _lanes(self) -> _Lanes:
        return _Lanes([*self._ends.values(), *[self._picture.now] * self._idle])

    def _rest(self) -> list[Planned]:
        """Say of what does not surely fit whether it may with luck; one after the other, by rank."""
        picture = self._picture
        chosen = {each.key for each in self._fitting}
        ends = [_end_of(each, picture.best, picture.now, 1) for each in self._running]
        side_by_side = picture.slots if picture.exploring else self._width
        lanes = _Lanes([*ends, *[picture.now] * max(0, side_by_side - len(ends))])
        for each in self._order:
            lanes.take(_best_s(each, picture.best))
        free = self._idle - len(self._order)
        entries: list[Planned] = []
        for each in self._waiting:
            if each.key in chosen:
                continue
            needed_s = _best_s(each, picture.best)
            begins = lanes.free_at
            if begins + needed_s <= each.deadline:
                lanes.take(needed_s)
                entries.append(self._entry(each, Verdict.LAST, begins=begins, begin=free > 0))
                free -= 1
            else:
                entries.append(self._entry(each, Verdict.UNSAVED, begins=begins))
        return sorted(entries, key=lambda entry: entry.verdict is Verdict.UNSAVED)

    def _entry(
        self, each: Candidate, verdict: Verdict, *, begins: float, ends: float | None = None, begin: bool = False
    ) -> Planned:
        needs_s = self._needs_s[each.key]
        return Planned(
            key=each.key,
            verdict=verdict,
            begin=begin,
            begins=begins,
            ends=begins + needs_s if ends is None else ends,
            needs_s=needs_s,
        )


def _best_s(each: Candidate, rates: Rates) -> float:
    return rates.overhead_s + rates.moving_s(each.memory, each.least_new)


def _end_of(each: Candidate, rates: Rates, now: float, width: int) -> float:
    """Return when a save that is under way will be complete; never before now."""
    state = each.under_way
    if state is None:
        return now
    all_s = rates.moving_s(each.memory, each.new, width)
    if state.moved <= 0:
        return max(now, state.began + rates.overhead_s) + all_s
    left = max(0.0, 1 - state.moved / each.memory) if each.memory else 0.0
    return max(now, state.seen + all_s * left)


def _ranked(candidates: Iterable[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda each: each.rank)


def _by_deadline(candidates: Iterable[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda each: (each.deadline, each.rank))
