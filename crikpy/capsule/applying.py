"""Puts an archive of a capsule's files into another capsule.

It comes as root of the node into a directory that others control, with an archive that anybody may have
changed. Therefore: no path is followed through a symbolic link, no existing file is ever opened for writing
(content goes into a new file that then takes the name), mounts of the capsule are left alone, and what breaks
a rule ends the whole. The order of members is the archive's; only directories' times are set at the end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from crikpy.aio.clock import Deadline
from crikpy.capsule import beneath, members
from crikpy.capsule.members import Form, Member
from crikpy.capsule.reading import ArchiveReader
from crikpy.errors import FilesystemError
from crikpy.model.manifest import FileArchive

_PIECE = 1024 * 1024
_DOING = "putting back the job's files"
_FORMATS = {Form.SYMLINK: stat.S_IFLNK, Form.FIFO: stat.S_IFIFO, Form.DEVICE: stat.S_IFCHR}


def apply_archive(
    source: BinaryIO,
    root_fd: int,
    archive: FileArchive,
    mounts_below: Collection[str],
    *,
    deadline: Deadline,
    keep: str,
) -> int:
    """Put the members of an archive in place; return how many were applied.

    Args:
        source: the archive's bytes in order.
        root_fd: the capsule's root directory.
        archive: where the members go, and how many there must be.
        mounts_below: mount points inside the capsule. Members at or below one that lies below the archive's
            root are passed over: they belong to that mount.
        deadline: when to give up.
        keep: the checkpoint's id. Single files that would be overwritten with other content are kept beside
            as `<name>.before-<keep>`.

    Raises:
        FilesystemError: the archive breaks a rule or does not fit the capsule; part of it may be in place.
        DeadlineError: time ran out.
    """
    _check_place(archive, keep)
    parts = members.components(members.relative(archive.root, "/"))
    with beneath.touching("open", archive.root):
        top = beneath.open_below(root_fd, parts, create=True)
    try:
        keep_out = frozenset(
            members.relative(point, archive.root)
            for point in mounts_below
            if point != archive.root and (archive.root == "/" or point.startswith(archive.root + "/"))
        )
        reader = ArchiveReader(source, archive)
        with contextlib.closing(_Target(top, archive, keep_out, deadline, keep)) as target:
            return target.take(reader)
    except RecursionError as fault:
        raise FilesystemError(f"directories below {archive.root!r} are nested too deeply") from fault
    finally:
        os.close(top)


def _check_place(archive: FileArchive, keep: str) -> None:
    below_root = archive.root.startswith("/") and archive.root != "/"
    if archive.kind not in members.KINDS or below_root != (archive.kind == members.TREE):
        raise FilesystemError(f"an archive of kind {archive.kind!r} cannot go to {archive.root!r}")
    first = archive.root.split("/")[1]
    if first in {"proc", "sys"} or archive.root == "/dev":
        raise FilesystemError(f"{archive.root!r} is not a place for a job's files")
    if members.components(keep) != (keep,):
        raise FilesystemError(f"not the id of a checkpoint: {keep!r}")


class _Target:
    """The directory that an archive goes into."""

    def __init__(
        self, top: int, archive: FileArchive, keep_out: frozenset[str], deadline: Deadline, keep: str
    ) -> None:
        self._top = top
        self._archive = archive
        self._single = archive.kind == members.FILES
        self._keep_out = keep_out
        self._deadline = deadline
        self._keep = keep
        self._parents = beneath.Parents(top, across=self._single)
        self._times: list[tuple[str, int]] = []

    def close(self) -> None:
        self._parents.forget()

    def take(self, reader: ArchiveReader) -> int:
        """Put every member in place."""
        applied = 0
        for member in reader.members():
            self._deadline.check(_DOING)
            parts = members.components(member.name)
            if any("/".join(parts[:depth]) in self._keep_out for depth in range(1, len(parts) + 1)):
                continue
            with self._touching(member.name):
                parent = self._parents.of(parts) if parts else self._top
            self._place(member, parent, parts[-1] if parts else ".", reader)
            applied += 1
        for name, mtime_ns in reversed(self._times):
            parts = members.components(name)
            with self._touching(name), beneath.opened_below(self._top, parts, across=self._single) as directory:
                _set_time(directory, mtime_ns)
        return applied

    def _place(self, member: Member, parent: int, name: str, reader: ArchiveReader) -> None:
        if member.form is Form.DIRECTORY:
            with self._touching(member.name):
                self._place_directory(member, parent, name)
            return
        if member.form is Form.WHITEOUT:
            with self._touching(member.name):
                beneath.remove(parent, name, member.name, self._keep_out, self._deadline)
            return
        # The name is new and unforeseeable, so nothing that others put there can take its place.
        fresh = f".crikpy-{secrets.token_hex(8)}"
        try:
            self._make(member, parent, fresh, reader)
            with self._touching(member.name):
                self._install(member, parent, fresh, name)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh, dir_fd=parent)

    def _place_directory(self, member: Member, parent: int, name: str) -> None:
        found = beneath.look(parent, name)
        exists = found is not None and stat.S_ISDIR(found.st_mode)
        if self._single and found is not None:
            # Opening says so when it is not a directory: a parent that leads elsewhere is never replaced.
            os.close(beneath.open_directory(name, parent, across=True))
            return
        if not exists:
            beneath.remove(parent, name, member.name, self._keep_out, self._deadline)
            os.mkdir(name, 0o700, dir_fd=parent)
        with beneath.opened_below(parent, (name,), across=self._single) as directory:
            if exists and member.opaque:
                beneath.empty(directory, member.name, self._keep_out, self._deadline)
            _set_attributes(member, directory)
        self._times.append((member.name, member.mtime_ns))

    def _make(self, member: Member, parent: int, fresh: str, reader: ArchiveReader) -> None:
        """Make the member, whole and with its attributes, under a name of ours."""
        if member.form is Form.REGULAR:
            self._write(member, parent, fresh, reader)
            return
        with self._touching(member.name):
            if member.form is Form.LINK:
                *above, last = members.components(member.target)
                with beneath.opened_below(self._top, above, across=self._single) as directory:
                    os.link(last, fresh, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
                return
            if member.form is Form.SYMLINK:
                os.symlink(member.target, fresh, dir_fd=parent)
            elif member.form is Form.FIFO:
                os.mkfifo(fresh, 0o600, dir_fd=parent)
            elif member.form is Form.DEVICE:
                os.mknod(fresh, stat.S_IFCHR | 0o600, os.makedev(*member.device), dir_fd=parent)
            with beneath.pinned(fresh, parent, _FORMATS[member.form]) as made:
                # Our name for it is no secret to who lists the directory, and could have been given to another.
                if os.fstat(made).st_nlink != 1:
                    raise OSError(errno.ESTALE, "it has become something else")
                _set_attributes(member, made)
                _set_time(made, member.mtime_ns)

    def _write(self, member: Member, parent: int, fresh: str, reader: ArchiveReader) -> None:
        with contextlib.ExitStack() as stack:
            with self._touching(member.name):
                made = stack.enter_context(_created(fresh, parent))
            for offset, piece in reader.data(member):
                self._deadline.check(_DOING)
                with self._touching(member.name):
                    _write_at(made, piece, offset)
            with self._touching(member.name):
                os.truncate(made, member.size)
                _set_attributes(member, made)
                _set_time(made, member.mtime_ns)

    def _install(self, member: Member, parent: int, fresh: str, name: str) -> None:
        """Give what was made its name."""
        found = beneath.look(parent, name)
        if found is not None and self._single:
            made = os.stat(fresh, dir_fd=parent, follow_symlinks=False)
            if _same_attributes(found, made) and _same_content(parent, name, fresh, self._deadline):
                return
            self._keep_beside(parent, name, found)
        elif found is not None and stat.S_ISDIR(found.st_mode):
            beneath.remove(parent, name, member.name, self._keep_out, self._deadline)
        os.rename(fresh, name, src_dir_fd=parent, dst_dir_fd=parent)

    def _keep_beside(self, parent: int, name: str, found: os.stat_result) -> None:
        beside = f"{name}.before-{self._keep}"
        kept, count = beside, 1
        while beneath.look(parent, kept) is not None:
            count += 1
            kept = f"{beside}.{count}"
        if stat.S_ISDIR(found.st_mode):
            os.rename(name, kept, src_dir_fd=parent, dst_dir_fd=parent)
        else:
            # A second name instead of a renaming: the first one is never without a file.
            os.link(name, kept, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)

    def _touching(self, name: str) -> contextlib.AbstractContextManager[None]:
        return beneath.touching("put back", members.absolute(name, self._archive.root))


def _write_at(fd: int, piece: bytes, offset: int) -> None:
    rest = memoryview(piece)
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest, offset = rest[written:], offset + written


def _set_attributes(member: Member, made: int) -> None:
    """Set owner, attributes and mode, in this order: a new owner clears set-id bits and capabilities.

    All goes through the descriptor: between two calls by name somebody could exchange what has the name.
    """
    path = f"/proc/self/fd/{made}"
    os.chown(path, member.uid, member.gid)
    if member.form is Form.SYMLINK:
        return
    for attribute in _present(path):
        # An access list may have come from the parent's default.
        if members.travels(attribute) and attribute not in member.xattrs:
            os.removexattr(path, attribute)
    for attribute, value in member.xattrs.items():
        os.setxattr(path, attribute, value)
    Path(path).chmod(member.mode)


def _present(path: str) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError as fault:
        if fault.errno == errno.ENOTSUP:
            return []
        raise


def _set_time(made: int, mtime_ns: int) -> None:
    os.utime(f"/proc/self/fd/{made}", ns=(mtime_ns, mtime_ns))


def _same_attributes(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_mode, one.st_uid, one.st_gid, one.st_size) == (
        other.st_mode,
        other.st_uid,
        other.st_gid,
        other.st_size,
    )


def _same_content(parent: int, one: str, other: str, deadline: Deadline) -> bool:
    """Compare two regular files of the same size."""
    how = os.O_RDONLY | os.O_NONBLOCK
    with beneath.opened_regular(one, parent, how) as first, beneath.opened_regular(other, parent, how) as second:
        if os.path.sameopenfile(first, second):
            return True
        while True:
            deadline.check(_DOING)
            pieces = os.read(first, _PIECE), os.read(second, _PIECE)
            if pieces[0] != pieces[1]:
                return False
            if not pieces[0]:
                return True


@contextlib.contextmanager
def _created(name: str, parent: int) -> Iterator[int]:
    how = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, how, 0o600, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)
