"""A clock on the wall that a test moves, for one program: clock.c, preloaded, which looks at a file of ours.

Only that clock lies: the monotonic one goes on as it does, as it would on a machine whose time is set.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("clock.c")


class WallClock:
    """The clock of programs that were started with it."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("needs a C compiler")
        self._library, self._file = folder / "clock.so", folder / "clock"
        words = (compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", self._library, _SOURCE)
        subprocess.run(words, check=True)
        self.jump(0)

    def jump(self, hours: int) -> None:
        """Be wrong by so much from now on."""
        if not self._file.exists():
            self._file.touch(0o600)
        with self._file.open("r+b", buffering=0) as file:  # in place, since programs have it mapped
            file.write(struct.pack("q", hours * 3600))

    @property
    def environment(self) -> dict[str, str]:
        """What a program's environment needs."""
        return {"LD_PRELOAD": str(self._library), "WRONG_CLOCK": str(self._file)}

    def followed(self) -> tuple[str, ...]:
        """Return words that go in front of a command and have it go by this clock."""
        return ("env", *(f"{name}={value}" for name, value in self.environment.items()))
