"""Acts on directory descriptors that cannot leave the directory they start from.

Whoever controls a capsule's files controls its symbolic links, and we come as root of the node: so no path is
ever handed to the kernel as a whole. Each component is opened relative to its parent and never followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from crikpy.aio.clock import Deadline
from crikpy.errors import FilesystemError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def touching(doing: str, path: str) -> Iterator[None]:
    """Translate what the system refuses, naming the path inside the capsule.

    Raises:
        FilesystemError: the system refused.
    """
    try:
        yield
    except OSError as fault:
        remedy = ""
        if fault.errno in {errno.ENOSPC, errno.EDQUOT}:
            remedy = "make room where the job's files go, or resume it on a machine with a larger disk"
        elif fault.errno in {errno.ENOTDIR, errno.ELOOP}:
            remedy = "a parent of it is not a directory of its own; symbolic links are not followed"
        raise FilesystemError(f"cannot {doing} {path!r}: {fault.strerror or fault}", remedy=remedy) from fault


@contextlib.contextmanager
def opened_trusted(path: Path) -> Iterator[int]:
    """Lend a directory of the node, or the root of a capsule, to start from; this path alone is followed."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def open_directory(name: str, parent: int) -> int:
    """Open a directory that is no symbolic link."""
    return os.open(name, _DIRECTORY, dir_fd=parent)


def open_below(top: int, parts: Sequence[str], *, create: bool = False) -> int:
    """Open a directory below another one, a component at a time; the caller closes it.

    Args:
        top: descriptor to start from.
        parts: components without slashes and dots.
        create: make missing directories, for root only until they get their attributes.

    Raises:
        OSError: a component is missing, or not a directory of its own.
    """
    here = os.dup(top)
    try:
        for part in parts:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=here)
            below = open_directory(part, here)
            os.close(here)
            here = below
    except BaseException:
        os.close(here)
        raise
    return here


@contextlib.contextmanager
def opened_below(top: int, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """Lend the descriptor that open_below returns."""
    here = open_below(top, parts, create=create)
    try:
        yield here
    finally:
        os.close(here)


def path_of(parent: int, name: str) -> str:
    """Return a path of this process for calls that take no descriptor; its last component must not be followed."""
    return f"/proc/self/fd/{parent}/{name}"


def look(parent: int, name: str) -> os.stat_result | None:
    """Return what a name is, without following it; None when there is nothing."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def remove(parent: int, name: str, path: str, keep_out: Collection[str], deadline: Deadline) -> bool:
    """Remove a name with all below it, except mounts and the directories that hold them.

    Args:
        parent: the directory that holds the name.
        name: what to remove; absent is fine.
        path: its path in the terms of `keep_out`.
        keep_out: mount points that are left alone.
        deadline: when to give up.

    Returns:
        Whether nothing of it is left.
    """
    found = look(parent, name)
    if found is None:
        return True
    if path in keep_out:
        return False
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=parent)
        return True
    below = open_directory(name, parent)
    try:
        # A mount that nobody told us about shows by its device.
        if os.fstat(below).st_dev != os.fstat(parent).st_dev or not empty(below, path, keep_out, deadline):
            return False
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=parent)
    return True


def empty(directory: int, path: str, keep_out: Collection[str], deadline: Deadline) -> bool:
    """Remove all that lies in a directory, except mounts; return whether it is empty now."""
    whole = True
    for name in os.listdir(directory):
        deadline.check("removing files that the job had removed")
        below = name if path == "." else f"{path}/{name}"
        whole = remove(directory, name, below, keep_out, deadline) and whole
    return whole


class Parents:
    """Finds the directories of names that come in order, without walking each path anew."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._walked: list[tuple[str, int]] = []

    def of(self, parts: Sequence[str]) -> int:
        """Return a descriptor, on loan until the next call, of the directory that holds a name.

        Raises:
            OSError: a parent is missing, or not a directory of its own.
        """
        wanted = parts[:-1]
        kept = 0
        while kept < min(len(wanted), len(self._walked)) and self._walked[kept][0] == wanted[kept]:
            kept += 1
        self.forget(kept)
        for part in wanted[kept:]:
            here = self._walked[-1][1] if self._walked else self._top
            self._walked.append((part, open_directory(part, here)))
        return self._walked[-1][1] if self._walked else self._top

    def forget(self, kept: int = 0) -> None:
        """Close what was opened, except the outermost few."""
        while len(self._walked) > kept:
            os.close(self._walked.pop()[1])
