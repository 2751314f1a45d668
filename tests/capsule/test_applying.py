"""Archives go into directories that already hold something, and onto disks that may be full."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import pytest

from crikpy.aio.clock import Deadline
from crikpy.capsule.applying import apply_archive
from crikpy.errors import DeadlineError, FilesystemError, StoreUnavailableError
from crikpy.model.manifest import FileArchive
from tests.capsule import trees


def test_a_tree_replaces_what_it_holds_and_leaves_the_rest(here: Path, there: Path) -> None:
    for name in ("same", "other"):
        (here / name).write_text("new")
    (here / "dir").mkdir()
    (here / "was-dir").write_text("file now")
    (there / "tree/was-dir/deep").mkdir(parents=True)
    (there / "tree/extra").write_text("stays")
    (there / "tree/other").write_text("longer than before")
    (there / "tree/dir").symlink_to("/etc")
    held = (there / "tree/other").open()
    trees.move(trees.tree_of(here), there)
    assert trees.names(there / "tree") == ["dir", "extra", "other", "same", "was-dir"]
    assert (there / "tree/other").read_text() == "new"
    assert (there / "tree/dir").is_dir()
    assert not (there / "tree/dir").is_symlink()
    # The old file was replaced as a whole: whoever has it open still reads what it was.
    with held:
        assert held.read() == "longer than before"


def test_a_missing_root_of_a_tree_is_made_with_its_attributes(here: Path, there: Path) -> None:
    here.chmod(0o1777)
    os.chown(here, 5, 6)
    trees.move(trees.tree_of(here), there)
    assert trees.describe(there / "tree") == trees.describe(here)


def test_an_access_list_that_the_parent_would_lend_is_taken_off(here: Path, there: Path) -> None:
    (there / "tree").mkdir()
    entries = "HHI" * 5
    everyone = 2**32 - 1
    default = struct.pack(
        "<I" + entries, 2, 1, 7, everyone, 2, 7, 42, 4, 5, everyone, 16, 7, everyone, 32, 5, everyone
    )
    os.setxattr(there / "tree", "system.posix_acl_default", default)
    (here / "dir").mkdir()
    (here / "f").touch()
    trees.move(trees.tree_of(here), there)
    assert trees.describe(there / "tree") == trees.describe(here)


def test_a_tree_on_a_mount_goes_into_that_mount_but_not_below(memory: Path, here: Path, there: Path) -> None:
    (here / "f").touch()
    (here / "sub").mkdir()
    (here / "sub/g").touch()
    (there / "tree").mkdir()
    with trees.mounted("-t", "tmpfs", "tmpfs", str(there / "tree")) as root:
        (root / "sub").mkdir()
        with trees.mounted("-t", "tmpfs", "tmpfs", str(root / "sub")) as sub:
            assert trees.move(trees.tree_of(here), there, ["/tree", "/tree/sub", "/treeless"]) == 2
            assert (root / "f").exists()
            assert not trees.names(sub)


def test_single_files_make_their_parents_and_never_change_others(memory: Path, there: Path) -> None:
    source = memory / "source"
    (source / "home/me/run").mkdir(parents=True)
    (source / "home/me/run/log").write_text("line\n")
    os.chown(source / "home/me", 1000, 1000)
    (source / "home/me").chmod(0o700)
    (there / "home").mkdir(mode=0o711)
    before = (there / "home").stat()
    assert trees.move(trees.files_of(source, "home/me/run/log"), there) == 4
    assert (there / "home").stat().st_mode == before.st_mode
    assert trees.describe(there / "home/me") == trees.describe(source / "home/me")


def test_a_single_file_of_the_same_content_is_left_alone(memory: Path, there: Path) -> None:
    source = memory / "source"
    source.mkdir()
    for place in (source, there):
        (place / "log").write_text("same")
    before = (there / "log").stat()
    trees.move(trees.files_of(source, "log"), there)
    assert trees.names(there) == ["log"]
    assert (there / "log").stat() == before


@pytest.mark.parametrize("other", ["file", "longer", "mode", "link", "directory"])
def test_what_a_single_file_replaces_is_kept_beside(memory: Path, there: Path, other: str) -> None:
    source = memory / "source"
    source.mkdir()
    (source / "log").write_text("from here")
    old = there / "log"
    match other:
        case "link":
            old.symlink_to("/etc/passwd")
        case "directory":
            old.mkdir()
        case _:
            old.write_text({"file": "was there", "mode": "from here"}.get(other, "was there before"))
            old.chmod(0o600 if other == "mode" else 0o644)
    before = old.lstat()
    trees.move(trees.files_of(source, "log"), there, keep="01abc")
    assert trees.names(there) == ["log", "log.before-01abc"]
    assert old.read_text() == "from here"
    assert (there / "log.before-01abc").lstat().st_ino == before.st_ino


def test_what_was_kept_beside_is_never_overwritten(memory: Path, there: Path) -> None:
    source = memory / "source"
    source.mkdir()
    (there / "log").write_text("first")
    for content in ("second", "third"):
        (source / "log").write_text(content)
        trees.move(trees.files_of(source, "log"), there)
    found = {name: (there / name).read_text() for name in trees.names(there)}
    assert found == {"log": "third", "log.before-c1": "first", "log.before-c1.2": "second"}


def test_single_files_that_are_one_file_stay_one(memory: Path, there: Path) -> None:
    source = memory / "source"
    (source / "b").mkdir(parents=True)
    (source / "a").write_text("x")
    (source / "b/c").hardlink_to(source / "a")
    for _ in range(2):
        trees.move(trees.files_of(source, "a", "b/c"), there)
    assert (there / "a").samefile(there / "b/c")
    assert trees.names(there) == ["a", "b"]
    assert trees.names(there / "b") == ["c"]


def test_a_parent_that_is_a_link_is_refused_and_left(memory: Path, there: Path) -> None:
    source = memory / "source"
    (source / "var/run").mkdir(parents=True)
    (source / "var/run/f").touch()
    (there / "var").mkdir()
    (there / "var/run").symlink_to("/run")
    with pytest.raises(FilesystemError, match="symbolic links are not followed"):
        trees.move(trees.files_of(source, "var/run/f"), there)
    assert (there / "var/run").is_symlink()


def test_a_full_disk_is_said_so_and_nothing_half_stays(memory: Path, here: Path, there: Path) -> None:
    (here / "big").write_bytes(b"x" * 2_000_000)
    (there / "tree").mkdir()
    with trees.mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(there / "tree")) as small:
        (small / "big").write_text("old")
        with pytest.raises(FilesystemError, match="'/tree/big': No space left") as caught:
            trees.move(trees.tree_of(here), there)
        assert "make room" in caught.value.remedy
        assert trees.names(small) == ["big"]
        assert (small / "big").read_text() == "old"


class _Unreachable(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise StoreUnavailableError("the store is gone")


def test_the_sources_errors_stay_what_they_are(there: Path) -> None:
    archive = FileArchive(image="files/0.tar", kind="tree", root="/tree", entries=1)
    fd = os.open(there, os.O_RDONLY)
    try:
        with pytest.raises(StoreUnavailableError):
            apply_archive(_Unreachable(), fd, archive, (), deadline=Deadline.after(60), keep="c1")
    finally:
        os.close(fd)


def test_the_deadline_ends_the_reading(here: Path, there: Path) -> None:
    content, archive = trees.capture(trees.tree_of(here))
    fd = os.open(there, os.O_RDONLY)
    try:
        with pytest.raises(DeadlineError):
            apply_archive(io.BytesIO(content), fd, archive, (), deadline=Deadline.after(0), keep="c1")
    finally:
        os.close(fd)
