"""Real mount namespaces for the tests: like a container's, on an overlay, or like a plain machine's.

Run as a program it becomes the process that lives there: it unshares, mounts what the test asks for, pivots
into the new root, says that it is ready, and waits until its standard input ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNS, _MS_REC_PRIVATE, _MNT_DETACH, _PIVOT_ROOT = 0x20000, 0x44000, 2, 155
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def living_in(mounts: Sequence[Sequence[str]], root: Path | None = None) -> Iterator[int]:
    """Lend the PID of a process whose mount namespace has the mounts, each as arguments of mount(8).

    Args:
        mounts: in order, with paths as seen before the change of the root.
        root: the new root, a mount among them; None keeps the machine's.
    """
    plan = json.dumps({"mounts": [list(mount) for mount in mounts], "root": str(root) if root else None})
    program = [sys.executable, str(Path(__file__)), plan]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.stdin.close()


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _live(mounts: list[list[str]], root: str | None) -> None:
    _check(_libc.unshare(_CLONE_NEWNS))
    _check(_libc.mount(None, b"/", None, _MS_REC_PRIVATE, None))
    for mount in mounts:
        subprocess.run(["mount", *mount], check=True)
    if root:
        os.chdir(root)
        Path("old").mkdir()
        _check(_libc.syscall(_PIVOT_ROOT, b".", b"old"))
        os.chdir("/")
        _check(_libc.umount2(b"/old", _MNT_DETACH))
        Path("old").rmdir()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _live(**json.loads(sys.argv[1]))
