"""Decides which of a capsule's files travel with its job, and which of another capsule's mounts stay untouched.

Reads the list of mounts and looks at single names; copies nothing. What belongs to the node and not to the job
(its tmpfs, its secrets, its network filesystems) never travels.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crikpy.capsule import beneath, members
from crikpy.capsule.holding import folder_of
from crikpy.capsule.members import CarriedTree
from crikpy.capsule.mounts import PSEUDO_TYPES, Mount, lies_in, mount_of, points_below, read_mounts, visible
from crikpy.capsule.ownfiles import is_own
from crikpy.capsule.procfs import is_text
from crikpy.errors import FilesystemError, NoSuchJobError
from crikpy.model.capsule import Capsule
from crikpy.model.manifest import FileArchive

_KERNELS = ("/proc", "/sys", "/dev")
_LAUNCHERS = "/.crikpy"
_NOT_THE_JOBS = ("/run", "/proc", "/sys", "/.crikpy")
_SHARED_MEMORY = "/dev/shm"  # noqa: S108  where each capsule has a filesystem of its own
_PROCESS_ROOT = re.compile(r"/proc/(\d+)/root/?")
_KUBELETS = "..data"
"""The link by which kubelet exchanges the content of secrets, tokens and config maps as one."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path of a capsule really lies; capsules that share a directory see one place by different paths.

    Attributes:
        device: `major:minor` of the filesystem.
        path: inside of that filesystem.
    """

    device: str
    path: str

    def lies_in(self, others: Iterable[Place]) -> bool:
        """Say whether it is one of the others or below one."""
        return any(self.device == other.device and lies_in(self.path, other.path) for other in others)


def place_of(path: str, mounts: Sequence[Mount]) -> Place:
    """Return where a path lies that is absolute, without links and dots."""
    mount = mount_of(path, mounts)
    inside = f"{mount.root}/{path.removeprefix(mount.point)}"
    return Place(mount.device, "/" + os.path.normpath(inside).strip("/"))


def places_of(trees: Iterable[CarriedTree], mounts: Sequence[Mount]) -> tuple[Place, ...]:
    """Return the places of the directories among some trees that travel whole."""
    return tuple(place_of(tree.root, mounts) for tree in trees if tree.kind == members.TREE)


def plan_changes(
    capsule: Capsule,
    open_paths: Sequence[str],
    *,
    node_root: Path = Path("/"),
    elsewhere: Collection[Place] = (),
    launcher: Path | None = None,
) -> tuple[CarriedTree, ...]:
    """Say what of the capsule's files must travel; nothing twice.

    Args:
        capsule: the capsule, its processes stopped.
        open_paths: paths inside the capsule of regular files that the job has open for writing.
        node_root: the root of the mount namespace in which the container runtime runs: `/proc/1/root` for an
            agent that runs in a container itself.
        elsewhere: directories that travel with another capsule and not with this one.
        launcher: the launcher's folder below /proc, where somebody holds it.

    Returns:
        The root's changes first, then whole directories, then single files as one tree.

    Raises:
        FilesystemError: the capsule's files cannot be reached.
        NoSuchJobError: the launcher is gone.
    """
    folder = launcher or folder_of(capsule.launcher_pid)
    mounts = read_mounts(folder)
    own = read_mounts(os.getpid())
    seen = visible(mounts)
    view = folder / "root"
    root = mount_of("/", mounts)
    excluded = (*_clean(capsule.excluded), *members.RESIDUE)
    # On a plain machine the capsule shows the node's root and all the node's mounts; none of them travels.
    plain = root.device == mount_of("/", own).device
    # One that the node has unmounted since lives on in the capsule, and is the node's all the same.
    nodes = frozenset((*(mount.device for mount in own), *capsule.inherited)) if plain else frozenset()

    trees: list[CarriedTree] = []
    if root.fstype == "overlay" and root.writable and not plain:
        _require_nodes(root, (*own, *_runtimes_mounts(node_root)))
        trees.append(_overlay(root, node_root, _skipped("/", excluded, seen)))
    points = [mount.point for mount in _tmpfs(seen, nodes) if not _is_secret(mount.point, view)]
    for directory in sorted({*points, *_clean(capsule.carried)}):
        if _within(directory, excluded) or not _exists(directory, view):
            continue
        if place_of(directory, mounts).lies_in(elsewhere):
            continue
        if not is_text(directory):
            raise FilesystemError(f"{directory!r} cannot travel: its name is no text in UTF-8")
        if not _covered(directory, trees, mounts):
            skipped = _skipped(directory, excluded, seen)
            trees.append(CarriedTree(kind=members.TREE, root=directory, source=view, skipped=skipped))
    open_paths = [
        path for path in open_paths if not place_of(path, mounts).lies_in(elsewhere) and not is_own(path, mounts)
    ]
    files = tuple(_single_files(open_paths, trees, mounts, excluded, view))
    if files:
        trees.append(CarriedTree(kind=members.FILES, root="/", source=view, names=files))
    return tuple(trees)


def plan_directories(
    directories: Sequence[str], launcher: Path, *, elsewhere: Collection[Place] = ()
) -> tuple[CarriedTree, ...]:
    """Return the directories of a capsule that travel because its job saves itself there.

    What lies on a network filesystem does not: the next machine sees it anyway.

    Args:
        directories: absolute paths inside the capsule.
        launcher: the launcher's folder below /proc, held.
        elsewhere: directories that travel with another capsule already.

    Raises:
        FilesystemError: one cannot be reached, or is the kernel's.
        NoSuchJobError: the launcher is gone.
    """
    mounts, view = read_mounts(launcher), launcher / "root"
    seen = visible(mounts)
    trees: list[CarriedTree] = []
    for directory in sorted(set(_clean(directories))):
        if _within(directory, (*_KERNELS, _LAUNCHERS)) or not is_text(directory):
            raise FilesystemError(f"{directory!r} cannot travel")
        if mount_of(directory, mounts).network:
            continue
        if not _exists(directory, view) or place_of(directory, mounts).lies_in(elsewhere):
            continue
        if not _covered(directory, trees, mounts):
            skipped = _skipped(directory, (), seen)
            trees.append(CarriedTree(kind=members.TREE, root=directory, source=view, skipped=skipped))
    return tuple(trees)


def any_stays(directories: Sequence[str], launcher: Path) -> bool:
    """Say whether one of these directories of a capsule lies on a network filesystem.

    Raises:
        NoSuchJobError: the launcher is gone.
    """
    mounts = read_mounts(launcher)
    return any(mount_of(directory, mounts).network for directory in _clean(directories))


def inherited_memory(launcher_pid: int) -> tuple[str, ...]:
    """Return the devices of the memory filesystems that a new capsule of a plain machine has from its node.

    To be asked before the job begins: what is mounted later is its own, as its /dev/shm is from the beginning.

    Raises:
        NoSuchJobError: the launcher is gone.
    """
    mounts = read_mounts(launcher_pid)
    own = mount_of(_SHARED_MEMORY, mounts).device
    return tuple(sorted({mount.device for mount in mounts if mount.fstype == "tmpfs"} - {own}))


def mounts_to_spare(archive: FileArchive, mounts: Sequence[Mount]) -> tuple[str, ...]:
    """Return the mount points of a capsule that an archive must not be written through.

    A whole tree ends where another mount begins. Single files may lie on any disk of the machine, but not on a
    filesystem that other machines see too, and not in the kernel's own.
    """
    below = [mount for mount in visible(mounts) if mount.point != archive.root]
    if archive.kind == members.FILES:
        below = [mount for mount in below if _not_a_disk(mount)]
    return points_below(archive.root, below)


def _not_a_disk(mount: Mount) -> bool:
    return mount.network or mount.fstype in PSEUDO_TYPES or not mount.writable


def _runtimes_mounts(node_root: Path) -> Iterator[Mount]:
    """Yield the mounts that the container runtime sees, as far as they can be read."""
    named = _PROCESS_ROOT.match(str(node_root))
    for pid in {1, int(named[1]) if named else 1}:
        with contextlib.suppress(NoSuchJobError):
            yield from read_mounts(pid)


def _require_nodes(root: Mount, trusted: Iterable[Mount]) -> None:
    """Make sure that the node itself has mounted a container's root.

    The upper directory is a path in the words of whoever mounted the overlay, and in a namespace of its own a
    container may mount one with any words. The runtime mounts roots in the node's, where the same one is seen.

    Raises:
        FilesystemError: it has not, as far as can be seen.
    """
    if not any(mount.fstype == "overlay" and mount.device == root.device for mount in trusted):
        raise FilesystemError(
            "the container's root was not mounted by the node, so that nobody can say where its changes are",
            remedy="name the root of the mount namespace in which the container runtime works, /proc/PID/root, in"
            " CRIKPY_CRIU_NODE_ROOT, and run no other containers inside of containers",
        )


def _overlay(root: Mount, node_root: Path, skipped: frozenset[str]) -> CarriedTree:
    upper = root.upper_directory
    if upper is None:
        raise FilesystemError("the container's root is read-only but an overlay: nothing of it can travel")
    if not upper.is_absolute():
        raise FilesystemError(
            f"the container runtime gives the changes of the root as {str(upper)!r}, relative to an unknown place",
            remedy="set the runtime's storage to absolute paths",
        )
    source = node_root / upper.relative_to("/")
    if not os.path.isdir(source):  # noqa: PTH112  # Path.is_dir raises where it may not look
        raise FilesystemError(
            f"the changes of the container's root are not at {str(source)!r}",
            remedy="run crikpy in the node's mount namespace, or give it the node's root",
        )
    marks = "user.overlay." if "userxattr" in root.super_options else "trusted.overlay."
    return CarriedTree(kind=members.OVERLAY, root="/", source=source, skipped=skipped, marks=marks)


def _tmpfs(seen: Iterable[Mount], nodes: Collection[str]) -> Iterator[Mount]:
    """Yield the memory filesystems that are the job's own; one that is mounted twice comes once."""
    found: set[tuple[str, str]] = set()
    for mount in seen:
        theirs = _within(mount.point, _NOT_THE_JOBS) or mount.point in {"/dev", "/"} or mount.device in nodes
        if mount.fstype == "tmpfs" and mount.writable and not theirs and (mount.device, mount.root) not in found:
            found.add((mount.device, mount.root))
            yield mount


def _single_files(
    paths: Iterable[str],
    trees: Sequence[CarriedTree],
    mounts: Sequence[Mount],
    excluded: Collection[str],
    view: Path,
) -> Iterator[str]:
    for path in sorted(set(paths)):
        if not path.startswith("/") or _within(path, (*_KERNELS, *excluded)) or _covered(path, trees, mounts):
            continue
        if _not_a_disk(mount_of(path, mounts)):
            continue
        # Absent: deleted while open. CRIU carries such files inside its images.
        found = _look(path, view)
        if found is not None and stat.S_ISREG(found.st_mode):
            yield members.relative(path, "/")


def _is_secret(point: str, view: Path) -> bool:
    """Say whether a mount holds a secret of the pod, or is no directory and so nothing to carry whole."""
    found = _look(point, view)
    return found is None or not stat.S_ISDIR(found.st_mode) or _look(f"{point}/{_KUBELETS}", view) is not None


def _exists(directory: str, view: Path) -> bool:
    """Say whether there is a directory to carry; anything else of that name is a mistake.

    Raises:
        FilesystemError: it is not a directory, or is reached through a symbolic link.
    """
    found = _look(directory, view)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        raise FilesystemError(
            f"{directory!r} is to be carried and is not a directory", remedy="symbolic links are not followed"
        )
    return found is not None


def _look(path: str, view: Path) -> os.stat_result | None:
    """Return what a path of the capsule is, following no link; None when there is nothing."""
    if path == "/":
        with beneath.touching("look at", path):
            return view.stat()
    *above, last = members.components(members.relative(path, "/"))
    with beneath.touching("look at", path), beneath.opened_trusted(view) as top:
        try:
            with beneath.opened_below(top, above) as parent:
                return beneath.look(parent, last)
        except FileNotFoundError:
            return None


def _within(path: str, directories: Iterable[str]) -> bool:
    return any(lies_in(path, directory) for directory in directories)


def _covered(path: str, trees: Iterable[CarriedTree], mounts: Sequence[Mount]) -> bool:
    """Say whether a tree that travels already holds a path: it lies in it and on the same mount."""
    mount = mount_of(path, mounts)
    return any(lies_in(path, tree.root) and mount_of(tree.root, mounts) is mount for tree in trees)


def _skipped(root: str, excluded: Iterable[str], seen: Iterable[Mount]) -> frozenset[str]:
    """Return the names below a tree's root that stay behind: what is excluded, and other mounts."""
    below = {path for path in excluded if path != root and lies_in(path, root)} | set(points_below(root, seen))
    return frozenset(members.relative(path, root) for path in below)


def _clean(paths: Iterable[str]) -> tuple[str, ...]:
    """Return absolute paths in the spelling that mountinfo uses."""
    paths = tuple(paths)
    if strange := [path for path in paths if not path.startswith("/") or ".." in path.split("/")]:
        raise FilesystemError(f"{strange[0]!r} is not an absolute path inside the capsule")
    return tuple("/" + os.path.normpath(path).strip("/") for path in paths)
