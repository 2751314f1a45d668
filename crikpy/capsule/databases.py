"""Finds SQLite databases that a job has open and could not write any more after a move.

SQLite asks before it begins a journal whether the file that it has open is still the one of that name, by the
number of its inode (databaseIsUnmoved in pager.c, SQLITE_READONLY_DBMOVED), and a file that has travelled has
another. It does not ask in WAL mode, of which the header tells (offset 18, sqlite.org/fileformat2.html).

Only looks, and by copies of the job's own descriptors: to open its files might break a lease, whose holder dies of
the signal. A database is no reason against a save.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from crikpy.capsule import procfs, syscalls
from crikpy.capsule.mounts import read_mounts
from crikpy.errors import NoSuchJobError

_MAGIC: Final = b"SQLite format 3\0"
_WRITE_VERSION: Final = 18
_ROLLBACK: Final = 1
_HEADER_BYTES: Final = 100


def cautions(pids: Sequence[int]) -> tuple[str, ...]:
    """Return a sentence for each database that processes would fail to write after a move.

    Args:
        pids: the processes as this process sees them; those that have ended have none.
    """
    found: dict[str, None] = {}
    for pid in pids:
        with contextlib.suppress(OSError, NoSuchJobError):
            found.update(dict.fromkeys(_of(pid)))
    return tuple(
        f"SQLite will not write {procfs.shown(path)} any more after a move, which gives the file another inode,"
        " unless it is opened anew or lies on a persistent volume: set PRAGMA journal_mode=WAL"
        for path in found
    )


def _of(pid: int) -> Iterator[str]:
    process = os.pidfd_open(pid)
    try:
        folder = Path(f"/proc/{pid}")
        remote = {mount.device for mount in read_mounts(folder) if mount.network}
        for link in (folder / "fd").iterdir():
            # A descriptor may be closed, or of something else, from one look to the next.
            with contextlib.suppress(OSError):
                if _may_be_one(link, remote) and _is_rolled_back(process, int(link.name)):
                    yield str(link.readlink())
    finally:
        os.close(process)


def _may_be_one(link: Path, remote: set[str]) -> bool:
    found = syscalls.look(str(link))
    # The server of a filesystem that is silent would keep us as long as it likes.
    local = f"{found.device[0]}:{found.device[1]}" not in remote
    return local and stat.S_ISREG(found.mode) and found.links > 0 and found.size >= _HEADER_BYTES


def _is_rolled_back(process: int, number: int) -> bool:
    """Say whether a descriptor is of a database that is written by way of a journal that undoes."""
    ours = syscalls.getfd(process, number)
    try:
        # It may be of something else by now, at which a read would wait.
        if not stat.S_ISREG(os.fstat(ours).st_mode) or not _both_ways(ours):
            return False
        header = os.pread(ours, _HEADER_BYTES, 0)
    finally:
        os.close(ours)
    return header.startswith(_MAGIC) and header[_WRITE_VERSION] == _ROLLBACK


def _both_ways(descriptor: int) -> bool:
    flags = procfs.fields(procfs.read_lines(Path(f"/proc/self/fdinfo/{descriptor}")))["flags"]
    return int(flags, 8) & os.O_ACCMODE == os.O_RDWR
