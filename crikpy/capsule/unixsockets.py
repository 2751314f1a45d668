"""Which Unix sockets of a job may have their other end in somebody else's hands.

The kernel lists Unix sockets by their namespace but does not say who is connected with whom; so all of a job's own
ends count that are connected, and whoever saves it tells CRIU that it may do without the other ends. Nothing is
opened here. Source: proc_pid_net(5), net/unix/af_unix.c.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from crikpy.capsule import procfs
from crikpy.capsule.holding import Process, folder_of

MOST: Final = 8000
"""They are named on a command line, which has room for some more."""

_LISTING_BYTES: Final = 64 * 1024 * 1024
_CONNECTED: Final = b"03"
_KINDS: Final = frozenset({b"%04X" % socket.SOCK_STREAM, b"%04X" % socket.SOCK_SEQPACKET})


def connected_ends(pids: Sequence[int], launcher: Process) -> tuple[int, ...]:
    """Return the inodes of a job's ends of connections by Unix sockets, MOST of them at most.

    Args:
        pids: the job's processes, as this process sees them.
        launcher: of its capsule, whose network namespace is the job's.
    """
    connected = _connected(folder_of(launcher) / "net/unix")
    found: dict[int, None] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for _, inode in procfs.sockets(Path(f"/proc/{pid}")):
                if inode in connected:
                    found[inode] = None
    return tuple(found)[:MOST]


def _connected(listing: Path) -> frozenset[int]:
    try:
        with listing.open("rb") as file:
            lines = file.read(_LISTING_BYTES).split(b"\n")
    except OSError:
        return frozenset()
    words = (line.split(None, 7) for line in lines[1:])
    return frozenset(
        int(each[6])
        for each in words
        if len(each) >= 7 and each[4] in _KINDS and each[5] == _CONNECTED and each[6].isdigit()
    )
