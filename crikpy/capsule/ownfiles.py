"""Files that every container has for itself, so that a moved job finds its new one's where it had its old one's.

Kubelet writes /etc/hosts and the like for each pod, and puts secrets, tokens and config maps into directories with
names of the moment (`..2025_01_31_12_00_00.123`, to which `..data` leads); /proc and /sys are windows into the
kernel. Neither their sizes nor their names need be the same in another container, and none of them travels: they
are the container's and not the job's. Names only are judged here; nothing is opened or changed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

from crikpy.capsule.beneath import exists_inside
from crikpy.capsule.holding import Process, folder_of
from crikpy.capsule.mounts import PSEUDO_TYPES, Mount, lies_in, mount_of, read_mounts

_FIXED: Final = frozenset(
    {
        *("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log"),
        *("/run/systemd/resolve/resolv.conf", "/run/systemd/resolve/stub-resolv.conf"),
    }
)
_WRITTEN: Final = re.compile(r"/\.\.\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d\.\d+(?=/|$)")
"""Kubelet's directory for one state of a volume (pkg/volume/util/atomic_writer.go)."""

_KERNELS: Final = ("/proc", "/sys")
_PROCESS: Final = re.compile(r"/proc/(\d+)(?:/task/\d+)?(/.*|$)")

_TERMINALS: Final = "/dev/pts"
"""A job's own, which CRIU makes anew."""

_NOTHING: Final = "/dev/null"
_PLACE_FOR_REMOVED: Final = "/dev/shm/"  # noqa: S108  memory of the capsule's own, where a file can be made and removed


def is_own(path: str, mounts: Sequence[Mount]) -> bool:
    """Say whether a file is the container's own.

    Args:
        path: of a regular file, as its processes name it.
        mounts: the container's.
    """
    if path in _FIXED or _WRITTEN.search(path) or _is_kernels(path, mounts):
        return True
    mount = mount_of(path, mounts)
    return mount.point == path and _WRITTEN.search(mount.root) is not None


def _is_kernels(path: str, mounts: Sequence[Mount]) -> bool:
    kernels = any(lies_in(path, top) for top in _KERNELS) or mount_of(path, mounts).fstype in PSEUDO_TYPES
    return kernels and not lies_in(path, _TERMINALS)


class Counterparts:
    """What a new container has in the place of files that were the old one's own."""

    def __init__(self, launcher: Process, recorded: Collection[str], processes: Collection[int]) -> None:
        """Look at a container.

        Args:
            launcher: its launcher.
            recorded: files that were found to be the old one's own; others are known by their names.
            processes: PIDs that the job will have there.

        Raises:
            NoSuchJobError: the launcher is gone.
        """
        self._mounts = read_mounts(launcher)
        self._view = folder_of(launcher) / "root"
        self._recorded = frozenset(recorded)
        self._processes = frozenset(processes)

    def of(self, path: str, *, directory: bool = False, removed: bool = False) -> str | None:
        """Return where a file of the container's own is found; None for all others.

        What is not there any more has nothing in it: the job must not be lost for that.

        Args:
            path: where it was.
            directory: it is one.
            removed: it had no name any more, so that CRIU makes it anew beside the one that it had.
        """
        written = _WRITTEN.search(path) is not None
        if removed:
            return _PLACE_FOR_REMOVED + path.rpartition("/")[2] if written else None
        if not written and path not in self._recorded and not is_own(path, self._mounts):
            return None
        process = _PROCESS.fullmatch(path)
        if process and int(process[1]) in self._processes:
            # Threads are made after files are opened.
            main = f"/proc/{process[1]}/task/{process[1]}{process[2]}"
            return main if path.startswith(f"/proc/{process[1]}/task/") else path
        found = _WRITTEN.sub("/..data", path)
        if directory:
            while found and not exists_inside(self._view, found):
                found = found.rpartition("/")[0]
            return found or "/"
        return found if exists_inside(self._view, found) else _NOTHING
