"""Jobs that hear of their checkpoints, by real CRIU in capsules of either kind."""

from __future__ import annotations

import signal

import pytest

from crikpy.errors import StoreError
from crikpy.model.saving import SaveOptions
from tests.integration.moving import Bench, Kind, Story
from tests.integration.stores import WatchedStore

pytestmark = pytest.mark.criu


def test_a_job_is_told_before_it_is_stopped_and_where_it_goes_on(bench: Bench) -> None:
    bench.environment["PLACE"] = "old"
    job = bench.begin("hooked")
    job.prove()
    story = Story()
    manifest = bench.save(job, story)
    assert job.expect("heard ") == "heard checkpoint"
    assert "hook-failed" not in story.events
    bench.environment["PLACE"] = "new"
    moved = bench.resume(manifest, story)
    place = "new" if bench.kind is Kind.CONTAINER else "-"
    assert moved.expect("heard ") == f"heard moved {place} True"
    assert "hook-failed" not in story.events
    assert moved.prove() == "proved 2"
    again = bench.move(moved)
    assert again.expect("heard ") == f"heard moved {place} True"
    assert again.prove() == "proved 3"
    assert again.finish() == 0


def test_a_job_that_runs_on_is_told_so(plain_bench: Bench) -> None:
    job = plain_bench.begin("hooked")
    plain_bench.save(job, leave_running=True)
    assert job.expect("heard ") == "heard checkpoint"
    assert job.expect("heard ").startswith("heard continued ")
    plain_bench.save(job, leave_running=True)
    assert job.expect("heard ") == "heard checkpoint"
    assert job.expect("heard ").startswith("heard continued ")
    assert job.prove() == "proved 1"
    assert job.finish() == 0


def test_a_job_whose_checkpoint_fails_is_told_so(container_bench: Bench) -> None:
    def refuse() -> None:
        raise StoreError("no more")

    job = container_bench.begin("hooked")
    with pytest.raises(StoreError):
        container_bench.save(job, store=WatchedStore(container_bench.store, before_chunk=refuse))
    assert job.expect("heard ") == "heard checkpoint"
    assert job.expect("heard ").startswith("heard failed ")
    assert job.prove() == "proved 1"
    assert job.finish() == 0


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("slow", "in time"),
        ("deaf", "in time"),
        ("failing", "RuntimeError: cannot?say why"),
        ("held", "in time"),
    ],
)
def test_a_job_that_is_late_or_fails_is_saved_all_the_same_and_an_event_says_so(
    container_bench: Bench, how: str, why: str
) -> None:
    container_bench.saving = SaveOptions(hook_timeout_s=1.0)
    job = container_bench.begin("hooked", how)
    if how == "deaf":
        job.prove()
        job.expect("deaf")
    story = Story()
    manifest = container_bench.save(job, story)
    assert why in story.messages["hook-failed"]
    assert "committed" in story.events
    moved = container_bench.resume(manifest)
    moved.expect("heard moved")
    moved.prove()
    assert moved.finish() == 0


def test_a_job_that_asks_for_signals_gets_them_before_and_after(container_bench: Bench) -> None:
    container_bench.saving = SaveOptions(
        signal_before=signal.SIGALRM,
        signal_wait_s=1.0,
        signal_after=signal.SIGWINCH,
        signal_restored=signal.SIGURG,
    )
    job = container_bench.begin("signalled")
    container_bench.save(job, leave_running=True)
    assert job.expect("heard ") == "heard SIGALRM 1"
    assert job.expect("heard ") == "heard SIGWINCH 2"
    story = Story()
    manifest = container_bench.save(job, story)
    assert job.expect("heard ") == "heard SIGALRM 3"
    moved = container_bench.resume(manifest, story)
    assert {moved.expect("heard ")[:-2], moved.expect("heard ")[:-2]} == {"heard SIGURG", "heard SIGWINCH"}
    assert "signal-not-sent" not in story.events
    assert moved.prove() == "proved 1"
    assert moved.finish() == 0


def test_a_signal_that_would_end_the_job_is_not_sent(container_bench: Bench) -> None:
    container_bench.saving = SaveOptions(signal_before=signal.SIGHUP, signal_after=signal.SIGHUP)
    job = container_bench.begin("signalled")
    story = Story()
    container_bench.save(job, story, leave_running=True)
    assert story.events.count("signal-not-sent") == 2
    assert "SIGHUP: it does not handle it" in story.messages["signal-not-sent"]
    assert job.prove() == "proved 1"
    assert job.finish() == 0
