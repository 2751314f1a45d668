"""What only a directory can do wrong: modes, crashes, full and read-only disks."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crikpy.aio.clock import Deadline
from crikpy.errors import NoSuchBucketError, StoreError, StoreForbiddenError, StoreFullError
from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings
from crikpy.store.base import ObjectStore
from crikpy.store.local import LocalStore
from crikpy.store.opening import open_store
from crikpy.store.writing import ChunkWriter
from tests.store.images import MIB, SMALL, noise, write

KEY = "plain/default/train/holder.json"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "crikpy-test", str(disk)], capture_output=True)
    if made.returncode:
        pytest.skip(f"mounting is not allowed here: {made.stderr.decode()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_everything_belongs_to_its_owner_alone(local_store: ObjectStore, tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        local_store.check()
        local_store.put(KEY, b"bytes")
        local_store.put_if_absent(KEY + "2", b"bytes")
    finally:
        os.umask(previous)
    for path in (tmp_path / "store", *(tmp_path / "store").rglob("*")):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_the_directory_is_made_when_its_parent_is_there(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "new"), StoreSettings())
    store.check()
    assert (tmp_path / "new").is_dir()


@pytest.mark.parametrize("root", ["absent/store", "file/store", "file"])
def test_a_directory_that_cannot_be_made_is_no_bucket(root: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = open_store(str(tmp_path / root), StoreSettings())
    for act in (store.check, lambda: store.put(KEY, b""), lambda: store.get(KEY), lambda: list(store.list(""))):
        with pytest.raises(NoSuchBucketError):
            act()


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../outside", "a/../b", "a//b", "a/.hidden", "a/b/", "a\0b"])
def test_keys_that_lead_elsewhere_are_refused(key: str, local_store: ObjectStore) -> None:
    local_store.check()
    for act in (lambda: local_store.put(key, b""), lambda: local_store.get(key), lambda: local_store.delete(key)):
        with pytest.raises(StoreError, match="cannot be a key"):
            act()


def test_what_a_crash_leaves_behind_is_never_seen_and_swept_after_a_day(
    local_store: ObjectStore, tmp_path: Path
) -> None:
    local_store.check()
    incoming = tmp_path / "store" / ".incoming"
    for name, age_s in (("old", 25 * 3600), ("new", 60)):
        (incoming / name).write_bytes(b"half")
        os.utime(incoming / name, (time.time() - age_s,) * 2)
    assert list(local_store.list("")) == []
    assert list(local_store.folders("")) == []
    local_store.check()
    assert [path.name for path in incoming.iterdir()] == ["new"]


def test_deleting_the_last_object_removes_its_folders(local_store: ObjectStore, tmp_path: Path) -> None:
    local_store.put(KEY, b"")
    local_store.delete(KEY)
    assert not (tmp_path / "store" / "plain").exists()
    local_store.put(KEY, b"")


@needs_root
def test_a_full_disk_says_so_and_leaves_nothing_half_written(small_disk: Path) -> None:
    store = LocalStore(small_disk)
    store.check()
    store.put(KEY, b"bytes")
    with pytest.raises(StoreFullError, match="No space left"):
        store.put("plain/default/train/large", noise(8 * MIB))
    with pytest.raises(StoreFullError):
        store.put_if_absent("plain/default/train/large", noise(8 * MIB))
    assert [info.key for info in store.list("")] == [KEY]
    assert list((small_disk / ".incoming").iterdir()) == []
    store.put("plain/default/train/small", b"there is room again")


@needs_root
def test_a_full_disk_stops_an_upload(small_disk: Path, workload: Workload) -> None:
    store = LocalStore(small_disk)
    with ChunkWriter(store, workload, settings=SMALL, known=(), deadline=Deadline.after(60)) as writer:
        write(writer.open("pages-1.img"), noise(6 * MIB))
        with pytest.raises(StoreFullError):
            writer.finish()


@needs_root
def test_a_read_only_disk_forbids_writing_but_not_reading(small_disk: Path) -> None:
    store = LocalStore(small_disk)
    store.put(KEY, b"bytes")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert store.get(KEY) == b"bytes"
    assert [info.key for info in store.list("")] == [KEY]
    for act in (store.check, lambda: store.put(KEY, b""), lambda: store.delete(KEY)):
        with pytest.raises(StoreForbiddenError):
            act()
