"""Read CRIU's log for people: the lines that say why, in CRIU's words, and what they mean in the user's.

The log names files and PIDs of the job but never its memory, so its end may be shown and stored.
"""

from __future__ import annotations

import re
from pathlib import Path

_LAST_LINES = 12
_FAULT = re.compile(r"(?:^|[):] +)(Error|Warn) +\(")
"""As in `(00.01) Error (criu/x.c:1)`, `(00.01)   9001: Warn  (…`, and `(00.01) pie: 9001: Error (…`."""

_MEANINGS = (
    (re.compile(r"anon_inode:\[io_uring\]"), "the job uses io_uring, which CRIU cannot save"),
    (re.compile(r"\(criu/tty\.c:\d+\)"), "the job has a terminal, which cannot be moved"),
    (re.compile(r"session leader"), "a session's leader has exited"),
    (re.compile(r"SysVIPC shmem map|doesn't live in IPC ns"), "the job uses System V shared memory"),
    (re.compile(r"Unable to interrupt task|can't interrupt task"), "the job is being traced"),
    (
        re.compile(r"Can't dump ghost file .* increase limit"),
        "the job keeps a deleted file open that is too large",
    ),
    (
        re.compile(r"Dangling connection|without peer|unreachable peer"),
        "the job waits for a service outside of it to accept its connection by a Unix socket",
    ),
    (re.compile(r"netlink: The socket has data to read"), "the job has news from the kernel to read (netlink)"),
    (re.compile(r"Can't dump corked dgram socket"), "the job is about to send a datagram (UDP_CORK)"),
    (re.compile(r"Unsupported proto \d+|Unknown socket collected"), "the job has a socket of an unusual kind"),
    (
        re.compile(r"Unable to connect a transport socket: Operation not permitted"),
        "a process of the job has confined itself by Landlock, which keeps CRIU out: turn its sandbox off",
    ),
    (
        re.compile(r"Non-empty write queue on an in-flight socket|closed in-flight socket"),
        "a client of a Unix socket of the job has not been accepted yet; another moment may be better",
    ),
    (re.compile(r"packetized mode for pipes"), "the job has a pipe in packet mode, which CRIU cannot save"),
    (
        re.compile(r"unix: FATAL: Peer \d+ unresolved"),
        "a Unix socket of the job had lost its other end, or was not accepted yet, when the job was saved",
    ),
    (re.compile(r"Can't lookup mount"), "the job has a file open from outside of its capsule"),
    (re.compile(r"Can't dump nested|doesn't have a proper root mount"), "the job made namespaces of its own"),
    (re.compile(r"File .* has bad size"), "a file that the job has open has another size here"),
    (re.compile(r"Can't open file .*: No such file"), "a file that the job has open is missing"),
    (re.compile(r"Can't fork for \d+: File exists|Pid \d+ do not match"), "a PID that the job needs is taken"),
    (re.compile(r"Cannot allocate memory|Out of memory|Can't allocate"), "there is not enough memory"),
    (re.compile(r"Can't setup RLIMIT|Can't get rlimit"), "CRIU lacks CAP_SYS_RESOURCE on this node"),
    (re.compile(r"Can't bind inet socket.*Address already in use"), "a port of the job is taken"),
)


def explain(log: Path, *, otherwise: str) -> tuple[str, str]:
    """Return one sentence for the user and the lines of the log that support it.

    Args:
        log: CRIU's log; may be missing.
        otherwise: the sentence when no known pattern stands in the log.
    """
    lines = _read(log)
    faults = [line for line in lines if _kind(line) and "RLIMIT_NOFILE for self" not in line]
    tail = faults[-_LAST_LINES:] if faults else lines[-_LAST_LINES:]
    return _meaning(faults) or otherwise, "\n".join(tail)


def _meaning(faults: list[str]) -> str | None:
    """Return what the first known error means, or else the first known warning: many a warning is harmless."""
    for line in sorted(faults, key=lambda line: _kind(line) != "Error"):
        for pattern, meaning in _MEANINGS:
            if pattern.search(line):
                return meaning
    return None


def _kind(line: str) -> str | None:
    found = _FAULT.search(line)
    return found[1] if found else None


def _read(log: Path) -> list[str]:
    try:
        return log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
