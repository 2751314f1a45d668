"""Changes of a real overlay, put onto another overlay of the same image, show the same files."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from crikpy.errors import FilesystemError
from tests.capsule import trees


@pytest.fixture
def image(memory: Path) -> Path:
    """Return the image that both containers start from."""
    lower = memory / "image"
    for name in ("etc/conf.d", "opt/old/deep", "var/log", "usr/bin"):
        (lower / name).mkdir(parents=True)
    for name in ("etc/hosts", "etc/conf.d/one", "etc/conf.d/two", "opt/old/deep/f", "var/log/x", "usr/bin/tool"):
        (lower / name).write_text(name)
    (lower / "var/run").symlink_to("/run")
    return lower


def _change_everything(view: Path) -> None:
    (view / "new/dir").mkdir(parents=True)
    (view / "new/dir/f").write_text("new")
    (view / "etc/hosts").write_text("other")
    (view / "var/log/x").unlink()  # a whiteout
    shutil.rmtree(view / "opt/old")  # a whiteout of a directory
    shutil.rmtree(view / "etc/conf.d")  # an opaque directory
    (view / "etc/conf.d").mkdir()
    (view / "etc/conf.d/three").write_text("3")
    (view / "usr/bin/tool").unlink()  # a directory where a file was
    (view / "usr/bin/tool").mkdir()
    (view / "usr/bin/tool/inner").write_text("i")
    (view / "var/run").unlink()  # a directory where a link was
    (view / "var/run").mkdir()
    (view / "var/run/pid").write_text("1")
    (view / "var/twin").hardlink_to(view / "var/run/pid")
    os.mkfifo(view / "new/fifo")
    os.chown(view / "etc", 7, 8)
    (view / "var").chmod(0o2775)
    (view / ".crikpy").mkdir()
    (view / ".crikpy/launch").touch()


_OURS = frozenset({".crikpy", "run/criu.kdat"})


def test_two_containers_of_one_image_show_the_same_files(memory: Path, image: Path) -> None:
    with (
        trees.mounted_overlay(memory / "one", image) as (before, upper),
        trees.mounted_overlay(memory / "two", image) as (after, _),
    ):
        _change_everything(before)
        trees.move(trees.overlay_of(upper, skipped=_OURS), after)
        shutil.rmtree(before / ".crikpy")
        os.utime(before, ns=(0, after.stat().st_mtime_ns))
        assert trees.describe(after) == trees.describe(before)
        assert not (after / "etc/conf.d/one").exists()


def test_changes_go_on_top_of_changes(memory: Path, image: Path) -> None:
    # The new container's launcher may have changed something before; the job's state wins.
    with (
        trees.mounted_overlay(memory / "one", image) as (before, upper),
        trees.mounted_overlay(memory / "two", image) as (after, _),
    ):
        _change_everything(before)
        (after / "etc/hosts").write_text("by the runtime")
        (after / "etc/conf.d/four").write_text("by the runtime")
        (after / "new").write_text("a file in the way")
        (after / "var/log/x").unlink()
        trees.move(trees.overlay_of(upper, skipped=_OURS), after)
        shutil.rmtree(before / ".crikpy")
        os.utime(before, ns=(0, after.stat().st_mtime_ns))
        assert trees.describe(after) == trees.describe(before)


def test_a_move_of_a_move_is_the_same(memory: Path, image: Path) -> None:
    with (
        trees.mounted_overlay(memory / "one", image) as (before, first),
        trees.mounted_overlay(memory / "two", image) as (between, second),
        trees.mounted_overlay(memory / "three", image) as (after, _),
    ):
        _change_everything(before)
        trees.move(trees.overlay_of(first, skipped=_OURS), between)
        trees.move(trees.overlay_of(second), after)
        assert trees.describe(after) == trees.describe(between)


def test_marks_in_user_attributes_count_where_the_overlay_uses_them(memory: Path, image: Path) -> None:
    with (
        trees.mounted_overlay(memory / "one", image, ",userxattr") as (before, upper),
        trees.mounted_overlay(memory / "two", image) as (after, _),
    ):
        _change_everything(before)
        trees.move(trees.overlay_of(upper, skipped=_OURS, marks="user.overlay."), after)
        assert trees.names(after / "etc/conf.d") == ["three"]


def test_whiteouts_in_attributes_count(memory: Path, image: Path) -> None:
    upper = memory / "upper"
    (upper / "etc").mkdir(parents=True)
    os.setxattr(upper / "etc", "trusted.overlay.opaque", b"x")
    (upper / "etc/hosts").touch()
    os.setxattr(upper / "etc/hosts", "trusted.overlay.whiteout", b"")
    with trees.mounted_overlay(memory / "two", image) as (after, _):
        trees.move(trees.overlay_of(upper), after)
        assert trees.names(after / "etc") == ["conf.d"]


@pytest.mark.parametrize("mark", ["redirect", "metacopy"])
def test_references_into_the_image_are_refused(memory: Path, mark: str) -> None:
    upper = memory / "upper"
    (upper / "moved").mkdir(parents=True)
    os.setxattr(upper / "moved", f"trusted.overlay.{mark}", b"/etc")
    with pytest.raises(FilesystemError, match="'/moved' refers to the image's layers"):
        trees.capture(trees.overlay_of(upper))


def test_mounts_of_the_new_container_are_neither_written_nor_removed(memory: Path, image: Path) -> None:
    with (
        trees.mounted_overlay(memory / "one", image) as (before, upper),
        trees.mounted_overlay(memory / "two", image) as (after, _),
    ):
        (before / "opt/data").mkdir()
        (before / "opt/data/f").write_text("of the old container")
        shutil.rmtree(before / "etc")
        shutil.rmtree(before / "usr/bin")
        (before / "usr/bin").mkdir()
        (after / "opt/data").mkdir()
        (after / "usr/bin/disk").mkdir()
        with (
            trees.mounted("-t", "tmpfs", "tmpfs", str(after / "opt/data")) as data,
            trees.mounted("--bind", str(image / "etc/hosts"), str(after / "etc/hosts")),
            trees.mounted("--bind", str(memory / "image"), str(after / "usr/bin/disk")),
        ):
            (data / "own").write_text("of the new container")
            points = ("/opt/data", "/etc/hosts", "/usr/bin/disk", "/elsewhere")
            trees.move(trees.overlay_of(upper), after, points)
            assert trees.names(data) == ["own"]
            assert trees.names(after / "etc") == ["hosts"]
            assert (image / "etc/hosts").read_text() == "etc/hosts"
            assert trees.names(after / "usr/bin") == ["disk"]
            assert (image / "usr/bin/tool").exists()


def test_a_mount_that_nobody_told_about_is_not_emptied(memory: Path, image: Path) -> None:
    with (
        trees.mounted_overlay(memory / "one", image) as (before, upper),
        trees.mounted_overlay(memory / "two", image) as (after, _),
    ):
        shutil.rmtree(before / "opt")
        with trees.mounted("-t", "tmpfs", "tmpfs", str(after / "opt/old")) as data:
            (data / "own").touch()
            trees.move(trees.overlay_of(upper), after)
            assert trees.names(data) == ["own"]


def test_an_unpacked_archive_is_an_upper_directory_again(memory: Path, image: Path) -> None:
    # So that a person can look into a checkpoint with the tools of every day.
    with trees.mounted_overlay(memory / "one", image) as (before, upper):
        _change_everything(before)
        content, _ = trees.capture(trees.overlay_of(upper))
    (memory / "by-tar").mkdir()
    subprocess.run(["tar", "-xpf", "-", "-C", memory / "by-tar"], input=content, check=True, capture_output=True)
    gone = (memory / "by-tar/var/log/x").lstat()
    assert gone.st_rdev == 0
    assert gone.st_mode & 0o170000 == 0o020000
