"""What this node's dumps have shown: how fast memory is read and written, and what each costs besides.

Figures are learnt from what was saved, never from trying: as long as nothing was, an assumption stands in, and the
best that may be is far from it. Kept by the process only; another one learns anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from crikpy.agent.planning import Rates
from crikpy.metrics import Metrics
from crikpy.settings import MIB

_TELLING_BYTES: Final = 64 * MIB
"""A smaller dump says nothing of rates: what it takes is what every dump takes."""

_WEIGHT: Final = 0.5
"""Of the newest figure against all before it."""

_LUCK: Final = 1.5
"""How many times as fast as measured a dump may be at best."""

_UNKNOWN_LUCK: Final = 8.0
"""How many times as fast as assumed, where nothing was measured."""

OVERHEAD_S: Final = 2.0
"""What a dump takes beside the moving of bytes, where nothing was measured."""

_ALONE: Final = 1.25
"""With fewer others than this on average, a dump counts as having been alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One complete dump.

    Attributes:
        memory: bytes read.
        new: bytes of them that were new to the store.
        total_s: how long it took, seconds.
        moving_s: of these, how long memory was read and written, seconds; 0 where that is not known.
        crowd: how many dumps there were meanwhile on average, itself included.
        leisurely: it could have been faster.
    """

    memory: int
    new: int
    total_s: float
    moving_s: float
    crowd: float = 1.0
    leisurely: bool = False


class Crowd:
    """How many dumps are under way, as an average over each one's time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._count = 0
        self._area = 0.0
        self._at = clock()

    def enter(self) -> tuple[float, float]:
        """Begin a dump; return what `leave` wants to be given."""
        self._move_on()
        self._count += 1
        return self._area, self._at

    def leave(self, entered: tuple[float, float]) -> float:
        """End a dump; return how many there were meanwhile on average, itself included."""
        self._move_on()
        self._count -= 1
        area, at = entered
        return (self._area - area) / (self._at - at) if self._at > at else self._count + 1.0

    def _move_on(self) -> None:
        now = self._clock()
        self._area += self._count * (now - self._at)
        self._at = now


class Meter:
    """Learns what this node can do."""

    def __init__(self, assumed_bytes_per_s: int, metrics: Metrics) -> None:
        """Take what is assumed of reading and of writing until something is measured."""
        self._assumed = max(1.0, float(assumed_bytes_per_s))
        self._metrics = metrics
        self._overhead_s: float | None = None
        self._read: float | None = None
        self._reads_faster = False
        """Reading was held up by writing all the while, so that it may be faster than measured."""

        self._write: float | None = None
        self._writes_faster = False
        """It was only ever written at leisure."""

        self._together: float | None = None
        """Bytes that several dumps at once have read together in a second."""

        self._glimpsed: float | None = None

    @property
    def exploring(self) -> bool:
        """Whether nobody knows yet what several dumps at once do to each other."""
        return self._together is None

    def expected(self) -> Rates:
        """Return what the node is expected to do."""
        read = self._read or self._glimpsed or self._assumed
        write = self._write or (self._glimpsed if self._read is None else None) or self._assumed
        several = 1.0 if self._together is None else max(1.0, self._together / read)
        return Rates(read=read, write=write, overhead_s=self._overhead_s or OVERHEAD_S, several=several)

    def best(self) -> Rates:
        """Return what it may do with luck."""
        expected, bound = self.expected(), _UNKNOWN_LUCK * self._assumed
        read = _LUCK * expected.read
        write = _LUCK * expected.write
        return Rates(
            read=max(read, bound) if self._read is None or self._reads_faster else read,
            write=max(write, bound) if self._write is None or self._writes_faster else write,
            overhead_s=expected.overhead_s / (_LUCK if self._overhead_s else 2 * _LUCK),
            several=expected.several,
        )

    def glimpse(self, moved: int, seconds: float) -> None:
        """Learn from a dump under way, as long as there is nothing better.

        Args:
            moved: bytes read so far.
            seconds: since the first of them.
        """
        if moved >= _TELLING_BYTES and seconds > 0:
            self._glimpsed = moved / seconds

    def learn(self, sample: Sample) -> None:
        """Learn from a complete dump."""
        if sample.memory < _TELLING_BYTES:
            self._overhead_s = _mean(self._overhead_s, sample.total_s)
            return
        if sample.moving_s <= 0:
            return
        self._overhead_s = _mean(self._overhead_s, max(0.0, sample.total_s - sample.moving_s))
        if sample.leisurely:
            self._learn_least(sample)
        elif sample.crowd > _ALONE:
            self._learn_together(sample)
        else:
            self._learn_alone(sample)
        for path, rate in (("read", self._read), ("write", self._write)):
            if rate is not None:
                self._metrics.throughput.labels(path=path).set(rate)

    def _learn_least(self, sample: Sample) -> None:
        """Learn only that the rates are not lower."""
        read, write = sample.memory / sample.moving_s, sample.new / sample.moving_s
        if self._read is None or read > self._read:
            self._read, self._reads_faster = read, True
        if self._write is None or write > self._write:
            self._write, self._writes_faster = write, True

    def _learn_alone(self, sample: Sample) -> None:
        """Learn the rate of what held it up; of the other one only that it is not lower."""
        read, write = sample.memory / sample.moving_s, sample.new / sample.moving_s
        if self._is_held_up_by_writing(sample):
            self._write = write if self._writes_faster else _mean(self._write, write)
            self._writes_faster = False
            if self._read is None or read > self._read:
                self._read, self._reads_faster = read, True
            return
        self._read = read if self._reads_faster else _mean(self._read, read)
        self._reads_faster = False
        if self._write is not None:
            self._write = max(self._write, write)

    def _learn_together(self, sample: Sample) -> None:
        read = sample.memory / sample.moving_s
        if self._read is None:
            self._read, self._reads_faster = read, True
            together = read * sample.crowd
        else:
            alone_s = self.expected().moving_s(sample.memory, sample.new)
            together = self._read * min(sample.crowd, sample.crowd * alone_s / sample.moving_s)
        self._together = _mean(self._together, together)

    def _is_held_up_by_writing(self, sample: Sample) -> bool:
        if self._read is None or self._write is None:
            return sample.new >= sample.memory / 2
        return sample.new / self._write >= sample.memory / self._read


def _mean(before: float | None, now: float) -> float:
    return now if before is None else (1 - _WEIGHT) * before + _WEIGHT * now
