"""Which cgroups a process is in, on cgroup v1, v2 and the hybrid of both.

A restored job must be counted and bounded by its new container: whoever enters the capsule to restore it joins
the launcher's cgroup in every hierarchy first, and the restored processes stay there.
Source: cgroups(7), /proc/[pid]/cgroup and proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from crikpy.capsule.holding import Process, folder_of

_UNLIMITED = 1 << 60
"""What cgroup v1 shows for a cgroup without a limit is above this."""

_OCTAL = re.compile(r"\\([0-7]{3})")


def procs_files(process: Process) -> tuple[Path, ...]:
    """Return the `cgroup.procs` file of each cgroup of a process that this machine's mounts show."""
    return resolve(
        os.fsdecode((folder_of(process) / "cgroup").read_bytes()),
        os.fsdecode(Path("/proc/self/mountinfo").read_bytes()),
    )


def topmost_files() -> tuple[Path, ...]:
    """Return the `cgroup.procs` file of the topmost cgroup of each hierarchy that this machine's mounts show.

    Where this process has a cgroup namespace of its own, these are its namespace's.
    """
    ours = Path("/proc/self/cgroup").read_text(errors="surrogateescape")
    tops = "".join(f"{':'.join(line.split(':', 2)[:2])}:/\n" for line in _lines(ours))
    return resolve(tops, os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))


def resolve(membership: str, mountinfo: str) -> tuple[Path, ...]:
    """Return the files, in the order of the membership's lines; a hierarchy that is not mounted is left out.

    So is a cgroup that lies outside of the reader's cgroup namespace, whose path begins with `/..`.

    Args:
        membership: text of /proc/<pid>/cgroup, lines `id:controllers:path`.
        mountinfo: text of /proc/self/mountinfo of whoever will write.
    """
    hierarchies = _hierarchies(mountinfo)
    found: list[Path] = []
    for line in _lines(membership):
        _, controllers, path = line.split(":", 2)
        place = _locate(controllers, path, hierarchies)
        if place is not None:
            found.append(place / "cgroup.procs")
    return tuple(found)


def _hierarchies(mountinfo: str) -> list[tuple[str, str, Path]]:
    """Return (controllers, root, mount point) of each mounted hierarchy; v2 has the empty name."""
    found: list[tuple[str, str, Path]] = []
    for line in _lines(mountinfo):
        head, _, tail = line.partition(" - ")
        fields, kind = head.split(" "), tail.split(" ")
        if kind[0] == "cgroup2":
            found.append(("", _unescape(fields[3]), Path(_unescape(fields[4]))))
        elif kind[0] == "cgroup":
            found.append((kind[2], _unescape(fields[3]), Path(_unescape(fields[4]))))
    return found


def _locate(controllers: str, path: str, hierarchies: list[tuple[str, str, Path]]) -> Path | None:
    wanted = set(controllers.split(",")) if controllers else set()
    for options, root, point in hierarchies:
        matches = not options if not wanted else wanted <= set(options.split(","))
        if not matches:
            continue
        prefix = root.rstrip("/")
        below = path.removeprefix(prefix).split("/")
        if (path == root or path.startswith(f"{prefix}/")) and ".." not in below:
            return point.joinpath(*below[1:])
    return None


def _lines(text: str) -> list[str]:
    """Split as the kernel means it: other characters that Python takes for the end of a line may be in a name."""
    return [line for line in text.split("\n") if line]


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def memory_room(process: Process) -> int | None:
    """Return how many bytes the memory limits of a process's cgroup and of those above it leave; None without one.

    Pages of files that can be dropped at any time count as free. Source: memory in admin-guide/cgroup-v1 and v2.
    """
    try:
        return least_room([path.parent for path in procs_files(process)])
    except OSError:
        return None


def least_room(places: Sequence[Path]) -> int | None:
    """Return how many bytes the memory limits of some cgroups' folders and of those above them leave; or None."""
    rooms = [_room(folder) for place in places for folder in (place, *place.parents)]
    return min((room for room in rooms if room is not None), default=None)


def _room(folder: Path) -> int | None:
    for limit, usage, reclaimable in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most = int((folder / limit).read_text())
            used = int((folder / usage).read_text())
            found = re.search(rf"^{reclaimable} (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
        except (OSError, ValueError):  # not of this version, or `max`
            continue
        if most < _UNLIMITED:
            return max(0, most - used + (int(found[1]) if found else 0))
    return None
