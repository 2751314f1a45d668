"""A job that has read a file from the beginning of it and keeps it open, whatever becomes of its name."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.jobs import proving


def main() -> None:
    """Open the file, then prove that it holds what it held."""
    proving.block()
    with Path(sys.argv[1]).open() as file:
        text = file.read()

        def prove(_count: int) -> None:
            file.seek(0)
            proving.check_equal(file.read(), text, "what the file held")

        proving.stand_by(prove)


if __name__ == "__main__":
    main()
