"""Deadlines as values: an absolute monotonic time that is passed down, never a duration that is passed on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from crikpy.errors import DeadlineError


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock.

    Attributes:
        at: seconds of time.monotonic().
    """

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline that lies so many seconds ahead."""
        return cls(time.monotonic() + seconds)

    @classmethod
    def from_datetime(cls, when: datetime) -> Deadline:
        """Convert an aware wall-clock time once, so that later jumps of the wall clock do not matter."""
        return cls.after((when - datetime.now(UTC)).total_seconds())

    def remaining(self) -> float:
        """Return the seconds left; never negative."""
        return max(0.0, self.at - time.monotonic())

    def expired(self) -> bool:
        """Return whether it has passed."""
        return time.monotonic() >= self.at

    def earlier(self, seconds: float) -> Deadline:
        """Return this deadline or one so many seconds ahead, whichever comes first."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    def check(self, doing: str) -> None:
        """Raise unless time is left.

        Raises:
            DeadlineError: naming what was being done.
        """
        if self.expired():
            raise DeadlineError(f"out of time while {doing}")
