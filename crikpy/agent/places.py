"""Where launchers' sockets lie below kubelet's directory, and how one is reached that the pod itself could swap.

kubelet owns the path down to the volume; what is inside belongs to the pod, which may be hostile. So every step is
taken from an open directory and follows no link, and a socket is pinned: whatever comes in its place later, the
pinned one is meant.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from crikpy import names
from crikpy.errors import NoLauncherError

_POD_UID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}")
"""A UUID; that of a static pod is a hash without dashes (kubelet, pkg/kubelet/config/common.go)."""

_CONTAINER = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""A DNS label (Kubernetes, ValidateDNS1123Label)."""

_STEPS = ("volumes", "kubernetes.io~empty-dir", names.LAUNCHER_VOLUME)
_MOST_ENTRIES = 256
"""Names that are looked at in a volume: no pod has so many containers, and a hostile one could have millions."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LauncherPlace:
    """Where one container's launcher listens.

    Attributes:
        pod_uid: the pod's UID.
        container: the container's name.
    """

    pod_uid: str
    container: str

    def __str__(self) -> str:
        return f"{self.pod_uid}/{self.container}"


@contextlib.contextmanager
def opened_steps(kubelet_dir: Path, pod_uid: str) -> Iterator[tuple[int, bool]]:
    """Lend a descriptor of a pod's launcher volume, or of the last directory on the way that is there.

    Yields:
        The descriptor, and whether it is the volume's.

    Raises:
        FileNotFoundError: the pod has no directory.
        OSError: it cannot be opened.
    """
    found = os.open(kubelet_dir / "pods" / pod_uid, _DIRECTORY)
    complete = True
    try:
        for step in _STEPS:
            try:
                deeper = os.open(step, _DIRECTORY, dir_fd=found)
            except OSError:
                complete = False
                break
            os.close(found)
            found = deeper
        yield found, complete
    finally:
        os.close(found)


def is_pod_uid(text: str) -> bool:
    """Say whether a text can be the UID of a pod, and so the name of its directory."""
    return _POD_UID.fullmatch(text) is not None


def pod_uids(kubelet_dir: Path) -> frozenset[str]:
    """Return the UIDs of all pods that kubelet has directories for.

    Raises:
        OSError: kubelet's directory cannot be read.
    """
    with os.scandir(kubelet_dir / "pods") as entries:
        return frozenset(entry.name for entry in entries if is_pod_uid(entry.name))


def containers_in(volume: int) -> tuple[str, ...]:
    """Return the names of the directories in a volume that can be containers'."""
    with os.scandir(volume) as entries:
        return tuple(
            entry.name
            for entry in islice(entries, _MOST_ENTRIES)
            if _CONTAINER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
        )


@contextlib.contextmanager
def opened_container(volume: int, container: str) -> Iterator[int]:
    """Lend a descriptor of a container's directory in a volume.

    Raises:
        OSError: it is not there, or no directory.
    """
    found = os.open(container, _DIRECTORY, dir_fd=volume)
    try:
        yield found
    finally:
        os.close(found)


def has_socket(directory: int) -> bool:
    """Say whether there is a socket where a launcher makes it."""
    try:
        found = os.stat(names.LAUNCHER_SOCKET, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISSOCK(found.st_mode)


def pin(kubelet_dir: Path, place: LauncherPlace) -> int:
    """Return a descriptor of a launcher's socket, the caller's to close.

    Raises:
        NoLauncherError: there is no socket.
        OSError: there are no descriptors left.
    """
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with (
            opened_steps(kubelet_dir, place.pod_uid) as (volume, complete),
            opened_container(volume, place.container) as directory,
        ):
            found = os.open(names.LAUNCHER_SOCKET, flags, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as absent:
        raise NoLauncherError(f"there is no launcher's socket of {place}") from absent
    if not complete or not stat.S_ISSOCK(os.fstat(found).st_mode):
        os.close(found)
        raise NoLauncherError(f"there is no launcher's socket of {place}")
    return found


def path_of(pinned: int) -> Path:
    """Return a path that means a pinned socket, for this process and while the descriptor is open."""
    return Path(f"/proc/self/fd/{pinned}")
