"""Enter a capsule's namespaces from outside, and keep the order of PIDs in it.

Programs enter by util-linux's nsenter, which needs nothing inside: the capsule's image may hold not even a
shell. What is run is reached by inherited descriptors (see crikpy.criu.argv), so nothing is mounted for it.
Whoever enters a container that may be hostile names its launcher by a held folder (crikpy.capsule.holding): by its
PID alone, the namespaces of whoever has that PID then would be entered.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from crikpy.aio import children
from crikpy.aio.clock import Deadline
from crikpy.capsule import cgroups, procfs
from crikpy.capsule.holding import Process, folder_of
from crikpy.errors import CapsuleError, NodeError

_NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "cgroup")
_OPTIONS = {"mnt": "--mount", "pid": "--pid", "net": "--net", "ipc": "--ipc", "uts": "--uts", "cgroup": "--cgroup"}

_NSENTER = "/usr/bin/nsenter"

_JOIN = 'while [ "$1" != -- ]; do echo 0 > "$1" || exit 126; shift; done; shift; exec "$@"'
"""Writes `0`, the writer itself, into each named cgroup.procs, then becomes the rest of its words."""


_LEAVE = 'while [ "$1" != -- ]; do { echo 0 > "$1"; } 2>/dev/null || :; shift; done; shift; exec "$@"'
"""The same for cgroups that need not be joined."""


def dump_entry(launcher: Process, *, saves_ipc: bool = False) -> tuple[str, ...]:
    """Return the words that enter for a dump, out of the cgroups of whoever starts it.

    A container that is killed, or has no memory left, is killed as a whole: a CRIU that went with it in the middle
    of its work would take a process of the job along. Alone it ends in order, as soon as nobody listens to it.
    Memory that it needs is not counted to the job either.

    Args:
        launcher: the capsule's.
        saves_ipc: the IPC namespace is part of the dump, which takes that CRIU is not in it.
    """
    kinds = [kind for kind in _NAMESPACES if kind != "ipc" or not saves_ipc]
    return (*outside(), *_nsenter(launcher, kinds))


def outside() -> tuple[str, ...]:
    """Return the words that start a program out of the cgroups of whoever starts it."""
    files = [str(path) for path in cgroups.topmost_files()]
    return ("/bin/sh", "-c", _LEAVE, "crikpy-leave", *files, "--")


def restore_entry(launcher: Process) -> tuple[str, ...]:
    """Return the words that enter for a restore: the capsule's cgroups first, then its namespaces."""
    try:
        files = [str(path) for path in cgroups.procs_files(launcher) if os.access(path, os.W_OK)]
    except OSError as fault:
        raise CapsuleError(f"the launcher (process {launcher}) is gone") from fault
    return ("/bin/sh", "-c", _JOIN, "crikpy-enter", *files, "--", *_nsenter(launcher, _NAMESPACES))


def raise_last_pid(launcher: Process, last_pid: int, deadline: Deadline) -> None:
    """Have the next process of the capsule get a PID above `last_pid`.

    Only the PID namespace is entered: /proc/sys is the node's own and writable, and the kernel takes the
    writer's namespace (kernel/pid_namespace.c, pid_ns_ctl_handler).

    Raises:
        NodeError: the kernel refused, or there is no nsenter.
        CapsuleError: the launcher is gone.
        DeadlineError: it took too long.
    """
    write = f"echo {last_pid} > /proc/sys/kernel/ns_last_pid"
    try:
        status, text = children.run((*_nsenter(launcher, ("pid",)), "/bin/sh", "-c", write), deadline=deadline)
    except OSError as fault:
        raise NodeError(f"{_NSENTER} cannot be run: {fault}", remedy="install util-linux") from fault
    if status != 0:
        raise NodeError(
            f"the PIDs of the capsule could not be raised: {text.strip()}",
            remedy="run as root with CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE",
        )


def pid_limit() -> int:
    """Return the kernel's highest PID plus one."""
    return int(Path("/proc/sys/kernel/pid_max").read_text())


def clear_last_pid(highest: int) -> int:
    """Return a value for raise_last_pid that keeps clear of a job's PIDs, wrapping round if it must.

    Args:
        highest: the highest PID or thread id of the job.
    """
    return highest if highest + 1000 < pid_limit() else 300


def members(launcher: Process) -> dict[int, int]:
    """Return the processes of the capsule's PID namespace, launcher included: node PID → PID inside.

    Raises:
        CapsuleError: the launcher is gone.
    """
    try:
        space = os.readlink(folder_of(launcher) / "ns/pid")
    except OSError as fault:
        raise CapsuleError(f"the launcher (process {launcher}) is gone") from fault
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.readlink(entry / "ns/pid") == space:
                found[int(entry.name)] = inner_pid(int(entry.name))
        except OSError:
            continue  # it has just ended
    return found


def inner_pid(pid: int) -> int:
    """Return a process's PID inside its own namespace."""
    try:
        return int(procfs.read_status(Path(f"/proc/{pid}"))["NSpid"].split()[-1])
    except KeyError as fault:
        raise ProcessLookupError(pid) from fault


def inner_pids(pids: Iterable[int]) -> Iterator[int]:
    """Yield the PIDs of processes inside their own namespaces; those that have ended are left out."""
    for pid in pids:
        with contextlib.suppress(OSError):
            yield inner_pid(pid)


def _nsenter(process: Process, kinds: Sequence[str]) -> tuple[str, ...]:
    """Return nsenter's words; a namespace that the caller shares already is not entered again."""
    folder = folder_of(process)
    entered = [f"{_OPTIONS[kind]}={folder}/ns/{kind}" for kind in kinds if _differs(process, kind)]
    return (_NSENTER, *entered, "--")


def _differs(process: Process, kind: str) -> bool:
    try:
        return os.readlink(folder_of(process) / "ns" / kind) != os.readlink(f"/proc/self/ns/{kind}")
    except OSError as fault:  # which one, depends on how far its end has come
        raise CapsuleError(f"the launcher (process {process}) is gone") from fault
