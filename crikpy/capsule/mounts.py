"""Mounts of a process as the kernel lists them; parsing and arithmetic only, nothing is mounted here.

Source of the format: proc_pid_mountinfo(5). A path of a capsule belongs to the mount that a walk from its root
meets last, which is not always the one with the longest mount point: a later mount hides what lies below it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crikpy.capsule.holding import Process, folder_of
from crikpy.errors import FilesystemError, NoSuchJobError

_ESCAPE = re.compile(rb"\\([0-7]{3})")

NETWORK_TYPES = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "ceph", "9p", "afs", "gpfs", "beegfs", "fuse", "virtiofs"}
)
"""Filesystems that another machine sees too; `fuse.*` are as well. fuseblk is a local disk."""

PSEUDO_TYPES = frozenset(
    {
        "proc", "sysfs", "cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue", "debugfs", "tracefs", "securityfs",
        "bpf", "hugetlbfs", "configfs", "pstore", "efivarfs", "binfmt_misc", "fusectl", "selinuxfs", "nsfs",
    }
)  # fmt: skip
"""Filesystems that are windows into the kernel: their files are no data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of mountinfo, octal escapes decoded.

    Attributes:
        id: the mount's number.
        parent: number of the mount that it lies on; unknown to the list for the root.
        device: `major:minor` of the filesystem.
        root: the directory of the filesystem that is the root of this mount.
        point: where it is mounted, as seen from the process's root.
        fstype: `overlay`, `tmpfs`, `fuse.sshfs`.
        source: what was mounted, as the filesystem says.
        options: of this mount, such as `rw` and `nosuid`.
        super_options: of the filesystem.
    """

    id: int
    parent: int
    device: str
    root: str
    point: str
    fstype: str
    source: str
    options: tuple[str, ...]
    super_options: tuple[str, ...]

    @property
    def upper_directory(self) -> Path | None:
        """The directory that takes an overlay's changes, as its mounter saw it; None without one."""
        if self.fstype != "overlay":
            return None
        return next((Path(word[9:]) for word in self.super_options if word.startswith("upperdir=")), None)

    @property
    def writable(self) -> bool:
        """Whether both the mount and its filesystem may be written."""
        return "ro" not in self.options and "ro" not in self.super_options

    @property
    def network(self) -> bool:
        """Whether other machines see the same files."""
        return self.fstype in NETWORK_TYPES or self.fstype.startswith("fuse.")


def read_mounts(process: Process) -> tuple[Mount, ...]:
    """Return the mounts of a process in the kernel's order.

    Raises:
        NoSuchJobError: the process is gone.
    """
    try:
        listing = (folder_of(process) / "mountinfo").read_bytes()
    except OSError as fault:
        raise NoSuchJobError(f"cannot read the mounts of process {process}: {fault.strerror}") from fault
    return parse_mounts(listing)


def parse_mounts(listing: bytes) -> tuple[Mount, ...]:
    """Read the text of a mountinfo file.

    Raises:
        FilesystemError: a line is not as documented.
    """
    return tuple(_parse(line) for line in listing.split(b"\n") if line)


def _parse(line: bytes) -> Mount:
    try:
        fixed, described = line.split(b" - ", 1)
        number, parent, device, root, point, options = fixed.split(b" ")[:6]
        fstype, source, *super_options = described.split(b" ")
        return Mount(
            id=int(number),
            parent=int(parent),
            device=device.decode("ascii"),
            root=_decode(root),
            point=_decode(point),
            fstype=_decode(fstype),
            source=_decode(source),
            options=_words(options),
            super_options=_words(super_options[0]) if super_options else (),
        )
    except ValueError as fault:
        raise FilesystemError(f"not a line of mountinfo: {line!r}") from fault


def _words(field: bytes) -> tuple[str, ...]:
    # Split first: a comma inside of a value is escaped.
    return tuple(_decode(word) for word in field.split(b","))


def _decode(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), field))


def lies_in(path: str, directory: str) -> bool:
    """Say whether an absolute path is a directory or something below it."""
    return directory == "/" or path == directory or path.startswith(directory + "/")


def mount_of(path: str, mounts: Sequence[Mount]) -> Mount:
    """Return the mount that holds a path: what a walk from the root to it meets last.

    Args:
        path: absolute, without links and dots.
        mounts: all mounts of the process.

    Raises:
        FilesystemError: the list has no root.
    """
    known = {mount.id for mount in mounts}
    roots = [mount for mount in mounts if mount.point == "/" and mount.parent not in known - {mount.id}]
    if not roots:
        raise FilesystemError("the capsule's root is not a mount", remedy="the launcher must not run in a chroot")
    found, rest = roots[0], [mount for mount in mounts if lies_in(path, mount.point)]
    while True:
        below = [mount for mount in rest if mount.parent == found.id and mount.id != found.id]
        if not below:
            return found
        found = min(below, key=lambda mount: len(mount.point))
        rest.remove(found)


def visible(mounts: Sequence[Mount]) -> tuple[Mount, ...]:
    """Return the mounts whose mount points lead to them, leaving out those that later ones hide."""
    return tuple(mount for mount in mounts if mount_of(mount.point, mounts) is mount)


def points_below(directory: str, mounts: Iterable[Mount]) -> tuple[str, ...]:
    """Return the mount points strictly below a directory."""
    return tuple(mount.point for mount in mounts if mount.point != directory and lies_in(mount.point, directory))
