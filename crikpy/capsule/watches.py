"""Finds the names of what a job watches by inotify or fanotify, which the kernel knows by number only.

CRIU opens what is watched by a handle and asks for its name. Overlays, of which a container's root is one, give no
handles, so there CRIU has to be told where to look. The files may belong to somebody hostile: directories are
opened below one another, on their own mount and without following anything, and no more of them than so many.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import PurePosixPath

from crikpy.aio.clock import Deadline
from crikpy.capsule import beneath
from crikpy.capsule.holding import Process, folder_of
from crikpy.capsule.mounts import Mount
from crikpy.capsule.preflight import Watched

_MOST_NAMES = 1_000_000
_MOST_LEVELS = 256
_MOST_WORDS = 500
"""Of CRIU's command line; it looks below the directories that it is told as well."""


def unnamed(watched: Iterable[Watched], mounts: Sequence[Mount]) -> frozenset[Watched]:
    """Return those whose names CRIU does not find by itself."""
    overlays = {mount.device for mount in mounts if mount.fstype == "overlay"}
    return frozenset(one for one in watched if one.device in overlays)


def find_names(
    launcher: Process, wanted: Collection[Watched], likely: Iterable[str], deadline: Deadline
) -> dict[Watched, str]:
    """Return the absolute names of files and directories on the filesystem of a capsule's root, as far as found.

    Args:
        launcher: the capsule's launcher.
        wanted: whose names.
        likely: names of files and directories among which they may well be.
        deadline: when the search ends, found or not.

    Raises:
        OSError: the capsule is gone.
    """
    by_inode = {(one.device, one.inode): one for one in wanted}
    found: dict[Watched, str] = {}
    with beneath.opened_trusted(folder_of(launcher) / "root") as root:
        for name in chain(_with_parents(("/", *likely)), _walk(root, {one.inode for one in wanted}, deadline)):
            status = _status(root, name)
            if status is None:
                continue
            device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
            if one := by_inode.pop((device, status.st_ino), None):
                found[one] = name
            if not by_inode:
                break
    return found


def topmost(names: Iterable[str]) -> tuple[str, ...]:
    """Return these names without those that lie below others, and no more than a command line should have.

    The root is left out: CRIU finds it by itself, and looks below what it is told.
    """
    found: list[str] = []
    for name in sorted({*names} - {"/"}):
        if not found or not name.startswith(f"{found[-1]}/"):
            found.append(name)
    return tuple(found[:_MOST_WORDS])


def _with_parents(names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        for one in (name, *map(str, PurePosixPath(name).parents)):
            if one.startswith("/") and one not in seen:
                seen.add(one)
                yield one


def _status(root: int, name: str) -> os.stat_result | None:
    """Return what a name is, if it is on the root's own mount and reached through no link."""
    path = PurePosixPath(name)
    with contextlib.suppress(OSError), beneath.opened_below(root, path.parent.parts[1:], across=False) as parent:
        return beneath.look(parent, path.name or ".")
    return None


def _walk(root: int, inodes: Collection[int], deadline: Deadline) -> Iterator[str]:
    """Yield the names that may be of some inodes, below a directory and on its mount, the shortest paths first."""
    remaining = deque(["/"])
    seen = 0
    while remaining and seen < _MOST_NAMES and not deadline.expired():
        here = remaining.popleft()
        parts = PurePosixPath(here).parts[1:]
        if len(parts) >= _MOST_LEVELS:
            continue
        with (
            contextlib.suppress(OSError),
            beneath.opened_below(root, parts, across=False) as directory,
            os.scandir(directory) as entries,
        ):
            for entry in entries:
                seen += 1
                name = f"{here.rstrip('/')}/{entry.name}"
                if entry.inode() in inodes:
                    yield name
                if entry.is_dir(follow_symlinks=False):
                    remaining.append(name)
