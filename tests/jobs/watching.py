"""A job that watches files and directories by inotify, and reads what it is told.

Argument: a folder to watch; it may name what is in the image already.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

from tests.jobs import proving

_MODIFY, _CREATE = 0x2, 0x100
_libc = ctypes.CDLL(None, use_errno=True)


class Watcher:
    """What has happened in a directory and to a file in it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._file = folder, folder / "watched"
        self._file.write_text("x")
        self._inotify = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._of_folder = self._add(folder, _CREATE)
        self._of_file = self._add(self._file, _MODIFY)

    def _add(self, path: Path, what: int) -> int:
        number = int(_libc.inotify_add_watch(self._inotify, os.fsencode(path), what))
        proving.check_equal(number > 0, True, f"a watch of {path}: {os.strerror(ctypes.get_errno())}")
        return number

    def _events(self) -> set[tuple[int, int, bytes]]:
        found = set()
        data = os.read(self._inotify, 65536)
        while data:
            number, what, _, length = struct.unpack_from("iIII", data)
            found.add((number, what, data[16 : 16 + length].rstrip(b"\0")))
            data = data[16 + length :]
        return found

    def prove(self, count: int) -> None:
        """Fail unless what happens now is told."""
        (self._folder / f"new-{count}").write_text("")
        self._file.write_text(f"{count}")
        proving.check_equal(
            self._events() >= {(self._of_folder, _CREATE, b"new-%d" % count), (self._of_file, _MODIFY, b"")},
            True,
            "what inotify tells",
        )


def main() -> None:
    """Watch."""
    proving.block()
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    proving.stand_by(Watcher(folder).prove)


if __name__ == "__main__":
    main()
