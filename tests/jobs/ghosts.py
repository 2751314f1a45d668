"""A job whose files have lost their names, or given them to others.

Shared memory and semaphores of POSIX are among them. Arguments: the case, and a folder.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

from tests.jobs import proving

Proof = Callable[[int], None]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sem_open.restype = ctypes.c_void_p


def _in_a_folder_that_is_gone(folder: Path) -> Proof:
    """Work in a directory that was removed; one that is made anew under its name is another."""
    here = folder / "gone"
    here.mkdir()
    os.chdir(here)
    here.rmdir()
    here.mkdir()

    def prove(_: int) -> None:
        proving.check_equal(os.readlink("/proc/self/cwd"), f"{here} (deleted)", "the current directory")
        proving.check_equal(list(Path().iterdir()), [], "what is in it")

    return prove


def _made_anew(folder: Path) -> Proof:
    """Write to a file whose name another file has now, and read that one as well."""
    path = folder / "name"
    old = path.open("w+b", buffering=0)
    path.unlink()
    new = path.open("w+b", buffering=0)
    old.write(b"old")
    new.write(b"new")

    def prove(count: int) -> None:
        proving.check_all(
            [
                (os.pread(old.fileno(), 99, 0), b"old" * count, "the file without a name"),
                (os.pread(new.fileno(), 99, 0), b"new" * count, "the file that is open"),
                (path.read_bytes(), b"new" * count, "the file of that name"),
            ]
        )
        old.write(b"old")
        new.write(b"new")

    return prove


def _by_another_name(folder: Path) -> Proof:
    """Write to a file that has lost the name by which it was opened, and has another."""
    opened, other = folder / "opened", folder / "other"
    file = opened.open("w+b", buffering=0)
    other.hardlink_to(opened)
    opened.unlink()
    file.write(b"x")

    def prove(count: int) -> None:
        proving.check_equal((other.read_bytes(), opened.exists()), (b"x" * count, False), "the file")
        proving.check_equal(sorted(path.name for path in folder.iterdir()), ["other"], "the folder")
        file.write(b"x")

    return prove


class _Semaphore:
    """A semaphore of POSIX with a value, whose name is kept or not."""

    def __init__(self, name: bytes, value: int, *, kept: bool) -> None:
        self._at = ctypes.c_void_p(_libc.sem_open(name, os.O_CREAT | os.O_EXCL, 0o600, value))
        self._value = value
        if not kept:
            proving.check_equal(_libc.sem_unlink(name), 0, "taking the name away")

    def prove(self, count: int) -> None:
        found = ctypes.c_int()
        _libc.sem_getvalue(self._at, ctypes.byref(found))
        proving.check_equal(found.value, self._value + count - 1, "a semaphore's value")
        _libc.sem_post(self._at)


def _bytes(memory: SharedMemory) -> memoryview:
    assert memory.buf is not None
    return memory.buf


def _posix(_: Path) -> Proof:
    """Share memory and semaphores below /dev/shm with a child, by name and without."""
    named, nameless = (SharedMemory(f"crikpy-{name}", create=True, size=8192) for name in ("kept", "gone"))
    nameless.unlink()
    semaphores = [_Semaphore(b"/crikpy-kept", 3, kept=True), _Semaphore(b"/crikpy-gone", 5, kept=False)]
    child_reads, parent_writes = os.pipe()
    parent_reads, child_writes = os.pipe()
    if os.fork() == 0:
        os.close(parent_writes)
        while os.read(child_reads, 1):
            for memory in (named, nameless):
                _bytes(memory)[0] += 1
            os.write(child_writes, b".")
        os._exit(0)

    def prove(count: int) -> None:
        os.write(parent_writes, b".")
        os.read(parent_reads, 1)
        again = SharedMemory("crikpy-kept")
        proving.check_equal(
            [_bytes(memory)[0] for memory in (named, nameless, again)], [count] * 3, "shared numbers"
        )
        again.close()
        for semaphore in semaphores:
            semaphore.prove(count)

    return prove


_CASES: dict[str, Callable[[Path], Proof]] = {
    "folder": _in_a_folder_that_is_gone,
    "anew": _made_anew,
    "renamed": _by_another_name,
    "posix": _posix,
}


def main() -> None:
    """Be one of the cases."""
    proving.block()
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True)
    proving.stand_by(_CASES[sys.argv[1]](folder))


if __name__ == "__main__":
    main()
