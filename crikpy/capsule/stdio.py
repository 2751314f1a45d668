"""Connect a restored job to its new capsule's standard streams.

The dumped job's pipes ended at a reader that is gone. The new launcher holds pipes to the new reader; the node
opens these through /proc and CRIU puts them in place of the old ones.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from crikpy.errors import FilesystemError
from crikpy.model.manifest import StdioEnd

_NAMES = {0: "standard input", 1: "standard output", 2: "standard error"}


def open_replacements(launcher_pid: int, ends: Sequence[StdioEnd]) -> list[tuple[int, str]]:
    """Open the new capsule's pipe for each pipe of the old one.

    Returns:
        Pairs of an open descriptor, which the caller closes, and the old pipe's identity.

    Raises:
        FilesystemError: the new capsule has something else than a pipe there.
    """
    replaced: dict[str, int] = {}
    try:
        for end in ends:
            if end.target.startswith("pipe:") and end.target not in replaced:
                replaced[end.target] = _open_stream(launcher_pid, end.fd)
    except BaseException:
        for descriptor in replaced.values():
            os.close(descriptor)
        raise
    return [(descriptor, identity) for identity, descriptor in replaced.items()]


def _open_stream(launcher_pid: int, fd: int) -> int:
    path = f"/proc/{launcher_pid}/fd/{fd}"
    try:
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            raise FilesystemError(f"the new capsule's {_NAMES[fd]} is not a pipe, the old one's was")
        descriptor = os.open(path, (os.O_RDONLY if fd == 0 else os.O_WRONLY) | os.O_NONBLOCK)
        os.set_blocking(descriptor, True)  # only the opening of a named pipe without a peer must not wait
        return descriptor
    except OSError as fault:
        raise FilesystemError(f"the new capsule's {_NAMES[fd]} cannot be opened: {fault}") from fault
