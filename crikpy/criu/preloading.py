"""Choose the libraries of ours that CRIU is started with, where it cannot do without them.

They lie beside the launcher (daemonset/launcher) and are handed to the bundle's loader by a descriptor; nothing of
the job's image may ever be. Where one is not needed, it is not loaded: CRIU unchanged is the best known one.

A dump that is disturbed while CRIU's code is inside the job ends by exit(3), in a signal handler, which now and
then never returns: the job would stand still for ever where nobody is left to kill CRIU. And a dump has to read
the job's resource limits. Without CAP_SYS_RESOURCE, as in sandboxes and rootless clusters, prlimit(2) refuses that
for every process of another uid, though /proc shows the same numbers to everybody.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from crikpy import names

_SYS_RESOURCE: Final = 24
"""Bit of the capability (include/uapi/linux/capability.h)."""


def for_dump() -> tuple[str, ...]:
    """Return the names of the libraries that a dumping CRIU needs here."""
    hidden = hides_limits(Path("/proc/self/status").read_text())
    return (names.EXITS_LIBRARY, names.LIMITS_LIBRARY) if hidden else (names.EXITS_LIBRARY,)


def for_restore(*, may_use_tiles: bool, lost_sessions: bool) -> tuple[str, ...]:
    """Return the names of the libraries that a restoring CRIU needs.

    Args:
        may_use_tiles: what the dump said of tiles.
        lost_sessions: whether children of the root are in a session whose leader has ended.
    """
    tiles = (names.TILES_LIBRARY,) if may_use_tiles else ()
    return (*tiles, names.SESSIONS_LIBRARY) if lost_sessions else tiles


def hides_limits(status: str) -> bool:
    """Say whether the kernel hides the limits of other users' processes from the one with this status.

    Args:
        status: /proc/PID/status (proc_pid_status(5)).

    Raises:
        ValueError: it is something else.
    """
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    if found is None:
        raise ValueError("no CapEff in a process's status")
    return not int(found[1], 16) >> _SYS_RESOURCE & 1


def open_library(launcher: Path, name: str) -> int | None:
    """Open a library beside the launcher, or return None when it is missing: most jobs can do without."""
    try:
        return os.open(launcher.parent / name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
