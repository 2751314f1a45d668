"""Which terminals can move with a job: those of which the job holds the other end itself, as tmux does.

CRIU makes such a pair anew, under the number that it had, in the capsule's own devpts (criu/tty.c). The other end
of every other terminal is somebody else's, who is not there after a move. Pure; surveying.py looks at processes.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

MASTER: Final = (5, 2)
"""Device number of /dev/ptmx."""

NONE_OF_THE_JOBS: Final = -1
"""The number of a controlling terminal that is no pseudo-terminal."""

_SLAVES: Final = 136
_TERMINAL: Final = re.compile(r"/dev/(?:pts/(\d+)|tty\w*|console|ptmx|pts/ptmx)(?: \(deleted\))?")
"""The kernel says `(deleted)` of one that was hung up."""

_INDEX: Final = re.compile(r"^tty-index:\s*(\d+)$", re.MULTILINE)


def master_of(facts: str) -> int | None:
    """Return the number of the pair whose master a descriptor of MASTER is, by its text in /proc/PID/fdinfo."""
    found = _INDEX.search(facts)
    return int(found[1]) if found else None


def controlling(number: int) -> int | None:
    """Return the number of a process's controlling terminal, by tty_nr of proc_pid_stat(5); None without one."""
    if number == 0:
        return None
    major, minor = number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00
    return minor if major == _SLAVES else NONE_OF_THE_JOBS


def is_terminal(target: str) -> bool:
    """Say whether a name is that of a terminal's device."""
    return _TERMINAL.fullmatch(target) is not None


def refusal(target: str, master: int | None, held: Collection[int]) -> str:
    """Return why a process cannot be saved that has a terminal open; empty when it may.

    Its own under the name /dev/tty is none that CRIU can save.

    Args:
        target: the terminal's name.
        master: the number of the pair, for the end that the job holds.
        held: numbers of the pairs whose masters the job holds.
    """
    found = _TERMINAL.fullmatch(target)
    number = int(found[1]) if found and found[1] else master
    if number in held:
        return ""
    return f"has the terminal {target} open: start the job without one, or redirect its output"


def refusal_of_controlling(own: int | None, held: Collection[int]) -> str:
    """Return why a process cannot be saved that has this controlling terminal, if any; empty when it may."""
    if own is None or own in held:
        return ""
    return "has a controlling terminal: start the job without one (no `tty: true`, no `-t`)"
