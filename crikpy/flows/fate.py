"""What becomes of jobs once they are read: asked for by the thread that saves them, decided by another.

It decides nothing by itself, and stops, saves or ends nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from crikpy.aio.clock import Deadline
from crikpy.errors import CapsuleError
from crikpy.store.pacing import Pace

_GIVES_WAY = "it gave way to the checkpoint by which the job moves"

_HASTE = 0.25
"""Share of the time until a final checkpoint's deadline that one under way may still take."""


def patience_s(by: Deadline) -> float:
    """Return how long one that waits to save the same jobs for good lets what is under way go on."""
    return by.remaining() * _HASTE


class Fate:
    """A gate (crikpy.flows.members.Gate) whose answer may change until it is asked; one for all attempts.

    Jobs that were to run on may be kept all the same as long as nobody has decided: that spares a second dump.
    Once they run on, what was read of them may still be on its way into the store when they have to be saved for
    good. Then it makes haste, for what is stored need not be stored again, and gives way when it takes too long.
    """

    def __init__(self, *, leave_running: bool) -> None:
        self._leave_running = leave_running
        self._decided = False
        self._hasty = False
        self._overtaken = False
        self._gives_way = False
        self._abandon: Callable[[str], None] | None = None
        self._pace: Pace | None = None
        self._lock = threading.Lock()

    @property
    def leave_running(self) -> bool:
        """Whether they run on, as it is now."""
        return self._leave_running

    @property
    def running_on(self) -> bool:
        """Whether they go on, or are about to, before they are stored."""
        with self._lock:
            return self._decided and self._leave_running

    def keep(self) -> bool:
        """Have them stay stopped, and the dump hasten; return False when they run on already."""
        with self._lock:
            if self._leave_running and self._decided:
                return False
            self._leave_running = False
        self.hasten()
        return True

    def hasten(self) -> None:
        """Have the dump leave no bandwidth and no cores to others from now on, since they wait for its end."""
        with self._lock:
            self._hasty = True
            if self._pace is not None:
                self._pace.lift()

    def paced(self, bytes_per_s: int, nice: int = 0) -> Pace:
        """Return the bounds of their storing: only jobs that run on leave bandwidth and cores to others."""
        with self._lock:
            unhurried = self._leave_running and not self._hasty
            self._pace = Pace(bytes_per_s, nice=nice) if unhurried else Pace(0)
            return self._pace

    def opens(self, abandon: Callable[[str], None]) -> bool:
        """Say for good whether they run on."""
        with self._lock:
            self._decided = True
            self._abandon = abandon if self._leave_running else None
            if self._gives_way and self._leave_running:
                abandon(_GIVES_WAY)
            return self._leave_running

    def overtake(self) -> None:
        """Have a dump whose jobs run on make haste and be the last attempt: they are to be saved for good."""
        with self._lock:
            self._overtaken = True
        self.hasten()

    def give_way(self) -> None:
        """Give up what is not stored yet of jobs that run on, now or once they do."""
        with self._lock:
            self._gives_way = True
            if self._abandon is not None:
                self._abandon(_GIVES_WAY)

    def begin(self) -> None:
        """Begin an attempt, of which nothing is decided yet.

        Raises:
            CapsuleError: it would be in the way.
        """
        with self._lock:
            if self._overtaken:
                raise CapsuleError(_GIVES_WAY)
            self._decided, self._abandon = False, None
