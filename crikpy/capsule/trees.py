"""Which processes of a capsule are the job: its root and all that descends from it.

CRIU saves one tree. A process that left it (its parent ended, so the launcher became its parent) would be lost
without a word; a process that somebody entered the capsule with (a debugging shell) is none of the job's. What a
sandbox of the job's runs in a PID namespace of its own is found by its parents alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from crikpy.capsule import entering


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTree:
    """The processes of a job, as the node sees them.

    Attributes:
        members: the root and its descendants, the root first.
        strays: processes that the job started and that left its tree.
        nested: descendants of the root in PID namespaces of their own.
    """

    members: tuple[int, ...]
    strays: tuple[int, ...]
    nested: tuple[int, ...] = ()


def find_tree(launcher_pid: int, root: int, launcher: Path | None = None) -> JobTree:
    """Return the job's processes; those that end meanwhile are left out.

    Args:
        launcher_pid: the launcher.
        root: the job's root.
        launcher: the launcher's folder below /proc, where somebody holds it.
    """
    inside = entering.members(launcher or launcher_pid)
    children: dict[int, list[int]] = {}
    for pid in inside:
        try:
            children.setdefault(psutil.Process(pid).ppid(), []).append(pid)
        except psutil.NoSuchProcess:
            continue
    members = _descend(root, children)
    adopted = [
        pid for child in children.get(launcher_pid, ()) if child != root for pid in _descend(child, children)
    ]
    return JobTree(members=tuple(members), strays=tuple(adopted), nested=tuple(_nested(root, members, inside)))


def _nested(root: int, members: Iterable[int], inside: Collection[int]) -> list[int]:
    """Return what descends from the members of the root's PID namespace and is in another."""
    space = _space_of(root)
    children: dict[int, list[int]] = {}
    for pid in psutil.pids():
        if pid not in inside and _space_of(pid) not in {space, ""}:  # or it was born since
            with contextlib.suppress(psutil.NoSuchProcess):
                children.setdefault(psutil.Process(pid).ppid(), []).append(pid)
    return [pid for member in members for child in children.get(member, ()) for pid in _descend(child, children)]


def _space_of(pid: int) -> str:
    """Return the PID namespace of a process; empty when it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _descend(root: int, children: dict[int, list[int]]) -> list[int]:
    found = [root]
    for pid in found:
        found += children.get(pid, ())
    return found
