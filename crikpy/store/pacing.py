"""Keeps uploads within a bandwidth: each is given the moment at which it may begin.

A checkpoint of a job that runs on is in no hurry, and must not take the network from those that need it; it may
come to be in a hurry on the way. Nothing here sends anything.
"""

from __future__ import annotations

import threading
import time

from crikpy.aio.clock import Deadline
from crikpy.errors import DeadlineError


class Pace:
    """One bound for all who send; may be lifted at any time, from any thread."""

    def __init__(self, bytes_per_s: int) -> None:
        """Take the bound; 0 is none."""
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0
        self._lock = threading.Lock()
        self._lifted = threading.Event()
        if bytes_per_s <= 0:
            self._lifted.set()

    def lift(self) -> None:
        """Let everything through from now on, what waits already as well."""
        self._lifted.set()

    def wait(self, count: int, deadline: Deadline) -> None:
        """Wait until so many bytes may be sent.

        Raises:
            DeadlineError: their turn would come after the deadline; they still count.
        """
        if self._lifted.is_set():
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
