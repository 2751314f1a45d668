"""A job that shares a directory with another one, under a path of its own.

Arguments: the directory, this job's name, and the other's. Each keeps a file of its own open for writing, and
finds in the other's what that has counted at the last.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.jobs import proving


def main() -> None:
    """Count in the shared directory."""
    folder, name, other = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    own = (folder / f"{name}.count").open("w+")  # open all the while

    def prove(count: int) -> None:
        own.seek(0)
        proving.check_equal(own.read(), "x" * (count - 1), "the own file by its descriptor")
        own.write("x")
        own.flush()
        proving.check_equal((folder / f"{name}.count").read_text(), "x" * count, "the own file by its name")
        seen = (folder / f"{other}.count").read_text()
        proving.check_equal(len(seen) in {count - 1, count}, True, f"the other's count {seen!r}")

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
