"""A job one of whose processes has left its tree: its parent has ended, so that the launcher is its parent now.

Its root does not keep orphans, as was so before launchers had it do that.
"""

from __future__ import annotations

import ctypes
import os
import signal

from tests.jobs import proving

_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Leave a process behind."""
    proving.block()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            os.read(reading, 1)  # until the parent is gone
            signal.sigwait({signal.SIGTERM})
        os._exit(0)
    os.waitpid(child, 0)
    os.write(writing, b"x")
    proving.stand_by(lambda _: None)


if __name__ == "__main__":
    main()
