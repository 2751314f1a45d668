"""Which AppArmor profile confines a process, and whether the node has one of a name.

A restored job is a child of CRIU, which is confined by nothing: unless CRIU is told, so is the job. Sources:
apparmor(7), /proc/PID/attr/apparmor/current, /sys/kernel/security/apparmor/profiles.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from crikpy.capsule.holding import Process, folder_of

_UNCONFINED = "unconfined"
_MODE = re.compile(r" \((\w+)\)$")
_LOADED = Path("sys/kernel/security/apparmor/profiles")


def profile_of(process: Process) -> str:
    """Return the name of a process's profile; empty when it is unconfined or gone, and without AppArmor."""
    try:
        text = os.fsdecode((folder_of(process) / "attr/apparmor/current").read_bytes())
    except OSError:
        return ""
    name = _MODE.sub("", text.rstrip("\n\0"))
    return "" if name == _UNCONFINED else name


def is_loaded(profile: str, node_root: Path) -> bool:
    """Say whether the node's kernel has a profile.

    Args:
        profile: its name.
        node_root: the node's root, below which its /sys lies.
    """
    try:
        lines = os.fsdecode((node_root / _LOADED).read_bytes()).split("\n")
    except OSError:
        return False
    return any(_MODE.sub("", line) == profile for line in lines)
