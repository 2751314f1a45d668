"""Which container of a pod carries which emptyDir, so that each travels once and none is forgotten.

What a container sees is read from its mounts and not from the pod's specification, whose paths may lead through
links of the image, and which does not say when two mounts are of the same files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crikpy import names
from crikpy.capsule.mounts import Mount, lies_in, read_mounts, visible

_EMPTY_DIRS = "kubernetes.io~empty-dir"


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """What one container does with the pod's emptyDirs.

    Attributes:
        carried: its mount points that travel with it.
        excluded: those that do not: the user does not want them to, or another container carries the same files.
    """

    carried: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedMount:
    """An emptyDir as one container sees it.

    Attributes:
        container: whose mount it is.
        volume: the volume's name.
        point: where it is mounted, inside.
        device: number of its filesystem.
        root: the directory of the filesystem that is seen there.
        writable: whether the container may write it; what it may not write, a restore there cannot either.
    """

    container: str
    volume: str
    point: str
    device: str
    root: str
    writable: bool


def divide_volumes(
    kubelet_dir: Path, pod_uid: str, launchers: Mapping[str, int], *, excluded: Collection[str]
) -> dict[str, Division]:
    """Say for each container which of its emptyDirs travel with it.

    Args:
        kubelet_dir: kubelet's directory.
        pod_uid: the pod's UID.
        launchers: PIDs of the launchers by container.
        excluded: names of volumes that do not travel.

    Raises:
        NoSuchJobError: a launcher is gone.
        FilesystemError: its mounts cannot be read.
    """
    volumes = _filesystems(kubelet_dir / "pods" / pod_uid / "volumes" / _EMPTY_DIRS)
    mounts = [
        found
        for container, pid in sorted(launchers.items())
        for found in shared_mounts(container, visible(read_mounts(pid)), pod_uid, volumes)
    ]
    return divide(launchers, mounts, excluded)


def shared_mounts(
    container: str, mounts: Iterable[Mount], pod_uid: str, memory: Mapping[str, str]
) -> Iterator[SharedMount]:
    """Yield which mounts of a container are emptyDirs of its pod.

    Args:
        container: the container's name.
        mounts: its mounts.
        pod_uid: the pod's UID.
        memory: the volumes that are filesystems of their own (medium Memory), by `major:minor`.
    """
    directory = re.compile(rf"/pods/{re.escape(pod_uid)}/volumes/{_EMPTY_DIRS}/([^/]+)(/|$)")
    for mount in mounts:
        on_disk = directory.search(mount.root)
        volume = on_disk[1] if on_disk else memory.get(mount.device, "")
        # A container that mounts for itself can give any name to what a server of its own shows.
        if volume and not mount.network and volume != names.LAUNCHER_VOLUME:
            yield SharedMount(
                container=container,
                volume=volume,
                point=mount.point,
                device=mount.device,
                root=mount.root,
                writable=mount.writable,
            )


def divide(
    containers: Iterable[str], mounts: Sequence[SharedMount], excluded: Collection[str]
) -> dict[str, Division]:
    """Give every directory that several mounts show to one of them: to one that may write it, the widest first."""
    carried: list[SharedMount] = []
    left: list[SharedMount] = []
    for mount in sorted(mounts, key=lambda one: (not one.writable, len(one.root), one.container, one.point)):
        wanted = mount.writable and mount.volume not in excluded
        if wanted and not any(_shows(other, mount) for other in carried):
            carried.append(mount)
        else:
            left.append(mount)
    return {
        container: Division(
            carried=tuple(sorted(mount.point for mount in carried if mount.container == container)),
            excluded=tuple(sorted(mount.point for mount in left if mount.container == container)),
        )
        for container in containers
    }


def _shows(wide: SharedMount, narrow: SharedMount) -> bool:
    return wide.device == narrow.device and lies_in(narrow.root, wide.root)


def _filesystems(directory: Path) -> dict[str, str]:
    """Return the volumes below a directory that are filesystems of their own, by `major:minor`."""
    found: dict[str, str] = {}
    try:
        outside = directory.stat().st_dev
        for entry in os.scandir(directory):
            device = entry.stat(follow_symlinks=False).st_dev
            if device != outside:
                found[f"{os.major(device)}:{os.minor(device)}"] = entry.name
    except OSError:
        return found  # kubelet is removing it; what is mounted in memory is carried for being a tmpfs then
    return found
