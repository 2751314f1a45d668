"""Finds SQLite databases that a job has open and could not write any more after a move.

SQLite asks before it begins a journal whether the file that it has open is still the one of that name, by the number
of its inode (databaseIsUnmoved in pager.c, SQLITE_READONLY_DBMOVED), and a file that has travelled has another number.
It does not ask in WAL mode, which the database's header tells (https://sqlite.org/fileformat2.html, offset 18). Only
looks, and only at local files that the job may write; a database is no reason against a save.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from crikpy.capsule import procfs, syscalls
from crikpy.capsule.mounts import read_mounts
from crikpy.errors import NoSuchJobError

_FLAGS = re.compile(r"^flags:\s*([0-7]+)$", re.MULTILINE)
_MAGIC = b"SQLite format 3\0"
_WRITE_VERSION = 18
_ROLLBACK = 1
_HEADER_BYTES = 100


def cautions(pids: Sequence[int]) -> tuple[str, ...]:
    """Return a sentence for each database that processes would fail to write after a move; ended ones have none.

    Args:
        pids: the processes as this process sees them.
    """
    found: dict[str, None] = {}
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, NoSuchJobError):
            found.update(dict.fromkeys(_of(Path(f"/proc/{pid}"))))
    return tuple(
        f"SQLite will refuse to write {procfs.shown(path)} after a move, for there the file has another inode, unless it is"
        " opened anew or lies on a persistent volume: use PRAGMA journal_mode=WAL"
        for path in found
    )


def _of(process: Path) -> Iterator[str]:
    remote = {mount.device for mount in read_mounts(process) if mount.network}
    for link in (process / "fd").iterdir():
        # A descriptor may be closed, or something else, from one look to the next.
        with contextlib.suppress(OSError):
            status = syscalls.look(link)
            if stat.S_ISREG(status.mode) and status.links and status.size >= _HEADER_BYTES:
                # A filesystem's server that is silent would keep us as long as it likes.
                if f"{status.device[0]}:{status.device[1]}" not in remote and _writable(process, link.name):
                    if _is_rolled_back(link, status):
                        yield str(link.readlink())


def _writable(process: Path, number: str) -> bool:
    found = _FLAGS.search((process / "fdinfo" / number).read_text(errors="surrogateescape"))
    return found is not None and int(found[1], 8) & os.O_ACCMODE != os.O_RDONLY


def _is_rolled_back(link: Path, expected: syscalls.Seen) -> bool:
    """Say whether a file is a database that is written by way of a journal that undoes."""
    pinned = os.open(link, os.O_PATH | os.O_CLOEXEC)
    try:
        held = Path(f"/proc/self/fd/{pinned}")
        if syscalls.look(held) != expected:
            return False  # another file has its number now
        with held.open("rb", buffering=0) as file:
            header = file.read(_HEADER_BYTES)
    finally:
        os.close(pinned)
    return header.startswith(_MAGIC) and header[_WRITE_VERSION] == _ROLLBACK
