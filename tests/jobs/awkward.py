"""A job that has something which CRIU cannot save, by the name that is its argument; the second names a folder."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from tests.jobs import proving

_CLONE, _NEW_PID = 56, 0x20000000
_libc = ctypes.CDLL(None, use_errno=True)


def _queue(_: Path) -> None:
    """Open a queue of POSIX."""
    proving.check_equal(
        _libc.mq_open(b"/crikpy-test", os.O_CREAT | os.O_RDWR, 0o600, struct.pack("qqqq", 0, 1, 8, 0) + bytes(32))
        >= 0,
        True,
        "a queue",
    )


def _watch(folder: Path) -> None:
    """Watch a file that has no name any more and is kept open."""
    path = folder / "nameless"
    os.open(path, os.O_RDWR | os.O_CREAT)
    _libc.inotify_add_watch(_libc.inotify_init1(0), os.fsencode(path), 2)
    path.unlink()


def _sandbox(_: Path) -> None:
    """Have a child in a PID namespace of its own as bubblewrap does, by clone: its parent's is as it was."""
    child = _libc.syscall(_CLONE, _NEW_PID | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        signal.pause()
    proving.check_equal(child > 0, True, "a child")


_ACTS: dict[str, Callable[[Path], None]] = {"queue": _queue, "watch": _watch, "sandbox": _sandbox}


def main() -> None:
    """Do it, and go on."""
    proving.block()
    _ACTS[sys.argv[1]](Path(sys.argv[2]))
    proving.stand_by(lambda _: None)


if __name__ == "__main__":
    main()
