"""A small disk of the tests that fills up when a test says so: a tmpfs, with files that take all the room."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class Disk:
    """A small disk.

    Attributes:
        root: where it is mounted.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ballast = root / "ballast"

    def fill(self) -> None:
        """Leave no byte for anybody."""
        self._ballast.mkdir()
        with (self._ballast / "bytes").open("ab", buffering=0) as file:
            while (facts := os.statvfs(self.root)).f_bavail:
                file.write(bytes(facts.f_frsize * facts.f_bavail))

    def fill_names(self) -> None:
        """Leave no name for anybody: a disk may have room for bytes and none for another file."""
        self._ballast.mkdir()
        for number in range(os.statvfs(self.root).f_favail):
            (self._ballast / str(number)).touch()

    def clear(self) -> None:
        """Give the room back."""
        shutil.rmtree(self._ballast, ignore_errors=True)


@contextlib.contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Disk]:
    """Lend a disk of this size, mounted below a folder."""
    root = folder / "disk"
    root.mkdir()
    options = f"size={mebibytes}m,nr_inodes=1000,mode=700"
    mounted = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", options, "tmpfs", root), check=False, capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no disk of its own can be mounted here: {mounted.stderr.strip()}")
    try:
        yield Disk(root)
    finally:
        subprocess.run(("umount", "--lazy", root), check=True)
