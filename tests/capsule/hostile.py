"""What hostile processes do in the tests: they call themselves what they like, swap names, give PIDs away."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NAMES = (
    b"x\rNSpid:\t7 1",
    b"x\x0bNSpid:\t7 1",
    b"x\nNSpid:\t7 1",
    b"x\xc2\x85NSpid:\t7 1",
    b"\r kB",
    b"\rPPid:\t1",
    b") R 1 1 1",
    b"\xff\xfe\r\r",
    b"",
)
"""What a process may be called: 15 bytes of anything, lines and parentheses of its own among them."""

_RENAMED = (
    "import sys, time; open('/proc/self/comm', 'wb').write(bytes.fromhex(sys.argv[1])); print(); time.sleep(99)"
)
_TRIES = 200
_RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def called(name: bytes) -> Iterator[int]:
    """Lend the PID of a process of this name."""
    words = [sys.executable, "-c", _RENAMED, (name or b"\0").hex()]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        try:
            yield process.pid
        finally:
            process.kill()


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Have another process exchange two names (renameat2(2)) for as long as the context lasts, without a pause."""
    child = os.fork()
    if child == 0:
        names = os.fsencode(one), os.fsencode(other)
        while True:
            _libc.renameat2(-100, names[0], -100, names[1], _RENAME_EXCHANGE)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def take_pid(pid: int) -> subprocess.Popen[bytes]:
    """Start a process of the machine's own with a PID that is free; skips the test where that is not possible."""
    last = Path("/proc/sys/kernel/ns_last_pid")
    for _ in range(_TRIES):
        try:
            last.write_text(str(pid - 1))
        except OSError as fault:
            pytest.skip(f"PIDs cannot be chosen here: {fault}")
        taken = subprocess.Popen(("sleep", "1000"))
        if taken.pid == pid:
            return taken
        taken.kill()
        taken.wait()
    pytest.skip("others start processes too fast here")
