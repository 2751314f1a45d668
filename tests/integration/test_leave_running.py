"""A checkpoint of a job that is left running, and a later one that needs only what has changed."""

from __future__ import annotations

import pytest

from crikpy.errors import StoreUnavailableError
from tests.integration.moving import Bench, Story
from tests.integration.stores import WatchedStore

pytestmark = pytest.mark.criu


def test_a_job_that_is_left_running_is_saved_again_with_fewer_bytes(bench: Bench) -> None:
    job = bench.begin("memory", 48, 2)
    story = Story()
    first = bench.save(job, story, leave_running=True)
    assert story.events[-1] == "running-on"
    job.prove()
    second = bench.save(job)
    assert job.wait() == 75
    assert first.sizes.stored_bytes > 40 * 1024 * 1024
    assert second.sizes.stored_bytes < first.sizes.stored_bytes / 2
    assert second.sizes.reused_bytes > 20 * 1024 * 1024
    moved = bench.resume(second)
    moved.prove()
    assert moved.finish() == 0


def test_a_job_that_is_left_running_goes_on_before_it_is_stored(bench: Bench) -> None:
    job = bench.begin("memory", 16, 2)
    story = Story()
    saved = bench.save(job, story, leave_running=True, store=WatchedStore(bench.store, before_manifest=job.prove))
    assert story.events == ["frozen", "thawed", "streamed", "committed", "running-on"]
    assert job.finish() == 0
    moved = bench.resume(saved)
    moved.prove()
    assert moved.finish() == 0


def test_a_job_that_went_on_is_left_alone_when_it_cannot_be_stored(bench: Bench) -> None:
    def fail() -> None:
        raise StoreUnavailableError("the store went away")

    job = bench.begin("memory", 16, 2)
    story = Story()
    with pytest.raises(StoreUnavailableError):
        bench.save(job, story, leave_running=True, store=WatchedStore(bench.store, before_manifest=fail))
    assert story.events == ["frozen", "thawed", "streamed"]
    assert bench.checkpoints.newest_resumable() is None
    job.prove()
    moved = bench.move(job)
    moved.prove()
    assert moved.finish() == 0


def test_an_earlier_checkpoint_can_be_resumed_when_the_job_has_gone_on(bench: Bench) -> None:
    job = bench.begin("ending", 4)
    first = bench.save(job, leave_running=True)
    assert job.finish() == 4
    assert bench.resume(first).finish() == 4
