"""What is captured comes out the same elsewhere; what cannot travel is refused while the job runs."""

from __future__ import annotations

import io
import os
import shutil
import socket
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crikpy.aio.clock import Deadline
from crikpy.capsule.archives import write_archive
from crikpy.errors import DeadlineError, FilesystemError
from tests.capsule import trees

_NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: not set(name) & {0, 47} and name not in {b".", b".."}
)
_LONG = st.sampled_from([b"n" * 255, "ü".encode() * 120, b"a=b %3D", b"new\nline", b" ", b"\xff\xfe", b".wh.x"])
_ENTRY = st.fixed_dictionaries(
    {
        "name": st.one_of(_NAMES, _LONG),
        "form": st.sampled_from(["directory", "regular", "link", "symlink", "fifo"]),
        "content": st.one_of(st.binary(max_size=600), st.integers(1, 9000).map(lambda count: b"x" * count)),
        "holes": st.integers(0, 5),
        "mode": st.integers(0, 0o7777),
        "owner": st.tuples(st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 2)),
        "time": st.integers(-(10**18), 4 * 10**18),
        "xattrs": st.dictionaries(
            st.one_of(st.just("user.a=b"), st.text("abc.%=é\n", min_size=1).map(lambda rest: "user." + rest)),
            st.binary(max_size=40),
            max_size=2,
        ),
        "parent": st.integers(0, 10),
    }
)


def _build(top: Path, entries: list[dict[str, Any]]) -> None:
    """Make what hypothesis drew; attributes come last, from the leaves up, as making children changes times."""
    directories, files = [top], list[Path]()
    made: list[tuple[Path, dict[str, Any]]] = []
    for entry in entries:
        path = directories[entry["parent"] % len(directories)] / os.fsdecode(entry["name"])
        if os.path.lexists(path):
            continue
        match entry["form"]:
            case "directory":
                path.mkdir()
                directories.append(path)
            case "link" if files:
                path.hardlink_to(files[-1])
                continue
            case "symlink":
                path.symlink_to(os.fsdecode(entry["content"].replace(b"\0", b"/")[:4000] or b"nowhere"))
            case "fifo":
                os.mkfifo(path)
            case _:
                _write(path, entry["content"], entry["holes"])
                files.append(path)
        made.append((path, entry))
    for path, entry in reversed(made):
        os.chown(path, *entry["owner"], follow_symlinks=False)
        if not path.is_symlink() and path.is_file():
            for name, value in entry["xattrs"].items():
                os.setxattr(path, name, value)
        if not path.is_symlink():
            path.chmod(entry["mode"])
        os.utime(path, ns=(0, entry["time"]), follow_symlinks=False)


def _write(path: Path, content: bytes, holes: int) -> None:
    with path.open("wb") as file:
        for _ in range(holes):
            file.write(content)
            file.seek(65536, os.SEEK_CUR)
        file.truncate(file.tell())
        file.write(content)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.lists(_ENTRY, max_size=12))
def test_any_tree_comes_out_the_same(entries: list[dict[str, Any]], here: Path, there: Path) -> None:
    for place in (here, there):
        shutil.rmtree(place)
        place.mkdir()
    _build(here, entries)
    content, archive = trees.capture(trees.tree_of(here))
    applied = trees.apply(content, archive, there)
    assert trees.describe(there / "tree") == trees.describe(here)
    assert applied == archive.entries == len(trees.describe(here))
    assert trees.capture(trees.tree_of(here))[0] == content
    with tarfile.open(fileobj=io.BytesIO(content), errors="surrogateescape") as other:
        names = {os.fsencode(os.path.normpath(name)) for name in other.getnames()}
    assert names == set(trees.describe(here))


def test_holes_stay_holes_at_either_end_and_in_the_middle(here: Path, there: Path) -> None:
    size = 64 * 1024 * 1024
    for name, offsets in {"middle": (0, size - 4), "start": (size - 4,), "end": (0,), "all": ()}.items():
        with (here / name).open("wb") as file:
            for offset in offsets:
                file.seek(offset)
                file.write(b"data")
            file.truncate(size)
    content, archive = trees.capture(trees.tree_of(here))
    assert len(content) < 100_000
    trees.apply(content, archive, there)
    assert trees.describe(there / "tree") == trees.describe(here)
    assert sum(file.stat().st_blocks for file in (there / "tree").iterdir()) * 512 < 100_000


def test_gnu_tar_reads_the_archive_holes_and_attributes_included(here: Path, there: Path) -> None:
    with (here / "holes").open("wb") as file:
        file.write(b"start")
        file.truncate(1_000_000)
        file.seek(2_000_000)
        file.write(b"end")
        file.truncate(3_000_000)
    (here / "link").hardlink_to(here / "holes")
    (here / "to").symlink_to("holes")
    (here / "a\nb").mkdir()
    os.setxattr(here / "holes", "user.a=b", b"v\0w")
    os.chown(here / "holes", 12345, 54321)
    (here / "holes").chmod(0o4755)
    content, _ = trees.capture(trees.tree_of(here))
    listing = subprocess.run(["tar", "-tvf", "-"], input=content, capture_output=True, check=True)
    assert b"link to ./holes" in listing.stdout or b"link to holes" in listing.stdout
    (there / "tree").mkdir()
    command = ["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "-", "-C", str(there / "tree")]
    unpacked = subprocess.run(command, input=content, capture_output=True, check=True)
    assert unpacked.stderr == b""
    assert trees.describe(there / "tree") == trees.describe(here)


def test_capabilities_and_access_lists_travel(here: Path, there: Path) -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    access = struct.pack(
        "<I" + "HHI" * 5, 2, 1, 6, 2**32 - 1, 2, 4, 4242, 4, 4, 2**32 - 1, 16, 6, 2**32 - 1, 32, 0, 2**32 - 1
    )
    program = here / "program"
    program.touch()
    os.chown(program, 1000, 1000)
    program.chmod(0o6755)
    os.setxattr(program, "security.capability", capability)
    listed = here / "listed"
    listed.mkdir()
    os.setxattr(listed, "system.posix_acl_access", access)
    os.setxattr(listed, "system.posix_acl_default", access)
    os.removexattr(listed, "system.posix_acl_access")
    (listed / "inherits").touch()
    (listed / "plain").touch()
    os.removexattr(listed / "plain", "system.posix_acl_access")
    assert "system.posix_acl_access" in os.listxattr(listed / "inherits")
    trees.move(trees.tree_of(here), there)
    assert trees.describe(there / "tree") == trees.describe(here)


def test_sockets_and_what_is_skipped_stay_behind(here: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(here / "socket"))
        (here / "kept").touch()
        for name in ("no/deep", "yes/no"):
            (here / name).mkdir(parents=True)
        tree = trees.tree_of(here, skipped=frozenset({"no", "yes/no"}))
        content, archive = trees.capture(tree)
    with tarfile.open(fileobj=io.BytesIO(content)) as read:
        assert read.getnames() == [".", "kept", "yes"]
    assert archive.entries == 3


def test_a_zero_device_without_overlay_and_other_devices_are_refused(here: Path) -> None:
    os.mknod(here / "disk", 0o60600, os.makedev(7, 0))
    with pytest.raises(FilesystemError, match="'/tree/disk' is a device node"):
        trees.capture(trees.tree_of(here))


def test_the_null_device_travels(here: Path, there: Path) -> None:
    os.mknod(here / "null", 0o20666, os.makedev(1, 3))
    trees.move(trees.tree_of(here), there)
    assert (there / "tree" / "null").stat().st_rdev == os.makedev(1, 3)


class _Meddler(io.BytesIO):
    """Does something to a file when the first member of its directory is written."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self._act: Callable[[], None] | None = act

    def write(self, data: object, /) -> int:
        if self._act is not None and b"first" in self.getvalue():
            self._act()
            self._act = None
        return super().write(data)  # type: ignore[arg-type]  # as the base has it


def test_a_file_that_vanishes_meanwhile_is_named(here: Path) -> None:
    (here / "first").write_bytes(b"x")
    (here / "victim").touch()
    with pytest.raises(FilesystemError, match=r"cannot read '/tree/victim'"):
        write_archive(trees.tree_of(here), _Meddler((here / "victim").unlink), deadline=Deadline.after(60))


def test_a_file_that_shrinks_meanwhile_is_named(here: Path) -> None:
    (here / "first").write_bytes(b"x" * 3_000_000)
    meddler = _Meddler(lambda: os.truncate(here / "first", 5))
    with pytest.raises(FilesystemError, match=r"'/tree/first' shrank"):
        write_archive(trees.tree_of(here), meddler, deadline=Deadline.after(60))


class _Full(io.BytesIO):
    def write(self, data: object, /) -> int:
        raise BrokenPipeError("the store is gone")


def test_the_sinks_errors_are_not_taken_for_the_files(here: Path) -> None:
    with pytest.raises(BrokenPipeError):
        write_archive(trees.tree_of(here), _Full(), deadline=Deadline.after(60))


def test_the_deadline_ends_the_writing(here: Path) -> None:
    with pytest.raises(DeadlineError):
        write_archive(trees.tree_of(here), io.BytesIO(), deadline=Deadline.after(0))


def test_a_missing_directory_is_an_error_that_names_it(memory: Path) -> None:
    with pytest.raises(FilesystemError, match="'/tree'"):
        trees.capture(trees.tree_of(memory / "tree"))


def test_no_descriptor_stays_open(here: Path) -> None:
    (here / "a" / "b").mkdir(parents=True)
    os.mknod(here / "a" / "b" / "disk", 0o60600, os.makedev(7, 0))
    before = trees.names(Path("/proc/self/fd"))
    with pytest.raises(FilesystemError):
        trees.capture(trees.tree_of(here))
    assert trees.names(Path("/proc/self/fd")) == before
