"""Acts on directory descriptors that cannot leave the directory they start from.

Whoever controls a capsule's files controls its symbolic links, and we come as root of the node: so no path is
ever handed to the kernel as a whole. Each component is opened relative to its parent and never followed.

They may be exchanged at any moment, so what was seen of a name says nothing about what it is now: whatever could
have an effect by being opened is pinned first, looked at, and only then opened by its pin.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from crikpy.aio.clock import Deadline
from crikpy.capsule import syscalls
from crikpy.errors import FilesystemError

_PIN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
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
        elif fault.errno in {errno.EXDEV, errno.ESTALE}:
            remedy = "somebody mounts or renames there; let nobody else work on the job's files"
        raise FilesystemError(f"cannot {doing} {path!r}: {fault.strerror or fault}", remedy=remedy) from fault


@contextlib.contextmanager
def opened_trusted(path: Path) -> Iterator[int]:
    """Lend a directory of the node, or the root of a capsule, to start from; this path alone is followed."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def open_directory(name: str, parent: int, *, across: bool = False) -> int:
    """Open a directory that is no symbolic link, and on its parent's mount unless others may be entered."""
    return os.open(name, _DIRECTORY, dir_fd=parent) if across else syscalls.open_directory(parent, name)


def open_below(top: int, parts: Sequence[str], *, create: bool = False, across: bool = True) -> int:
    """Open a directory below another one, a component at a time; the caller closes it.

    Args:
        top: descriptor to start from.
        parts: components without slashes and dots.
        create: make missing directories, for root only until they get their attributes.
        across: enter other mounts on the way.

    Raises:
        OSError: a component is missing, or not a directory of its own.
    """
    here = os.dup(top)
    try:
        for part in parts:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=here)
            below = open_directory(part, here, across=across)
            os.close(here)
            here = below
    except BaseException:
        os.close(here)
        raise
    return here


@contextlib.contextmanager
def opened_below(top: int, parts: Sequence[str], *, across: bool = True) -> Iterator[int]:
    """Lend the descriptor that open_below returns."""
    here = open_below(top, parts, across=across)
    try:
        yield here
    finally:
        os.close(here)


def path_of(parent: int, name: str) -> str:
    """Return a path of this process for calls that take no descriptor; its last component must not be followed."""
    return f"/proc/self/fd/{parent}/{name}"


@contextlib.contextmanager
def pinned(name: str, parent: int, form: int) -> Iterator[int]:
    """Lend a descriptor that only means a file of this form, whatever has its name by then, and opens nothing.

    Args:
        name: what to pin; a symbolic link is pinned itself.
        parent: the directory that holds the name.
        form: as stat.S_IFMT gives it.

    Raises:
        OSError: it is not there, or of another form.
    """
    fd = os.open(name, _PIN, dir_fd=parent)
    try:
        if stat.S_IFMT(os.fstat(fd).st_mode) != form:
            raise OSError(errno.ESTALE, "it has become something else")
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def opened_regular(name: str, parent: int, how: int) -> Iterator[int]:
    """Lend a descriptor of a regular file; a device or FIFO that gets its name meanwhile is never opened.

    Args:
        name: the file.
        parent: the directory that holds it.
        how: flags of open(2), without O_CREAT.

    Raises:
        OSError: it cannot be opened, or is something else.
    """
    with pinned(name, parent, stat.S_IFREG) as pin:
        fd = os.open(f"/proc/self/fd/{pin}", how | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)


def stat_inside(root: Path, path: str) -> os.stat_result:
    """Return what a path of a capsule leads to, its links followed as its processes would.

    Args:
        root: the capsule's root.
        path: absolute, as its processes would name it; it may come from a manifest that somebody has changed.

    Raises:
        OSError: there is no such file.
    """
    with opened_trusted(root) as top:
        fd = syscalls.open_in_root(top, path)
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def exists_inside(root: Path, path: str) -> bool:
    """Say whether a path leads to anything below a directory, its links taken as if that were the root."""
    try:
        with opened_trusted(root) as top:
            os.close(syscalls.open_in_root(top, path))
    except OSError:
        return False
    return True


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
    try:
        below = open_directory(name, parent)
    except OSError as fault:
        if fault.errno == errno.EXDEV:
            return False  # a mount that nobody told us about
        raise
    try:
        if not empty(below, path, keep_out, deadline):
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

    def __init__(self, top: int, *, across: bool) -> None:
        """Start from a directory; `across` says whether other mounts may be entered."""
        self._top = top
        self._across = across
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
            self._walked.append((part, open_directory(part, here, across=self._across)))
        return self._walked[-1][1] if self._walked else self._top

    def forget(self, kept: int = 0) -> None:
        """Close what was opened, except the outermost few."""
        while len(self._walked) > kept:
            os.close(self._walked.pop()[1])
