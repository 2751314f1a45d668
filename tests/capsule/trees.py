"""What the tests of files share: trees described as values, and archives written and applied in memory."""

from __future__ import annotations

import io
import os
import stat
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from crikpy.aio.clock import Deadline
from crikpy.capsule.applying import apply_archive
from crikpy.capsule.archives import write_archive
from crikpy.capsule.members import FILES, OVERLAY, TREE, CarriedTree
from crikpy.model.manifest import FileArchive

SOON = 60.0
Facts = dict[bytes, tuple[object, ...]]


def describe(top: Path, *, times: bool = True) -> Facts:
    """Return everything about a tree that must survive a move, hard links as the first name of the group."""
    first: dict[int, bytes] = {}
    facts: Facts = {}
    for path in sorted([os.fsencode(top), *_below(os.fsencode(top))]):
        status = os.lstat(path)
        name = os.path.relpath(path, os.fsencode(top))
        twin = first.setdefault(status.st_ino, name) if stat.S_ISREG(status.st_mode) else name
        facts[name] = (
            oct(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns if times else None,
            _content(path, status),
            twin,
            {attribute: os.getxattr(path, attribute, follow_symlinks=False) for attribute in _xattrs(path)},
        )
    return facts


def names(directory: Path) -> list[str]:
    """Return the names in a directory, sorted."""
    return sorted(path.name for path in directory.iterdir())


def _below(top: bytes) -> Iterator[bytes]:
    for directory, directories, files in os.walk(top):
        yield from (directory + b"/" + name for name in (*directories, *files))


def _xattrs(path: bytes) -> list[str]:
    return sorted(name for name in os.listxattr(path, follow_symlinks=False) if "overlay" not in name)


def _content(path: bytes, status: os.stat_result) -> bytes:
    if stat.S_ISREG(status.st_mode):
        return Path(os.fsdecode(path)).read_bytes()
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)
    return str(status.st_rdev).encode()


def tree_of(source: Path, **fields: object) -> CarriedTree:
    """Return a whole directory as a tree whose root is `/tree` of a capsule whose root is the parent."""
    assert source.name == "tree"
    return CarriedTree(kind=TREE, root="/tree", source=source.parent, **fields)  # type: ignore[arg-type]  # the caller's


def capture(tree: CarriedTree) -> tuple[bytes, FileArchive]:
    """Write a tree's archive into memory."""
    out = io.BytesIO()
    entries = write_archive(tree, out, deadline=Deadline.after(SOON))
    return out.getvalue(), FileArchive(image="files/0.tar", kind=tree.kind, root=tree.root, entries=entries)


def apply(
    content: bytes, archive: FileArchive, root: Path, mounts_below: Collection[str] = (), keep: str = "c1"
) -> int:
    """Apply an archive to a directory that stands for a capsule's root."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return apply_archive(
            io.BytesIO(content), fd, archive, mounts_below, deadline=Deadline.after(SOON), keep=keep
        )
    finally:
        os.close(fd)


def move(tree: CarriedTree, root: Path, mounts_below: Collection[str] = (), keep: str = "c1") -> int:
    """Capture a tree and apply it elsewhere."""
    return apply(*capture(tree), root, mounts_below, keep)


def overlay_of(upper: Path, **fields: object) -> CarriedTree:
    """Return the changes in an overlay's upper directory."""
    return CarriedTree(kind=OVERLAY, root="/", source=upper, **fields)  # type: ignore[arg-type]  # the caller's


def files_of(root: Path, *names: str) -> CarriedTree:
    """Return single files of a capsule's root."""
    return CarriedTree(kind=FILES, root="/", source=root, names=names)


@contextmanager
def mounted(*arguments: str) -> Iterator[Path]:
    """Mount something for as long as the context lasts; the last argument is the mount point."""
    subprocess.run(["mount", *arguments], check=True)
    try:
        yield Path(arguments[-1])
    finally:
        subprocess.run(["umount", arguments[-1]], check=True)


@contextmanager
def mounted_overlay(place: Path, lower: Path, options: str = "") -> Iterator[tuple[Path, Path]]:
    """Mount an overlay with new upper and work directories below `place`; lend its view and upper directory."""
    upper, work, view = place / "upper", place / "work", place / "view"
    for directory in (upper, work, view):
        directory.mkdir(parents=True)
    layers = f"lowerdir={lower},upperdir={upper},workdir={work}{options}"
    with mounted("-t", "overlay", "overlay", "-o", layers, str(view)):
        yield view, upper
