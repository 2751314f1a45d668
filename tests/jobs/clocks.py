"""A job that looks at its clocks: they never go back, and never leap by more than a move can last.

It waits for absolute times all the while, in every way that there is: nobody wakes early, and everybody wakes.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from tests.jobs import proving

_LONGEST_MOVE_S = 100.0
_CLOCKS = {"monotonic": time.CLOCK_MONOTONIC, "boottime": time.CLOCK_BOOTTIME}
_WAIT_S = 1.5
_ABSOLUTE = 1
"""TIMER_ABSTIME and TFD_TIMER_ABSTIME."""

_libc = ctypes.CDLL(None, use_errno=True)


def read() -> dict[str, float]:
    """Return the seconds of each clock."""
    return {name: time.clock_gettime(clock) for name, clock in _CLOCKS.items()}


def _sleep(clock: int, until: float) -> None:
    while _libc.clock_nanosleep(clock, _ABSOLUTE, _timespec(until), None):
        pass  # interrupted by the move


def _timer(clock: int, until: float) -> None:
    timer = _libc.timerfd_create(clock, 0)
    _libc.timerfd_settime(timer, _ABSOLUTE, bytes(16) + _timespec(until), None)
    os.read(timer, 8)
    os.close(timer)


def _condition(clock: int, until: float) -> None:
    """Wait as Python does, by sem_clockwait or pthread_cond_timedwait: an absolute time of the monotonic clock."""
    never = threading.Event()
    never.wait(until - time.clock_gettime(clock))


def _timespec(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1e9))


_WAYS: dict[str, tuple[Callable[[int, float], None], str, float]] = {
    "sleep until": (_sleep, "monotonic", 0),
    "sleep until, since the boot": (_sleep, "boottime", 0),
    "timer": (_timer, "monotonic", 1),
    "timer, since the boot": (_timer, "boottime", 1),
    "condition": (_condition, "monotonic", 0),
}
"""Each with its clock, and the seconds by which CRIU may make it early: it leaves out a fraction of a timer's."""


class Waiter(threading.Thread):
    """Waits for an absolute time in one way, and knows by how much it was early."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._wait, kind, self._spare = _WAYS[name]
        self._clock = _CLOCKS[kind]
        self._until = time.clock_gettime(self._clock) + _WAIT_S
        self._early = 0.0
        self.start()

    def run(self) -> None:
        """Wait."""
        self._wait(self._clock, self._until)
        self._early = self._until - time.clock_gettime(self._clock)

    def check(self) -> None:
        """Fail unless it wakes, and no earlier than it should."""
        self.join(_LONGEST_MOVE_S / 5)
        proving.check_all(
            [
                (self.is_alive(), False, f"{self.name} waits"),
                (self._early <= self._spare, True, f"{self.name}: {self._early} s early"),
            ]
        )


def _programs_clock() -> float:
    words = (sys.executable, "-ISc", "import time; print(time.monotonic())")
    return float(subprocess.run(words, capture_output=True, check=True).stdout)


def main() -> None:
    """Compare the clocks of one proof with those of the last, and with those of a program that starts now."""
    proving.block()
    last = read()
    waiters = [Waiter(name) for name in _WAYS]

    def prove(count: int) -> None:
        now = read()
        for name, before in last.items():
            proving.check_equal(
                0 <= now[name] - before < _LONGEST_MOVE_S, True, f"{name}: {before} then {now[name]}"
            )
        for waiter in waiters:
            waiter.check()
        there = _programs_clock()
        last.update(read())
        proving.check_equal(now["monotonic"] < there < last["monotonic"], True, f"a program's clock, time {count}")
        waiters[:] = [Waiter(name) for name in _WAYS]

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
