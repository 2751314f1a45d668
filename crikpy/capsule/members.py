"""What an archive of a capsule's files may hold: its words and rules, shared by writing and applying.

docs/formats.md describes the bytes. Nothing here touches a file. The rules are checked when an archive is
written, so that a job that cannot travel is refused while it still runs, and again when one is read, because
an archive that comes from a store may be anything.
"""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from crikpy.errors import FilesystemError

OVERLAY: Final = "overlay"
TREE: Final = "tree"
FILES: Final = "files"
KINDS: Final = frozenset({OVERLAY, TREE, FILES})

WHITEOUT: Final = "CRIKPY.whiteout"
OPAQUE: Final = "CRIKPY.opaque"
XATTR: Final = "SCHILY.xattr."
SPARSE_SIZE: Final = "GNU.sparse.size"
SPARSE_BLOCKS: Final = "GNU.sparse.numblocks"
SPARSE_MAP: Final = "GNU.sparse.map"
TIME: Final = "mtime"

HEADER_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of one extended header; more would be an attack on the reader's memory."""

EXTENT_LIMIT: Final = 100_000
"""Data areas of one sparse file; one with more is written as if it had no holes."""

DEEPEST: Final = 256
"""Names below each other; a descriptor is open for each, and each name is written with all those above it."""

NAME_LIMIT: Final = 1_000_000
"""Names of directories that are read at once; they are kept in memory."""

RESIDUE: Final = ("/.crikpy", "/run/criu.kdat")
"""Paths that are ours or CRIU's, never the job's."""

DEVICES: Final = frozenset({(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)})
"""Character devices that any container may have: null, zero, full, random, urandom, tty."""

_XATTRS: Final = frozenset({"security.capability", "system.posix_acl_access", "system.posix_acl_default"})
_SAFE: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in "%=")
_TIME: Final = re.compile(r"(-?)(\d{1,18})(?:\.(\d{1,9}))?")


class Form(StrEnum):
    """What a member is."""

    DIRECTORY = "directory"
    REGULAR = "regular file"
    LINK = "hard link"
    SYMLINK = "symbolic link"
    FIFO = "FIFO"
    DEVICE = "device node"
    WHITEOUT = "whiteout"


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedTree:
    """One part of a capsule's files that travels as one archive.

    Attributes:
        kind: `overlay`, `tree` or `files`, as FileArchive has it.
        root: absolute path inside the capsule that the archive's names are relative to.
        source: directory on the node that stands for the capsule's `/`: its root or an overlay's upper directory.
        names: for `files`, the files relative to `root`; empty otherwise.
        skipped: names relative to `root` that stay behind with all that lies below them.
        marks: for `overlay`, how the names of the overlay's own attributes begin.
    """

    kind: str
    root: str
    source: Path
    names: tuple[str, ...] = ()
    skipped: frozenset[str] = frozenset()
    marks: str = "trusted.overlay."


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of an archive that was found to obey the rules.

    Attributes:
        name: relative to the archive's root, `.` for the root itself.
        form: what it is.
        mode: permission bits with set-id and sticky bits.
        uid: owner.
        gid: group.
        mtime_ns: time of the last change of its content, in nanoseconds since the epoch.
        size: bytes of a regular file, holes included.
        extents: offset and length of the data of a regular file, ascending.
        target: text of a symbolic link, or name of the earlier member that a hard link joins.
        device: major and minor number.
        xattrs: extended attributes.
        opaque: whether a directory hides what was there before.
    """

    name: str
    form: Form
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    extents: tuple[tuple[int, int], ...]
    target: str
    device: tuple[int, int]
    xattrs: dict[str, bytes]
    opaque: bool


def components(name: str) -> tuple[str, ...]:
    """Split a member's name; the root's name `.` has no components.

    Raises:
        FilesystemError: the name is empty, absolute, or could lead out of the root.
    """
    if name == ".":
        return ()
    parts = tuple(name.split("/"))
    if "\0" in name or any(part in {"", ".", ".."} for part in parts):
        raise FilesystemError(f"the archive holds a name that is not allowed: {name!r}")
    return parts


def relative(path: str, root: str) -> str:
    """Return an absolute path relative to a root that it lies in; `.` for the root itself."""
    return path[len(root.rstrip("/")) + 1 :] or "."


def absolute(name: str, root: str) -> str:
    """Return the path inside the capsule of a member of an archive."""
    return root if name == "." else f"{root.rstrip('/')}/{name}"


def travels(attribute: str) -> bool:
    """Say whether an extended attribute is the job's own and means the same on another machine."""
    return attribute.startswith("user.") or attribute in _XATTRS


def xattr_keyword(attribute: str) -> str:
    """Return the extended header's keyword of an attribute; the header itself allows no `=` there."""
    return XATTR + urllib.parse.quote(attribute.encode(errors="surrogateescape"), safe=_SAFE)


def xattr_name(keyword: str) -> str:
    """Return the attribute of an extended header's keyword."""
    return urllib.parse.unquote_to_bytes(keyword[len(XATTR) :]).decode(errors="surrogateescape")


def format_time(nanoseconds: int) -> str:
    """Write a time as pax does, in decimal seconds, without losing digits."""
    seconds, rest = divmod(abs(nanoseconds), 10**9)
    return f"{'-' if nanoseconds < 0 else ''}{seconds}.{rest:09}"


def parse_time(text: str) -> int:
    """Read a time of pax into nanoseconds.

    Raises:
        ValueError: it is no such time.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"not a time: {text!r}")
    nanoseconds = int(found[2]) * 10**9 + int((found[3] or "").ljust(9, "0"))
    return -nanoseconds if found[1] else nanoseconds
