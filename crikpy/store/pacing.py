"""Keeps uploads within a bandwidth and below others' priority: each is given the moment at which it may begin.

A checkpoint of a job that runs on is in no hurry, and must not take the network or the cores from those that need
them; it may come to be in a hurry on the way. Nothing here sends anything.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

from crikpy.aio.clock import Deadline
from crikpy.errors import DeadlineError


class Pace:
    """One bound for all who send; may be lifted at any time, from any thread."""

    def __init__(self, bytes_per_s: int, *, nice: int = 0) -> None:
        """Take the bound, 0 is none, and the nice value (sched(7)) of the threads that work once it has eased."""
        self._bytes_per_s = bytes_per_s
        self._usual = os.getpriority(
            os.PRIO_PROCESS, threading.get_native_id()
        )  # whoever started us may have been nice
        self._nice = max(nice, self._usual)
        self._settled = threading.local()
        self._eased = threading.Event()
        self._free_at = 0.0
        self._lock = threading.Lock()
        self._lifted = threading.Event()
        if bytes_per_s <= 0 and not nice:
            self._lifted.set()

    def lift(self) -> None:
        """Let everything through from now on, what waits already as well."""
        self._lifted.set()

    def ease(self) -> None:
        """Let others go first on the cores from now on: no job stands still for its sake any more."""
        self._eased.set()

    def settle(self) -> None:
        """Give the calling thread its priority; called between any two pieces of work: it may have changed."""
        nice = self._nice if self._eased.is_set() and not self._lifted.is_set() else self._usual
        if nice != getattr(self._settled, "nice", self._usual):
            # The way back needs CAP_SYS_NICE; without it a thread stays as it is, last only among the busy.
            with contextlib.suppress(PermissionError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
            self._settled.nice = nice

    def wait(self, count: int, deadline: Deadline) -> None:
        """Wait until so many bytes may be sent.

        Raises:
            DeadlineError: their turn would come after the deadline; they still count.
        """
        if self._lifted.is_set() or self._bytes_per_s <= 0:
            return
        pause_s = self.reserve(count, time.monotonic()) - time.monotonic()
        if pause_s > deadline.remaining():
            raise DeadlineError(
                "out of time: CRIKPY_STORE_UPLOAD_BYTES_PER_S does not let everything through before the deadline"
            )
        if pause_s > 0:
            self._lifted.wait(pause_s)

    def reserve(self, count: int, now: float) -> float:
        """Return when so many bytes may be sent; whoever asks next comes after them."""
        with self._lock:
            turn = max(now, self._free_at)
            self._free_at = turn + count / self._bytes_per_s
            return turn
