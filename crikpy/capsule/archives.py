"""Writes the files of a capsule into a tar stream; docs/formats.md describes the bytes.

The capsule's processes are stopped, so nothing changes meanwhile; a file that changes all the same is an error,
never a torn copy. Sockets stay out: CRIU binds them anew. What could not be put back is refused here, while the
job can still run on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from crikpy.aio.clock import Deadline
from crikpy.capsule import beneath, members
from crikpy.capsule.members import CarriedTree
from crikpy.errors import FilesystemError

_PIECE = 1024 * 1024
_END = bytes(2 * tarfile.BLOCKSIZE)
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOATIME
_DOING = "capturing the job's files"


def write_archive(
    tree: CarriedTree, out: BinaryIO, *, deadline: Deadline, most_names: int = members.NAME_LIMIT
) -> int:
    """Write one tree as a pax archive; return the number of members.

    Args:
        tree: what to read.
        out: takes the bytes in order. It must be done with the memory when `write` returns.
        deadline: when to give up.
        most_names: how many names directories that are read at once may have.

    Raises:
        FilesystemError: a file is unreadable, changes, or cannot travel; the message names it.
        DeadlineError: time ran out.
    """
    writer = _Writer(tree, out, deadline, most_names)
    parts = members.components(members.relative(tree.root, "/"))
    with contextlib.ExitStack() as stack:
        with beneath.touching("read", tree.root):
            base = stack.enter_context(beneath.opened_trusted(tree.source))
            top = stack.enter_context(beneath.opened_below(base, parts))
        if tree.kind == members.FILES:
            writer.add_files(top)
        else:
            writer.add_all(top)
    out.write(_END)
    return writer.entries


class _Writer:
    def __init__(self, tree: CarriedTree, out: BinaryIO, deadline: Deadline, most_names: int) -> None:
        self._tree = tree
        self._out = out
        self._deadline = deadline
        self._room = most_names
        self._first_names: dict[tuple[int, int], str] = {}
        self._piece = memoryview(bytearray(_PIECE))
        self.entries = 0

    def add_all(self, top: int) -> None:
        """Add the tree's root and all below it, each directory before its content, names in byte order."""
        self._add(top, ".", ".")
        levels: list[tuple[int, str, Iterator[str]]] = [(os.dup(top), "", self._list(top, "."))]
        try:
            while levels:
                here, prefix, names = levels[-1]
                name = next(names, None)
                if name is None:
                    os.close(levels.pop()[0])
                    continue
                path = prefix + name
                if path in self._tree.skipped or not self._add(here, name, path):
                    continue
                if len(levels) >= members.DEEPEST:
                    raise FilesystemError(f"{self._shown(path)[:99]!r}… has directories nested too deeply")
                with self._reading(path):
                    below = beneath.open_directory(name, here)
                levels.append((below, path + "/", self._list(below, path)))
        finally:
            for level in levels:
                os.close(level[0])

    def add_files(self, top: int) -> None:
        """Add single files, each after those of its parents that did not come yet."""
        parents = beneath.Parents(top, across=True)
        done: set[tuple[str, ...]] = set()
        try:
            for parts in sorted((members.components(name) for name in self._tree.names), key=_in_bytes):
                for depth in range(1, len(parts) + 1):
                    ancestor, path = parts[:depth], "/".join(parts[:depth])
                    if ancestor in done:
                        continue
                    done.add(ancestor)
                    with self._reading(path):
                        here = parents.of(ancestor)
                        regular = stat.S_ISREG(os.stat(ancestor[-1], dir_fd=here, follow_symlinks=False).st_mode)
                    if depth == len(parts) and not regular:
                        raise FilesystemError(f"{self._shown(path)!r} is no longer a regular file")
                    self._add(here, ancestor[-1], path)
        finally:
            parents.forget()

    def _list(self, directory: int, path: str) -> Iterator[str]:
        # Lazily, so that the descriptor is already in the caller's care when this fails.
        names: list[str] = []
        with self._reading(path), os.scandir(directory) as entries:
            for entry in entries:
                if len(names) >= self._room:
                    raise FilesystemError(f"{self._shown(path)!r} has too many names to be read")
                names.append(entry.name)
        self._room -= len(names)
        names.sort(key=os.fsencode)
        yield from names
        self._room += len(names)

    def _add(self, parent: int, name: str, path: str) -> bool:
        """Add one member; return whether it is a directory to go into."""
        self._deadline.check(_DOING)
        with self._reading(path):
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            xattrs = _read_xattrs(beneath.path_of(parent, name))
        if stat.S_ISSOCK(status.st_mode):
            return False
        info = _describe(path, status)
        headers = {members.TIME: members.format_time(status.st_mtime_ns)}
        if self._tree.kind == members.OVERLAY and self._interpret_marks(info, status, xattrs, headers):
            self._put(info, headers)
            return False
        headers |= {
            members.xattr_keyword(attribute): value.decode(errors="surrogateescape")
            for attribute, value in sorted(xattrs.items())
            if members.travels(attribute)
        }
        if stat.S_ISREG(status.st_mode):
            self._add_regular(info, headers, parent, name, status)
            return False
        if stat.S_ISLNK(status.st_mode):
            with self._reading(path):
                info.linkname = os.readlink(name, dir_fd=parent)
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            self._check_device(info)
        self._put(info, headers)
        return stat.S_ISDIR(status.st_mode)

    def _interpret_marks(
        self, info: tarfile.TarInfo, status: os.stat_result, xattrs: dict[str, bytes], headers: dict[str, str]
    ) -> bool:
        """Turn the overlay's own marks into ours; return whether the member is a whiteout."""
        marks = self._tree.marks
        for reference in ("redirect", "metacopy"):
            if marks + reference in xattrs:
                raise FilesystemError(
                    f"{self._shown(info.name)!r} refers to the image's layers instead of holding its content",
                    remedy="let the container runtime mount overlays with redirect_dir=off,metacopy=off",
                )
        if marks + "whiteout" in xattrs and stat.S_ISREG(status.st_mode) and not status.st_size:
            info.type = tarfile.CHRTYPE
        if info.type == tarfile.CHRTYPE and (info.devmajor, info.devminor) == (0, 0):
            headers[members.WHITEOUT] = "1"
            return True
        if info.isdir() and xattrs.get(marks + "opaque") == b"y":
            headers[members.OPAQUE] = "1"
        for own in [attribute for attribute in xattrs if attribute.startswith(marks)]:
            del xattrs[own]
        return False

    def _check_device(self, info: tarfile.TarInfo) -> None:
        if info.type != tarfile.CHRTYPE or (info.devmajor, info.devminor) not in members.DEVICES:
            raise FilesystemError(
                f"{self._shown(info.name)!r} is a device node, which may mean another device elsewhere",
                remedy="remove it or exclude its directory",
            )

    def _add_regular(
        self, info: tarfile.TarInfo, headers: dict[str, str], parent: int, name: str, status: os.stat_result
    ) -> None:
        inode = (status.st_dev, status.st_ino)
        if status.st_nlink > 1:
            first = self._first_names.setdefault(inode, info.name)
            if first != info.name:
                info.type, info.linkname = tarfile.LNKTYPE, first
                self._put(info, {members.TIME: headers[members.TIME]})
                return
        with contextlib.ExitStack() as stack:
            with self._reading(info.name):
                fd = stack.enter_context(beneath.opened_regular(name, parent, _OPEN))
                opened = os.fstat(fd)
                areas = _data_areas(fd, opened)
            if (opened.st_dev, opened.st_ino, opened.st_size) != (*inode, status.st_size):
                raise FilesystemError(f"{self._shown(info.name)!r} changed while it was being read")
            info.size = sum(length for _, length in areas)
            if areas != _whole(status.st_size):
                headers |= _sparse_headers(areas, status.st_size)
            self._put(info, headers)
            for offset, length in areas:
                self._copy(fd, offset, length, info.name)
            self._out.write(bytes(-info.size % tarfile.BLOCKSIZE))

    def _copy(self, fd: int, offset: int, length: int, path: str) -> None:
        end = offset + length
        while offset < end:
            self._deadline.check(_DOING)
            with self._reading(path):
                count = os.preadv(fd, [self._piece[: min(_PIECE, end - offset)]], offset)
            if not count:
                raise FilesystemError(f"{self._shown(path)!r} shrank while it was being read")
            self._out.write(self._piece[:count])
            offset += count

    def _put(self, info: tarfile.TarInfo, headers: dict[str, str]) -> None:
        # A character takes four bytes at most.
        if sum(len(keyword) + len(value) for keyword, value in headers.items()) > members.HEADER_LIMIT // 4:
            raise FilesystemError(f"{self._shown(info.name)!r} has more attributes than can be carried")
        info.pax_headers = headers
        self._out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        self.entries += 1

    def _reading(self, path: str) -> contextlib.AbstractContextManager[None]:
        return beneath.touching("read", self._shown(path))

    def _shown(self, path: str) -> str:
        return members.absolute(path, self._tree.root)


def _in_bytes(parts: tuple[str, ...]) -> list[bytes]:
    return [os.fsencode(part) for part in parts]


def _describe(path: str, status: os.stat_result) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.mode = stat.S_IMODE(status.st_mode)
    info.uid, info.gid = status.st_uid, status.st_gid
    info.mtime = max(0, status.st_mtime_ns // 10**9)
    info.type = {
        stat.S_IFDIR: tarfile.DIRTYPE,
        stat.S_IFLNK: tarfile.SYMTYPE,
        stat.S_IFIFO: tarfile.FIFOTYPE,
        stat.S_IFCHR: tarfile.CHRTYPE,
        stat.S_IFBLK: tarfile.BLKTYPE,
    }.get(stat.S_IFMT(status.st_mode), tarfile.REGTYPE)
    if info.type in {tarfile.CHRTYPE, tarfile.BLKTYPE}:
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return info


def _read_xattrs(path: str) -> dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as fault:
        if fault.errno == errno.ENOTSUP:
            return {}
        raise
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def _whole(size: int) -> list[tuple[int, int]]:
    return [(0, size)] if size else []


def _data_areas(fd: int, status: os.stat_result) -> list[tuple[int, int]]:
    """Return offset and length of what is not a hole; all of it where holes are not worth telling."""
    size = status.st_size
    if status.st_blocks * 512 >= size:
        return _whole(size)
    areas: list[tuple[int, int]] = []
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as fault:
            if fault.errno == errno.ENXIO:
                break
            raise
        if start >= size:
            break  # it has just grown, which is not ours to read
        end = min(size, os.lseek(fd, start, os.SEEK_HOLE))
        areas.append((start, end - start))
        if len(areas) > members.EXTENT_LIMIT:
            return _whole(size)
    return areas


def _sparse_headers(areas: list[tuple[int, int]], size: int) -> dict[str, str]:
    """Describe holes as GNU tar's sparse format 0.1 does; an empty last area tells of a hole at the end."""
    told = list(areas)
    if not told or sum(told[-1]) < size:
        told.append((size, 0))
    return {
        members.SPARSE_SIZE: str(size),
        members.SPARSE_BLOCKS: str(len(told)),
        members.SPARSE_MAP: ",".join(f"{offset},{length}" for offset, length in told),
    }
