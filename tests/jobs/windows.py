"""A job that holds files of its container open, and now and then looks into them: `windows [fresh|any] [+]PATH…`

With `fresh` each must show what is found under its name then, with `any` it only must be possible to read. `+`
opens a file for writing, too; a directory is listed.
"""

from __future__ import annotations

import os
import sys

from tests.jobs import proving


class Window:
    """One open file or directory."""

    def __init__(self, word: str) -> None:
        self._path = word.lstrip("+")
        self._directory = os.path.isdir(self._path)  # noqa: PTH112
        self._file = os.open(self._path, os.O_RDWR if word.startswith("+") else os.O_RDONLY)
        if not self._directory:
            os.lseek(self._file, 3, os.SEEK_SET)

    def prove(self, *, fresh: bool) -> None:
        """Read it, and compare with what is found under its name."""
        found = self._read(self._file)
        if fresh:
            again = os.open(self._path, os.O_RDONLY)
            proving.check_equal(found, self._read(again), self._path)
            os.close(again)

    def _read(self, file: int) -> object:
        if self._directory:
            return sorted(os.listdir(file))
        return os.pread(file, 65536, 0)


def main() -> None:
    """Open all, then look into them."""
    proving.block()
    how, *words = sys.argv[1:]
    windows = [Window(word) for word in words]
    windows += [Window(f"/proc/{os.getpid()}/task/{os.getpid()}/comm")]

    def prove(_count: int) -> None:
        for window in windows:
            window.prove(fresh=how == "fresh")

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
