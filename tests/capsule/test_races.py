"""Names that are exchanged while we work lead nowhere: nothing outside is read, written or opened."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from asyncinotify import Inotify, Mask

from crikpy.capsule.beneath import exists_inside, stat_inside
from crikpy.errors import FilesystemError
from tests.capsule import hostile, trees

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as an agent has it")

_ROUNDS = 400
_MOST_ROUNDS = 8000
"""Where the race has not been run by then; on a busy machine whoever exchanges the files gets few turns."""
SECRET = b"a secret of the node"


@pytest.fixture
def outside(memory: Path) -> Path:
    """Return a directory beside the capsule's root."""
    place = memory / "outside"
    place.mkdir()
    (place / "f").write_bytes(SECRET)
    return place


@contextlib.contextmanager
def _nobody_opens(file: Path) -> Iterator[None]:
    """Fail when anybody opens a file by any name that it has."""
    with Inotify(sync_timeout=0) as inotify:
        inotify.add_watch(file, Mask.OPEN)
        yield
        assert inotify.sync_get() is None, f"{file} was opened"


def _make(path: Path, form: str, outside: Path) -> None:
    match form:
        case "device":
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
        case "link":
            path.symlink_to(outside / "f")
        case "directory":
            path.mkdir()


@pytest.mark.parametrize("form", ["device", "fifo", "socket", "link", "directory"])
def test_a_file_that_becomes_something_else_is_never_opened_as_that(here: Path, outside: Path, form: str) -> None:
    (here / "f").write_bytes(b"x" * 100)
    _make(here / "other", form, outside)
    with contextlib.ExitStack() as stack:
        if form in {"device", "fifo"}:
            stack.enter_context(_nobody_opens(here / "other"))
        stack.enter_context(hostile.swapping(here / "f", here / "other"))
        outcomes: set[str] = set()
        for number in range(_MOST_ROUNDS):
            try:
                content, _ = trees.capture(trees.tree_of(here))
                outcomes.add("captured")
                assert SECRET not in content
            except FilesystemError:
                outcomes.add("refused")
            if number >= _ROUNDS and len(outcomes) == 2:
                break
    assert outcomes == {"captured", "refused"}, "the race was not run"


def test_a_directory_that_becomes_a_link_is_not_left_through_it(here: Path, outside: Path) -> None:
    (here / "d").mkdir()
    (here / "d/f").write_bytes(b"ours")
    (here / "link").symlink_to(outside)
    outcomes = set()
    with hostile.swapping(here / "d", here / "link"):
        for _ in range(_ROUNDS):
            try:
                content, _ = trees.capture(trees.tree_of(here))
                outcomes.add("captured")
                assert SECRET not in content
            except FilesystemError:
                outcomes.add("refused")
    assert "refused" in outcomes


@pytest.mark.parametrize("kind", ["tree", "files"])
def test_nothing_is_put_back_through_a_directory_that_becomes_a_link(
    here: Path, there: Path, outside: Path, kind: str
) -> None:
    (here / "d/e").mkdir(parents=True)
    for name in ("d/e/f", "d/f", "d/x"):
        (here / name).write_bytes(b"ours")
        (here / name).chmod(0o4777)
    names = ("tree/d/e/f", "tree/d/f", "tree/d/x")
    tree = trees.tree_of(here) if kind == "tree" else trees.files_of(here.parent, *names)
    archived, before, outcomes = trees.capture(tree), trees.describe(outside), set()
    for number in range(_ROUNDS // 4):  # applying puts directories of its own in the place of links
        top = there / f"{number}" / "tree"
        (top / "d/e").mkdir(parents=True)
        (top / "link").symlink_to(outside)
        with hostile.swapping(top / "d", top / "link"):
            for _ in range(4):
                try:
                    trees.apply(*archived, top.parent)
                    outcomes.add("applied")
                except FilesystemError:
                    outcomes.add("refused")
    assert trees.describe(outside) == before
    assert outcomes == {"applied", "refused"}, "the race was not run"


def test_a_device_that_takes_the_name_of_a_single_file_is_not_opened_to_compare(here: Path, there: Path) -> None:
    (here / "f").write_bytes(b"x" * 100)
    archived = trees.capture(trees.files_of(here.parent, "tree/f"))
    (there / "tree").mkdir()
    trees.apply(*archived, there)
    device, name = there / "device", there / "tree/other"
    _make(device, "device", there)
    name.hardlink_to(device)
    with _nobody_opens(device), hostile.swapping(there / "tree/f", name):
        for number in range(_ROUNDS):
            (there / "fresh").hardlink_to(device)  # applying gives the names to files of its own
            (there / "fresh").rename(name)
            (there / "fresh").unlink(missing_ok=True)  # two names of one file are not renamed
            with contextlib.suppress(FilesystemError):
                trees.apply(*archived, there, keep=f"c{number}")


@pytest.fixture
def moved_mount(here: Path, outside: Path) -> Iterator[Path]:
    """Another directory of the same filesystem, mounted below a directory that has another name by now."""
    (here / "x/mount").mkdir(parents=True)
    with trees.mounted("--bind", str(outside), str(here / "x/mount")):
        (here / "x").rename(here / "y")
        yield here / "y/mount"
        (here / "y").rename(here / "x")


def test_a_mount_that_was_renamed_away_is_not_captured(here: Path, moved_mount: Path) -> None:
    assert (moved_mount / "f").read_bytes() == SECRET
    with pytest.raises(FilesystemError, match="y/mount"):
        trees.capture(trees.tree_of(here, skipped=frozenset({"x/mount"})))


def test_a_mount_that_was_renamed_away_is_not_written(here: Path, moved_mount: Path, memory: Path) -> None:
    source = memory / "source" / "tree"
    (source / "y/mount/deep").mkdir(parents=True)
    (source / "y/mount/deep/f").write_bytes(b"ours")
    before = trees.describe(moved_mount)
    with pytest.raises(FilesystemError, match="y/mount"):
        trees.apply(*trees.capture(trees.tree_of(source)), here.parent, ["/tree/x/mount"])
    assert trees.describe(moved_mount) == before


def test_a_mount_that_nobody_told_of_is_not_emptied(here: Path, moved_mount: Path, memory: Path) -> None:
    source = memory / "upper"
    (source / "tree").mkdir(parents=True)
    os.mknod(source / "tree/y", stat.S_IFCHR, 0)
    trees.apply(*trees.capture(trees.overlay_of(source)), here.parent)
    assert (moved_mount / "f").read_bytes() == SECRET


@pytest.mark.parametrize(
    "path",
    [
        "/absolute/f",
        "/relative/f",
        "/../outside/f",
        "/d/../../outside/f",
        "/magic/f",
        "/d/up/f",
        "/gone",
        "/a\0b",
        "",
    ],
)
def test_a_path_of_a_capsule_is_looked_at_inside_only(here: Path, outside: Path, path: str) -> None:
    (here / "absolute").symlink_to(outside)
    (here / "relative").symlink_to("../outside")
    (here / "d").mkdir()
    (here / "d/up").symlink_to("../../outside")
    (here / "a").touch()
    (here / "magic").symlink_to(f"/proc/{os.getpid()}/root{outside}")
    with pytest.raises(OSError, match=r"No such file|Invalid argument"):
        stat_inside(here, path)
    assert not exists_inside(here, path)


def test_links_of_a_capsule_are_followed_as_its_own_processes_would(here: Path, outside: Path) -> None:
    (here / "usr/lib").mkdir(parents=True)
    (here / "usr/lib/f").write_bytes(b"xyz")
    (here / "lib").symlink_to("/usr/lib")
    assert stat_inside(here, "/lib/f").st_size == 3
    assert exists_inside(here, "lib/../lib/f")
    (here / "out").symlink_to(outside)
    with hostile.swapping(here / "lib", here / "out"):
        for _ in range(_ROUNDS):
            with contextlib.suppress(OSError):
                assert stat_inside(here, "/lib/f").st_size == 3


def test_the_archive_of_a_race_is_an_archive(here: Path) -> None:
    for name in ("a", "b"):
        (here / name).mkdir()
        (here / name / "f").write_text(name)
    with hostile.swapping(here / "a", here / "b"):
        content, archive = trees.capture(trees.tree_of(here))
    with tarfile.open(fileobj=io.BytesIO(content)) as read:
        assert len(read.getnames()) == archive.entries
