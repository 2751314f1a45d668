"""Jobs that CRIU cannot save, and that prove that they run.

With `terminal` a child has its own open under its other name, with `io_uring` the job has a ring.
"""

from __future__ import annotations

import ctypes
import os
import pty
import signal
import sys

from tests.jobs import proving

_SYS_IO_URING_SETUP = 425
_PARAMETERS_BYTES = 120
"""Size of struct io_uring_params (include/uapi/linux/io_uring.h)."""


def make_ring() -> int:
    """Return the descriptor of a new io_uring of 8 entries; OSError where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    parameters = ctypes.create_string_buffer(_PARAMETERS_BYTES)
    ring: int = libc.syscall(_SYS_IO_URING_SETUP, 8, parameters)
    if ring < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return ring


def main() -> None:
    """Become unsavable, then stand by."""
    if sys.argv[1] == "io_uring":
        make_ring()
    else:
        child, _ = pty.fork()
        if child == 0:
            os.open("/dev/tty", os.O_RDWR)
            signal.pause()
    proving.stand_by(lambda count: None)


if __name__ == "__main__":
    main()
