"""A disk fills up: that of a store in a directory, or the one with CRIU's working files, at each step."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crikpy.errors import CrikpyError, DumpError, RestoreError, StoreFullError
from crikpy.store.local import LocalStore
from tests.chaos.disks import Disk, small_disk
from tests.chaos.moments import at, reading_memory, watched
from tests.chaos.recording import Record
from tests.chaos.s3 import Troubles
from tests.chaos.subject import RESUMED, SAVED, Subject
from tests.integration.capsules import until
from tests.integration.moving import Bench, Story

pytestmark = [pytest.mark.criu, pytest.mark.chaos]

_MIB = 96
"""Room for what a test stores."""


@pytest.fixture
def disk(folder: Path) -> Iterator[Disk]:
    """A disk with nothing on it."""
    with small_disk(folder, _MIB) as made:
        yield made


@pytest.fixture
def full_store(plain_bench: Bench, disk: Disk) -> Subject:
    """A bench whose store lies on the disk."""
    plain_bench.store = LocalStore(disk.root / "store")
    return Subject(plain_bench, plain_bench.store, Troubles())


@pytest.fixture
def work(local: Subject, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Subject:
    """A bench where CRIU's working files lie on the disk, as with TMPDIR."""
    monkeypatch.setattr(tempfile, "tempdir", str(disk.root))
    return local


def failing(act: Callable[[], object], kind: type[CrikpyError]) -> str:
    """See that an act fails of want of room, and that the error says so and what to do; return its name."""
    with pytest.raises(kind, match="No space left on device") as caught:
        act()
    assert caught.value.remedy.startswith("make room")
    return type(caught.value).__name__


@pytest.mark.parametrize("moment", ["started", "chunk", "manifest"])
def test_when_the_store_fills_up_while_a_job_is_saved(
    full_store: Subject, disk: Disk, record: Record, moment: str
) -> None:
    bench = full_store.bench
    job = bench.begin("memory", 24, 1)
    story, store = at(bench, moment, disk.fill)
    outcome = failing(lambda: bench.save(job, story, store=store), StoreFullError)
    disk.clear()
    full_store.check_saved(job, outcome)
    record("save", f"the disk of the store is full ({moment})", outcome)


def test_when_the_store_is_full_while_a_job_is_resumed(full_store: Subject, disk: Disk, record: Record) -> None:
    bench = full_store.bench
    job = bench.begin("memory", 24, 1)
    manifest = bench.save(job)
    full_store.shaky = watched(bench, "claim", disk.fill)
    outcome = full_store.resume(manifest)
    assert outcome == StoreFullError.__name__
    disk.clear()
    bench.resume(manifest).prove()
    full_store.check_used_up(manifest)
    record("restore", "the disk of the store is full (claim)", outcome)


@pytest.mark.parametrize("fill", [Disk.fill, Disk.fill_names], ids=["bytes", "names"])
def test_when_there_is_no_room_for_what_criu_writes_while_a_job_is_saved(
    work: Subject, disk: Disk, record: Record, fill: Callable[[Disk], None]
) -> None:
    job = work.bench.begin("memory", 24, 1)
    story = Story(frozen=lambda: fill(disk))
    outcome = failing(lambda: work.bench.save(job, story), DumpError)
    assert story.events == ["frozen", "released"]
    disk.clear()
    work.check_saved(job, outcome)
    record("save", "the disk of CRIU's working files is full (frozen)", outcome)


def test_when_the_room_for_what_criu_writes_goes_while_it_dumps(work: Subject, disk: Disk, record: Record) -> None:
    job = work.bench.begin("memory", 24, 1)
    story, store = at(work.bench, "chunk", disk.fill)
    work.bench.save(job, story, store=store)
    disk.clear()
    work.check_saved(job, SAVED)
    record("save", "the disk of CRIU's working files is full (chunk)", SAVED)


@pytest.mark.parametrize("fill", [Disk.fill, Disk.fill_names], ids=["bytes", "names"])
def test_when_there_is_no_room_for_what_criu_writes_while_a_job_is_resumed(
    work: Subject, disk: Disk, record: Record, fill: Callable[[Disk], None]
) -> None:
    job = work.bench.begin("memory", 24, 1)
    manifest = work.bench.save(job)
    fill(disk)
    outcome = work.resume(manifest)
    assert outcome == RestoreError.__name__
    record("restore", "the disk of CRIU's working files is full (claimed)", outcome)


def test_when_the_room_for_what_criu_writes_goes_while_it_restores(
    work: Subject, disk: Disk, record: Record
) -> None:
    job = work.bench.begin("memory", 24, 1)
    manifest = work.bench.save(job)
    full = threading.Event()

    def fill() -> None:
        until(lambda: any(disk.root.glob("crikpy-*/criu.log")), "CRIU's log")
        disk.fill()
        full.set()

    work.shaky = reading_memory(work.bench, manifest, fill)
    outcome = work.resume(manifest)
    assert full.is_set()
    assert outcome == RESUMED
    record("restore", "the disk of CRIU's working files is full (chunk)", outcome)
