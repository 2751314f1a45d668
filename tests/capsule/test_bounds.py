"""However much a container puts into its directories, reading them costs us no more than it should."""

from __future__ import annotations

import io
import os
import resource
from pathlib import Path

import pytest

from crikpy.aio.clock import Deadline
from crikpy.capsule import members
from crikpy.capsule.archives import write_archive
from crikpy.errors import FilesystemError
from tests.capsule import trees

_LEVELS = 100_000


def _nest(top: Path, levels: int) -> None:
    here = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def test_a_tree_of_a_hundred_thousand_levels_is_refused_at_once(here: Path) -> None:
    _nest(here, _LEVELS)
    out = io.BytesIO()
    with pytest.raises(FilesystemError, match="nested too deeply"):
        write_archive(trees.tree_of(here), out, deadline=Deadline.after(trees.SOON))
    assert out.tell() < members.DEEPEST * 4096


def test_a_tree_as_deep_as_it_may_be_travels(here: Path, there: Path) -> None:
    _nest(here, members.DEEPEST - 1)
    (there / "tree").mkdir()
    assert trees.move(trees.tree_of(here), there) == members.DEEPEST


def test_a_target_of_many_levels_is_not_emptied_for_ever(here: Path, there: Path) -> None:
    (here / "a").touch()
    (there / "a").mkdir()
    _nest(there / "a", _LEVELS)
    archived = trees.capture(trees.overlay_of(here))
    with pytest.raises(FilesystemError, match=r"nested too deeply|Too many open files"):
        trees.apply(*archived, there)


def test_directories_with_too_many_names_are_refused(here: Path) -> None:
    for name in range(60):
        (here / f"{name}").touch()
    (here / "d").mkdir()
    for name in range(50):
        (here / "d" / f"{name}").touch()
    deadline = Deadline.after(trees.SOON)
    for most, whole in ((111, True), (110, False), (60, False)):
        try:
            write_archive(trees.tree_of(here), io.BytesIO(), deadline=deadline, most_names=most)
            assert whole
        except FilesystemError as refused:
            assert "too many names" in str(refused)
            assert not whole


def test_a_file_of_exabytes_is_a_few_bytes(here: Path, there: Path) -> None:
    with (here / "f").open("wb") as out:
        out.write(b"x")
        out.truncate(resource.RLIM_INFINITY if resource.RLIM_INFINITY > 0 else 2**63 - 4096)
    (there / "tree").mkdir()
    content, archive = trees.capture(trees.tree_of(here))
    assert len(content) < 100_000
    trees.apply(content, archive, there)
    assert (there / "tree/f").stat().st_size == (here / "f").stat().st_size
