"""Reads the text files below /proc by lines as the kernel means them, and what its links lead to.

A process chooses its own name and the names of its files: with a carriage return in one, or another character that
Python takes for the end of a line, it could write lines of its own into what is read here. Only a newline ends a
line, and that the kernel escapes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

_SOCKET = re.compile(r"socket:\[([0-9]{1,20})\]")

ALARM = 1 << (signal.SIGALRM - 1)
"""SIGALRM in a set of signals of proc_pid_status(5)."""


def shown(name: str) -> str:
    """Return a name as it may be shown and recorded; U+FFFD for what is no text or would act on a terminal."""
    text = os.fsencode(name).decode(errors="replace")
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def is_text(name: str) -> bool:
    """Say whether a name can be recorded as it is."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file; bytes that are no text become surrogates.

    Raises:
        OSError: the process is gone, or the file not to be read.
    """
    return [os.fsdecode(line) for line in path.read_bytes().split(b"\n") if line]


def fields(lines: list[str]) -> dict[str, str]:
    """Return the fields of /proc/PID/status; the first of a name counts."""
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name, value.strip())
    return found


def read_status(folder: Path) -> dict[str, str]:
    """Return the fields of /proc/PID/status of a process, by its folder.

    Raises:
        OSError: it is gone.
    """
    return fields(read_lines(folder / "status"))


def sockets(folder: Path, *, most: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield the descriptors of a process that are sockets: its number and the socket's inode.

    Args:
        folder: of the process.
        most: after so many descriptors, sockets or not, no more are looked at.

    Raises:
        OSError: it is gone.
    """
    for link in itertools.islice((folder / "fd").iterdir(), most):
        with contextlib.suppress(OSError):  # it has just been closed
            if found := _SOCKET.fullmatch(os.readlink(link)):
                yield int(link.name), int(found[1])
