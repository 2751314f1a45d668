"""A job that may not read a file that lies before it. Argument: the file."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.jobs import proving


def _is_refused(path: Path) -> bool:
    try:
        path.read_bytes()
    except PermissionError:
        return True
    return False


def main() -> None:
    """Try to read it at each proof."""
    proving.block()
    path = Path(sys.argv[1])
    proving.stand_by(lambda count: proving.check_equal(_is_refused(path), True, f"being refused, time {count}"))


if __name__ == "__main__":
    main()
