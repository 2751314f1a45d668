"""Running CRIU: what it says reaches the user, what it leaves goes, and no step waits for ever."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from crikpy.aio.clock import Deadline
from crikpy.criu.argv import ENVIRONMENT, InheritedPipe
from crikpy.criu.running import Criu
from crikpy.errors import (
    CriuError,
    CriuMissingError,
    DeadlineError,
    DumpError,
    IntegrityError,
    RestoreError,
    StoreFullError,
)
from crikpy.settings import CriuSettings
from tests.criu.images import Sink, Source, everything_open, until
from tests.fakes.criu import FakeBundle, content

LONG = Deadline.after(86_400)
IO_URING = "(00.02) Error (criu/files-ext.c:98): Can't dump file 5 of that type [600] (anon anon_inode:[io_uring])"
TAKEN = "(00.038)   9001: Error (criu/cr-restore.c:1230): Can't fork for 9004: File exists"
SOON_S = 1.0
"""A deadline that the test wants to pass, once CRIU has come so far."""

UNDO_S = 0.3


@pytest.fixture(autouse=True)
def _leaves_nothing() -> Iterator[None]:
    before = everything_open(), psutil.Process().children()
    yield
    assert (everything_open(), psutil.Process().children()) == before


def _criu(bundle: Path) -> Criu:
    return Criu(CriuSettings(bundle=bundle, launcher=bundle / "launch"), undo_s=UNDO_S)


def _dump(bundle: FakeBundle, sink: Sink, deadline: Deadline = LONG, entry: tuple[str, ...] = ()) -> None:
    _criu(bundle.path).dump(entry, 9001, sink, deadline)


def _restore(bundle: FakeBundle, images: dict[str, bytes], deadline: Deadline = LONG, **source: Any) -> None:
    with contextlib.closing(Source(images)) as found:
        found.fail_at |= source.get("fail_at", {})
        _criu(bundle.path).restore((), found, source.get("pipes", ()), deadline, may_use_tiles=False)


def _is_gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_a_dump_brings_every_image_to_the_sink(tmp_path: Path) -> None:
    bundle, sink = (
        FakeBundle(tmp_path / "b", ["image", "inventory.img", 90], ["image", "pages-1.img", 900_000]),
        Sink(),
    )
    _dump(bundle, sink)
    assert sink.whole == {
        "inventory.img": content("inventory.img", 90),
        "pages-1.img": content("pages-1.img", 900_000),
    }


def test_criu_has_the_words_and_the_environment_that_are_pinned_and_nothing_else(tmp_path: Path) -> None:
    bundle = FakeBundle(tmp_path / "b", ["image", "inventory.img", 1])
    _dump(bundle, Sink())
    record = bundle.record
    assert record["environment"] == ENVIRONMENT
    assert {"dump", "--tree=9001", "--leave-stopped", "--ghost-limit=536870912", "--timeout=30"} <= {
        *record["words"]
    }
    assert record["learnt"] == "what was learnt"
    assert not Path(record["images"]).exists()


def test_the_words_that_enter_the_capsule_come_first(tmp_path: Path) -> None:
    bundle, sink = FakeBundle(tmp_path / "b", ["image", "a.img", 1]), Sink()
    _dump(bundle, sink, entry=("/usr/bin/env", "ENTERED=yes"))
    assert bundle.record["environment"] == ENVIRONMENT | {"ENTERED": "yes"}


def test_a_refused_dump_says_why_in_words_and_with_the_end_of_the_log(tmp_path: Path) -> None:
    end = "(00.06) Error (criu/cr-dump.c:2128): Dumping FAILED."
    bundle = FakeBundle(tmp_path / "b", ["log", "(00.01) Dumping"], ["log", IO_URING], ["log", end], ["exit", 1])
    with pytest.raises(DumpError, match="the job uses io_uring") as caught:
        _dump(bundle, Sink())
    assert caught.value.detail == f"{IO_URING}\n{end}"


def test_a_dump_that_fails_without_a_word_is_a_failure_all_the_same(tmp_path: Path) -> None:
    with pytest.raises(DumpError, match=r"^the dump failed$"):
        _dump(FakeBundle(tmp_path / "b", ["image", "a.img", 1], ["exit", 1]), Sink())


def test_what_is_complained_of_before_there_is_a_log_is_told(tmp_path: Path) -> None:
    bundle = FakeBundle(tmp_path / "b", ["complain", "error while loading shared libraries"], ["exit", 127])
    with pytest.raises(DumpError) as caught:
        _dump(bundle, Sink())
    assert caught.value.detail == "error while loading shared libraries"


def test_an_entry_that_fails_is_told(tmp_path: Path) -> None:
    bundle = FakeBundle(tmp_path / "b")
    with pytest.raises(DumpError) as caught:
        _dump(bundle, Sink(), entry=("/usr/bin/nsenter", "--no-such-option"))
    assert "no-such-option" in caught.value.detail
    assert not bundle.started


def test_a_dump_that_gives_no_image_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(DumpError, match="gave us no image"):
        _dump(FakeBundle(tmp_path / "b", ["exit", 0]), Sink())


@pytest.mark.parametrize("at", [-1, 0, None])
def test_the_sinks_own_error_is_raised_with_the_log_beside_it(tmp_path: Path, at: int | None) -> None:
    full = StoreFullError("no room")
    bundle = FakeBundle(tmp_path / "b", ["log", IO_URING], ["image", "pages-1.img", 4_000_000], ["exit", 0])
    with pytest.raises(StoreFullError) as caught:
        _dump(bundle, Sink(fail_at={"pages-1.img": (at, full)}))
    assert caught.value is full
    assert IO_URING in caught.value.detail


def test_a_criu_that_is_killed_is_no_success(tmp_path: Path) -> None:
    bundle = FakeBundle(tmp_path / "b", ["image", "a.img", 1], ["kill", "SIGSEGV"])
    with pytest.raises(DumpError, match="CRIU was killed by SIGSEGV"):
        _dump(bundle, Sink())


def test_past_the_deadline_criu_may_undo_its_work(tmp_path: Path) -> None:
    bundle = FakeBundle(tmp_path / "b", ["until-cut", "pages-1.img"], ["exit", 1])
    with pytest.raises(DeadlineError):
        _dump(bundle, Sink(), Deadline.after(SOON_S))
    assert bundle.record["did"] == ["started", "until-cut", "ending"]


def test_a_criu_that_hangs_past_the_deadline_is_killed_with_all_that_it_made(tmp_path: Path) -> None:
    bundle = FakeBundle(tmp_path / "b", ["ignore"], ["child"], ["until-cut", "pages-1.img"], ["hang"])
    with pytest.raises(DeadlineError):
        _dump(bundle, Sink(), Deadline.after(SOON_S))
    record = bundle.record
    assert record["did"][-2:] == ["until-cut", "hanging"]
    assert _is_gone(record["pid"])
    assert _is_gone(record["child"])


def test_what_a_failed_criu_left_behind_is_killed(tmp_path: Path) -> None:
    bundle = FakeBundle(tmp_path / "b", ["child"], ["exit", 1])
    with pytest.raises(DumpError):
        _dump(bundle, Sink())
    assert _is_gone(bundle.record["child"])


@pytest.mark.parametrize("lacks", ["everything", "its loader", "a directory"])
def test_a_missing_bundle_is_named_with_its_remedy(tmp_path: Path, lacks: str) -> None:
    path = tmp_path / "bundle"
    if lacks == "its loader":
        path.mkdir()
    elif lacks == "a directory":
        path.touch()
    with pytest.raises(CriuMissingError, match=f"no CRIU bundle at {path}") as caught:
        _criu(path).dump((), 9001, Sink(), LONG)
    assert "hack/criu-bundle" in caught.value.remedy
    with contextlib.closing(Source({})) as source, pytest.raises(CriuMissingError):
        _criu(path).restore((), source, (), LONG, may_use_tiles=False)


def test_an_entry_that_does_not_exist_is_an_error_of_criu(tmp_path: Path) -> None:
    bundle = FakeBundle(tmp_path / "b")
    with pytest.raises(CriuError, match="CRIU could not be started"):
        _dump(bundle, Sink(), entry=("/no/such/nsenter",))


def test_a_restore_gets_every_image_that_it_asks_for(tmp_path: Path) -> None:
    size = 3_000_000
    bundle = FakeBundle(
        tmp_path / "b", ["fetch", "inventory.img"], ["fetch", "none.img"], ["fetch", "pages-1.img"]
    )
    _restore(
        bundle,
        {"inventory.img": content("inventory.img", 90), "pages-1.img": content("pages-1.img", size)},
    )
    assert bundle.record["fetched"] == {"inventory.img": [90, True], "none.img": None, "pages-1.img": [size, True]}
    assert bundle.record["environment"] == ENVIRONMENT
    assert {"restore", "--restore-detached", "--leave-stopped"} <= {*bundle.record["words"]}


def test_a_restore_inherits_the_new_pipes(tmp_path: Path) -> None:
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    pipes = [
        InheritedPipe(descriptor=out_write, identity="pipe:[1]"),
        InheritedPipe(descriptor=err_write, identity="pipe:[2]"),
    ]
    try:
        _restore(FakeBundle(tmp_path / "b", ["write", 0, "out"], ["write", 1, "err"]), {}, pipes=pipes)
        assert (os.read(out_read, 10), os.read(err_read, 10)) == (b"out", b"err")
    finally:
        for descriptor in (out_read, out_write, err_read, err_write):
            os.close(descriptor)


def test_what_a_restore_has_made_lives_on(tmp_path: Path) -> None:
    bundle = FakeBundle(tmp_path / "b", ["child"], ["exit", 0])
    _restore(bundle, {})
    restored = psutil.Process(bundle.record["child"])
    assert restored.status() != psutil.STATUS_ZOMBIE
    restored.kill()
    until(lambda: _is_gone(restored.pid), "its end")


def test_a_failed_restore_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    bundle = FakeBundle(tmp_path / "b", ["child"], ["log", TAKEN], ["exit", 1])
    with pytest.raises(RestoreError, match="a PID that the job needs is taken") as caught:
        _restore(bundle, {})
    assert caught.value.detail == TAKEN
    assert _is_gone(bundle.record["child"])


def test_the_sources_own_error_is_raised_with_the_log_beside_it(tmp_path: Path) -> None:
    flipped = IntegrityError("a chunk has other bytes")
    bundle = FakeBundle(tmp_path / "b", ["log", TAKEN], ["fetch", "pages-1.img"], ["exit", 1])
    with pytest.raises(IntegrityError) as caught:
        _restore(bundle, {"pages-1.img": content("1", 900_000)}, fail_at={"pages-1.img": (500_000, flipped)})
    assert caught.value is flipped
    assert TAKEN in caught.value.detail


def test_what_criu_took_for_the_end_of_an_image_is_no_success(tmp_path: Path) -> None:
    flipped = IntegrityError("a chunk has other bytes")
    bundle = FakeBundle(tmp_path / "b", ["fetch", "pages-1.img"], ["exit", 0])
    with pytest.raises(IntegrityError) as caught:
        _restore(bundle, {"pages-1.img": content("1", 900_000)}, fail_at={"pages-1.img": (500_000, flipped)})
    assert caught.value is flipped


def test_a_restore_that_hangs_past_the_deadline_is_killed(tmp_path: Path) -> None:
    bundle = FakeBundle(tmp_path / "b", ["child"], ["hang"])
    with pytest.raises(DeadlineError):
        _restore(bundle, {}, Deadline.after(SOON_S))
    assert _is_gone(bundle.record["child"])
    assert _is_gone(bundle.record["pid"])
