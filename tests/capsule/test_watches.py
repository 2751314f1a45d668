"""Names of what is watched are found below a root and nowhere else, as far as there is time."""

from __future__ import annotations

import os
from pathlib import Path

from crikpy.aio.clock import Deadline
from crikpy.capsule.mounts import Mount
from crikpy.capsule.preflight import Watched
from crikpy.capsule.watches import find_names, topmost, unnamed

_LONG_S = 60.0


def _watched(path: Path) -> Watched:
    status = path.stat()
    return Watched(device=f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}", inode=status.st_ino)


def _root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    (tmp_path / "root" / "a" / "b" / "file").write_text("")
    return tmp_path / "root"


def test_files_and_directories_are_found_wherever_they_are(tmp_path: Path) -> None:
    root = _root(tmp_path)
    wanted = {_watched(root): "/", _watched(root / "a/b"): "/a/b", _watched(root / "a/b/file"): "/a/b/file"}
    assert find_names(tmp_path, wanted.keys(), (), Deadline.after(_LONG_S)) == wanted


def test_what_is_likely_is_looked_at_first_with_its_parents(tmp_path: Path) -> None:
    root = _root(tmp_path)
    wanted = {_watched(root / "a"): "/a", _watched(root / "a/b/file"): "/a/b/file"}
    assert find_names(tmp_path, wanted.keys(), ("/none", "relative", "/a/b/file"), Deadline.after(0)) == wanted


def test_the_search_ends_with_its_time(tmp_path: Path) -> None:
    assert find_names(tmp_path, {_watched(_root(tmp_path) / "a")}, ("/none",), Deadline.after(0)) == {}


def test_links_lead_nowhere(tmp_path: Path) -> None:
    root, outside = _root(tmp_path), tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("")
    (root / "link").symlink_to(outside)
    assert find_names(tmp_path, {_watched(outside / "secret")}, ("/link/secret",), Deadline.after(_LONG_S)) == {}
    assert find_names(tmp_path, {_watched(outside)}, ("/link",), Deadline.after(_LONG_S)) == {}


def test_the_same_number_on_another_filesystem_is_another_file(tmp_path: Path) -> None:
    inode = _watched(_root(tmp_path) / "a").inode
    assert find_names(tmp_path, {Watched(device="999:1", inode=inode)}, ("/a",), Deadline.after(_LONG_S)) == {}


def test_only_what_lies_on_overlays_has_no_name() -> None:
    kinds = (("/", "overlay"), ("/dev/shm", "tmpfs"))
    facts = {"id": 2, "parent": 1, "root": "/", "source": "", "options": (), "super_options": ()}
    mounts = [
        Mount(device=f"0:{number}", point=point, fstype=kind, **facts)  # type: ignore[arg-type]  # the test's
        for number, (point, kind) in enumerate(kinds)
    ]
    watched = [Watched(device=f"0:{number}", inode=7) for number in range(2)]
    assert unnamed(watched, mounts) == {watched[0]}


def test_what_lies_below_another_name_is_left_out_and_no_more_are_given_than_fit() -> None:
    assert topmost(["/a/b", "/ab", "/a", "/a/c/d"]) == ("/a", "/ab")
    assert topmost(["/", "/a"]) == ("/a",)
    assert len(topmost(f"/{number}" for number in range(2000))) == 500
