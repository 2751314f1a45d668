"""A job under seccomp filters of its own, beside those that it was started with, each thread with others.

The main thread, or all of them together (SECCOMP_FILTER_FLAG_TSYNC), may not make a call, and is killed when it
makes some others; one thread has a filter of its own. Each proof tries again what can be tried.

Argument: `tsync` or `apart`, whether threads have the same filters.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import struct
import sys
import threading

from tests.jobs import proving

_libc = ctypes.CDLL(None, use_errno=True)
_SECCOMP, _NO_NEW_PRIVS = 317, 38
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_TSYNC = 1
PERSONALITY, GETSID, SYSINFO, UNAME = 135, 124, 99, 63
"""Calls of x86-64 that nobody misses."""

DEADLY = (
    30, 38, 95, 101, 116, 117, 119, 126, 131, 141, 144, 157, 158, 161, 165, 218, 222, 223, 272, 278, 302, 308, 310,
    334,
)  # fmt: skip
"""Calls by which others bring back a process (prctl, arch_prctl, rseq, setresuid, sigaltstack, prlimit, …)."""


def forbid(call: int, action: int, flags: int = 0) -> None:
    """Install a filter for one call."""
    code = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in ((0x20, 0, 0, 0), (0x15, 0, 1, call), (0x06, 0, 0, action), (0x06, 0, 0, _ALLOW))
    )
    room = ctypes.create_string_buffer(code)
    program = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", 4, ctypes.addressof(room)))
    if _libc.syscall(_SECCOMP, 1, flags, program):
        raise OSError(ctypes.get_errno(), "seccomp")


def refused(call: int) -> int:
    """Make a call and return the number of its error, 0 for none."""
    ctypes.set_errno(0)
    _libc.syscall(call, 0, ctypes.create_string_buffer(1024))
    return ctypes.get_errno()


class Worker:
    """A thread that says which calls it is refused."""

    def __init__(self, own: int | None) -> None:
        self._asked: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=self._work, args=(own,), daemon=True).start()
        self.ask(UNAME)

    def ask(self, call: int) -> int:
        """Return what `refused` says there."""
        self._asked.put(call)
        return self._answers.get(timeout=20)

    def _work(self, own: int | None) -> None:
        if own is not None:
            forbid(own, 0x50000 | 95)
        while True:
            self._answers.put(refused(self._asked.get()))


def _killed_by() -> int:
    child = os.fork()
    if child == 0:
        _libc.syscall(SYSINFO, ctypes.create_string_buffer(1024))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Forbid, then prove that what was forbidden still is."""
    proving.block()
    apart = sys.argv[1] == "apart"
    if _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    plain, strict = Worker(None), Worker(PERSONALITY if apart else None)
    forbid(GETSID, 0x50000 | 96, 0 if apart else _TSYNC)
    for call in (*DEADLY, SYSINFO):
        forbid(call, _KILL, 0 if apart else _TSYNC)

    def prove(count: int) -> None:
        proving.check_all(
            (
                (refused(GETSID), 96, "the main thread's refusal"),
                (refused(PERSONALITY), 0, "the main thread's freedom"),
                (plain.ask(GETSID), 0 if apart else 96, "a thread's own or common refusal"),
                (strict.ask(PERSONALITY), 95 if apart else 0, "the strict thread's refusal"),
                (_killed_by(), -signal.SIGSYS, f"a child's end, time {count}"),
            )
        )

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
