"""A job whose name, and whose open file's name, are no text: half a character, letters of another encoding.

Argument: a directory for the file that it keeps open.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.jobs import proving

NAME = b"job \xc3\x1b[2J\rx"


def main() -> None:
    """Keep both."""
    proving.block()
    Path("/proc/self/comm").write_bytes(NAME)
    path = os.fsencode(sys.argv[1]) + b"/caf\xe9"
    Path(os.fsdecode(path)).write_bytes(b"x" * 10)
    kept = os.open(path, os.O_RDONLY)

    def prove(count: int) -> None:
        proving.check_equal(Path("/proc/self/comm").read_bytes(), NAME + b"\n", "its name")
        proving.check_equal(os.pread(kept, 100, 0), b"x" * 10, f"the file, time {count}")

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
