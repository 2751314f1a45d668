"""Connect a restored job to its new capsule's standard streams.

The dumped job's pipes ended at a reader that is gone. The new launcher holds pipes to the new reader; the node
opens these and CRIU puts them in place of the old ones. We come as root of the node, so what is opened is what was
looked at, and in no other way than the launcher itself may use it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Sequence

from crikpy.capsule import syscalls
from crikpy.capsule.holding import Process, pidfd_of
from crikpy.errors import CapsuleError, FilesystemError
from crikpy.model.manifest import StdioEnd

_NAMES = {0: "standard input", 1: "standard output", 2: "standard error"}


def open_replacements(launcher: Process, ends: Sequence[StdioEnd]) -> list[tuple[int, str]]:
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
                replaced[end.target] = _open_stream(launcher, end.fd)
    except BaseException:
        for descriptor in replaced.values():
            os.close(descriptor)
        raise
    return [(descriptor, identity) for identity, descriptor in replaced.items()]


def _open_stream(launcher: Process, fd: int) -> int:
    name = _NAMES.get(fd, f"descriptor {fd}")
    try:
        with contextlib.ExitStack() as stack:
            process = _process(launcher, name)
            stack.callback(os.close, process)
            # The launcher may exchange it for another at any moment, but not what is ours now.
            shared = syscalls.getfd(process, fd)
            stack.callback(os.close, shared)
            if not stat.S_ISFIFO(os.fstat(shared).st_mode):
                raise FilesystemError(f"the new capsule's {name} is not a pipe, the old one's was")
            how = os.O_RDONLY if fd == 0 else os.O_WRONLY
            if fcntl.fcntl(shared, fcntl.F_GETFL) & os.O_ACCMODE not in {how, os.O_RDWR}:
                raise FilesystemError(f"the new capsule's {name} is a pipe's other end")
            descriptor = os.open(f"/proc/self/fd/{shared}", how | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(descriptor, True)  # only the opening of a named pipe without a peer must not wait
        return descriptor
    except OSError as fault:
        raise FilesystemError(f"the new capsule's {name} cannot be opened: {fault}") from fault


def _process(launcher: Process, name: str) -> int:
    try:
        return pidfd_of(launcher)
    except CapsuleError as gone:
        raise FilesystemError(f"the new capsule's {name} cannot be opened: {gone}") from gone
