"""Finds the System V objects of a job's IPC namespace, and whether they can move with the job.

CRIU saves such a namespace whole or not at all: whole if it is not in it itself. What it restores is a namespace
of the job's own. The containers of a pod share theirs; so where others are, nothing of it may be taken that could
be theirs, and nothing left behind that could be the job's. Changes nothing.

Source: ipc/shm.c, sem.c and msg.c for the columns of /proc/sysvipc; its PIDs are those of the reader's namespace.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from crikpy.aio.threads import Thread
from crikpy.capsule import procfs, syscalls
from crikpy.capsule.holding import Process, folder_of
from crikpy.errors import CapsuleError

_KINDS = {"shm": "shared memory", "sem": "semaphores", "msg": "message queues"}
_PIDS = frozenset({"cpid", "lpid", "lspid", "lrpid"})
_PAUSE = "pause"
"""What keeps a pod's namespaces and uses nothing in them: the first process of its sandbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemVObject:
    """One piece of shared memory, one set of semaphores or one queue.

    Attributes:
        kind: which of them, in words.
        creator: uid of who made it.
        users: PIDs of those who made or used it last and live, as far as the kernel says; on the node.
        used: False of semaphores with which nobody has ever done anything.
    """

    kind: str
    creator: int
    users: frozenset[int]
    used: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What a dump has to do about an IPC namespace.

    Attributes:
        travels: CRIU has to stay out of it, so that it saves the namespace.
        refusal: why the job cannot be saved; or empty.
    """

    travels: bool = False
    refusal: str = ""


def fate_of(root: int, launcher: Process, inhabitants: Collection[int], *, attached: bool = False) -> Fate:
    """Return what becomes of the objects of a job.

    Args:
        root: the job's root process.
        launcher: the capsule's launcher.
        inhabitants: all processes of the capsule, as this process sees them.
        attached: whether a process of the job has System V shared memory in its own.

    Raises:
        CapsuleError: the capsule is gone.
    """
    space = _space_of(root)
    if space != _space_of(launcher):
        return Fate()  # made by an earlier restore: CRIU is outside by itself
    objects = objects_of(launcher)
    if not objects:
        return Fate()
    neighbours = _neighbours(space, launcher, {*inhabitants, _parent_of(launcher)})
    if not neighbours:
        return Fate(travels=True)
    users = _users(inhabitants)
    ours = [one for one in objects if one.users & set(inhabitants) or _may_be_of(users, one)]
    if not ours and not attached:
        return Fate()
    kinds = ", ".join(sorted({one.kind for one in ours or objects}))
    return Fate(
        refusal=f"it keeps System V {kinds} where others are too, such as {neighbours[0]}: give it a pod of one "
        "container, or have it use POSIX shared memory and semaphores"
    )


def objects_of(process: Process) -> tuple[SystemVObject, ...]:
    """Return all System V objects of a process's IPC namespace.

    Raises:
        CapsuleError: the process is gone, or its namespace may not be entered.
    """
    found: list[SystemVObject] = []
    faults: list[OSError] = []

    def read() -> None:
        try:
            space = os.open(folder_of(process) / "ns/ipc", os.O_RDONLY | os.O_CLOEXEC)
            try:
                syscalls.enter_ipc_namespace(space)
            finally:
                os.close(space)
            for kind in _KINDS:
                with contextlib.suppress(FileNotFoundError):  # a kernel without it
                    found.extend(_objects(kind, Path(f"/proc/sysvipc/{kind}").read_text().splitlines()))
        except OSError as fault:
            faults.append(fault)

    reader = Thread(target=read, name="crikpy-system-v")  # which ends, and with it its being there
    reader.start()
    reader.join()
    if faults:
        raise CapsuleError(f"the IPC namespace of process {process} cannot be read: {faults[0]}") from faults[0]
    return tuple(found)


def _objects(kind: str, table: list[str]) -> Iterator[SystemVObject]:
    """Yield what a table lists; for semaphores in the namespace that it is of."""
    names = table[0].split()
    for line in table[1:]:
        row = dict(zip(names, map(int, line.split()), strict=True))
        users = frozenset(pid for name, pid in row.items() if name in _PIDS and pid)
        if kind == "sem":
            with contextlib.suppress(OSError):  # it has just been removed
                users = syscalls.semaphore_users(row["semid"], row["nsems"])
        yield SystemVObject(kind=_KINDS[kind], creator=row["cuid"], users=users, used=bool(row.get("otime", 1)))


def _neighbours(space: str, launcher: Process, inhabitants: Collection[int]) -> list[str]:
    """Return the names of others in an IPC namespace, but for the first process of a sandbox."""
    found = []
    try:
        capsule = (folder_of(launcher) / "ns/pid").readlink()
    except OSError as fault:
        raise CapsuleError(f"process {launcher} is gone") from fault
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) not in inhabitants:
            with contextlib.suppress(OSError, LookupError):
                if (folder / "ns/pid").readlink() == capsule:
                    continue  # the job has started it since they were listed
                if (folder / "ns/ipc").readlink() == Path(space) and not _keeps_a_sandbox(folder):
                    found.append(procfs.shown(procfs.read_status(folder)["Name"]))
    return found


def _keeps_a_sandbox(folder: Path) -> bool:
    status = procfs.read_status(folder)
    return status["Name"] == _PAUSE and status["NSpid"].split()[-1] == "1" and len(status["NSpid"].split()) > 1


def _parent_of(launcher: Process) -> int:
    """Return who made the capsule and waits for its end: `unshare` on a plain machine."""
    try:
        return int(procfs.read_status(folder_of(launcher))["PPid"])
    except (OSError, LookupError) as fault:
        raise CapsuleError(f"process {launcher} is gone") from fault


def _may_be_of(users: Collection[int], one: SystemVObject) -> bool:
    """Say whether an object whose users have all ended could be one of these users'."""
    return not one.users and one.used and one.creator in users


def _users(pids: Collection[int]) -> set[int]:
    """Return the effective uids of processes."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError, LookupError):
            found.add(int(procfs.read_status(Path(f"/proc/{pid}"))["Uid"].split()[1]))
    return found


def _space_of(process: Process) -> str:
    try:
        return os.readlink(folder_of(process) / "ns/ipc")
    except OSError as fault:
        raise CapsuleError(f"process {process} is gone") from fault
