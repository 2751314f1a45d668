"""A container that makes a root of its own cannot have directories of the node taken for its changes.

The kernel shows an overlay's upper directory as a path, by the words of whoever mounted it. A container that may
make namespaces is a mounter too.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from crikpy.capsule.changes import plan_changes
from crikpy.errors import FilesystemError
from crikpy.model.capsule import Capsule
from tests.capsule import trees
from tests.capsule.containers import living_in

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to look into others' namespaces")

_FORGE = """
set -e
mount -t tmpfs tmpfs {mine}
mkdir {mine}/lower {mine}/work {mine}/root {secret}/work
mount -t overlay -o userxattr,lowerdir={mine}/lower,upperdir={secret}/x,workdir={secret}/work overlay {mine}/root
mkdir {mine}/root/old
cd {mine}/root
pivot_root . old
echo ready
read line
"""


def _plan(pid: int) -> list[tuple[str, Path]]:
    return [(tree.kind, tree.source) for tree in plan_changes(Capsule(launcher_pid=pid, socket=Path("/x")), [])]


@pytest.fixture
def secret(memory: Path) -> Path:
    """A directory of the node."""
    place = memory / "secret" / "x"
    place.mkdir(parents=True)
    (place / "key").write_text("of the node")
    return place


def test_an_overlay_that_the_container_mounted_itself_does_not_travel(memory: Path, secret: Path) -> None:
    for name in ("lower", "work", "root"):
        (memory / name).mkdir()
    layers = f"lowerdir={memory}/lower,upperdir={secret},workdir={memory}/work"
    plan = [["-t", "overlay", "overlay", "-o", layers, str(memory / "root")]]
    with living_in(plan, memory / "root") as pid, pytest.raises(FilesystemError, match="not mounted by the node"):
        _plan(pid)


@pytest.fixture
def pretender(tmp_path: Path, memory: Path) -> Iterator[tuple[int, Path]]:
    """Lend a process without rights in a root of its own, whose changes it says are in a directory of the node."""
    mine = tmp_path / "mine"
    theirs = memory / "node"
    (theirs / "x").mkdir(parents=True)
    mine.mkdir()
    # Inside of its own namespace a directory of that name is its own; to the node it is the node's.
    script = "mount -t tmpfs tmpfs {theirs} && mkdir {theirs}/x;" + _FORGE
    words = ["unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c"]
    words.append(script.format(mine=mine, secret=theirs, theirs=theirs))
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            process.kill()
            pytest.skip(f"namespaces of users are not to be had here: {process.communicate()[1]!r}")
        yield process.pid, theirs / "x"
        process.kill()


def test_a_user_without_rights_has_no_directory_of_the_node_travel(pretender: tuple[int, Path]) -> None:
    pid, theirs = pretender
    (theirs / "key").write_text("of the node")
    with pytest.raises(FilesystemError, match="not mounted by the node"):
        _plan(pid)


def test_an_overlay_that_the_node_mounted_travels(memory: Path, secret: Path) -> None:
    for name in ("lower", "root"):
        (memory / name).mkdir()
    with (
        trees.mounted_overlay(memory / "made", memory / "lower") as (view, upper),
        living_in([["--bind", str(view), str(memory / "root")]], memory / "root") as pid,
    ):
        assert _plan(pid) == [("overlay", upper)]
