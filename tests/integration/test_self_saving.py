"""Jobs that save themselves, in capsules of either kind: asked, stored, begun again where their files say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crikpy import names
from crikpy.errors import SelfSaveError, StoreError, StoreUnavailableError, UnsupportedJobError
from crikpy.model.manifest import APPLICATION_MODE, PROCESS_MODE
from crikpy.model.saving import Mode, SaveOptions
from crikpy.settings import MIB
from tests.integration.capsules import JobCapsule
from tests.integration.moving import Bench, Kind, Story
from tests.integration.processes import ghost_of
from tests.integration.stores import WatchedStore

pytestmark = pytest.mark.criu


def _begin(bench: Bench, *how: str, mode: Mode = Mode.APPLICATION) -> JobCapsule:
    """Begin a job that saves itself below a directory of its own, and let it count to 2."""
    where = str(bench.folder / "tmp" / "kept") if bench.kind is Kind.PLAIN else "/srv/kept"
    bench.saving = SaveOptions(mode=mode, application_directories=(where,))
    job = bench.begin("selfsaving", where, *how)
    assert [job.prove(), job.prove()] == ["proved 1 of 1", "proved 2 of 2"]
    return job


def test_a_job_that_saves_itself_ends_with_75_and_begins_again_with_its_files(bench: Bench) -> None:
    job = _begin(bench)
    story = Story()
    manifest = bench.save(job, story)
    assert job.wait() == names.EXIT_CHECKPOINTED
    assert manifest.mode == APPLICATION_MODE
    assert not manifest.job.processes
    assert [archive.root for archive in manifest.archives] == list(bench.saving.application_directories)
    assert "frozen" not in story.events
    moved = bench.resume(manifest)
    moved.expect("ready at 2")
    assert moved.prove() == "proved 3 of 1"
    assert min(pid for pid in moved.members().values()) > names.PID_FLOOR
    again = bench.save(moved)
    assert again.mode == APPLICATION_MODE
    last = bench.resume(again)
    last.expect("ready at 3")
    assert last.finish() == 0


def test_a_job_that_answers_can_save_itself_and_run_on(container_bench: Bench) -> None:
    job = _begin(container_bench, "call")
    manifest = container_bench.save(job, leave_running=True)
    job.expect("saved")
    job.expect("heard continued")
    assert job.prove() == "proved 3 of 3"
    assert manifest.mode == APPLICATION_MODE
    final = container_bench.save(job)
    assert job.wait() == names.EXIT_CHECKPOINTED
    moved = container_bench.resume(final)
    moved.expect("ready at 3")
    assert moved.finish() == 0


def test_a_job_without_a_handler_is_not_asked(container_bench: Bench) -> None:
    job = _begin(container_bench, "deaf")
    with pytest.raises(UnsupportedJobError, match="neither handles SIGTERM nor"):
        container_bench.save(job)
    assert job.prove() == "proved 3 of 3"


def test_a_job_is_not_asked_whose_directory_could_not_be_read(container_bench: Bench) -> None:
    job = _begin(container_bench)
    container_bench.saving = replace(container_bench.saving, application_directories=("/proc/self",))
    with pytest.raises(UnsupportedJobError, match="'/proc/self' cannot travel"):
        container_bench.save(job)
    assert job.prove() == "proved 3 of 3"


def test_a_job_that_would_end_is_not_asked_for_a_checkpoint_after_which_it_is_to_run_on(
    container_bench: Bench,
) -> None:
    job = _begin(container_bench)
    with pytest.raises(UnsupportedJobError, match="on_save"):
        container_bench.save(job, leave_running=True)
    assert job.prove() == "proved 3 of 3"
    assert not container_bench.checkpoints.list()


def test_a_job_that_does_not_save_itself_in_time_is_left_alone(container_bench: Bench) -> None:
    job = _begin(container_bench, "call", "late")
    with pytest.raises(SelfSaveError, match="runs on"):
        container_bench.save(job, within_s=4.0)
    job.expect("saved")  # late, but by its own will
    job.expect("heard failed")
    assert job.prove() == "proved 3 of 3"
    assert not container_bench.checkpoints.complete()


@pytest.mark.parametrize(("how", "status", "why"), [("worse", 3, "status 3"), ("empty", 0, "left nothing")])
def test_a_job_that_fails_to_save_itself_ends_with_its_own_status(
    container_bench: Bench, how: str, status: int, why: str
) -> None:
    job = _begin(container_bench, how)
    with pytest.raises(SelfSaveError, match=why):
        container_bench.save(job)
    assert job.wait() == status
    assert not container_bench.checkpoints.complete()


def test_a_job_whose_callback_fails_runs_on(container_bench: Bench) -> None:
    job = _begin(container_bench, "call", "worse")
    with pytest.raises(SelfSaveError, match="OSError: no room"):
        container_bench.save(job)
    assert job.prove() == "proved 3 of 3"


def test_a_store_that_fails_after_the_job_has_ended_leaves_it_its_own_status(container_bench: Bench) -> None:
    def refuse() -> None:
        raise StoreError("no more")

    job = _begin(container_bench)
    with pytest.raises(SelfSaveError, match="ended with status 0 as it was asked to, and was not saved: no more"):
        container_bench.save(job, store=WatchedStore(container_bench.store, before_chunk=refuse))
    assert job.wait() == 0


def test_a_store_that_is_away_for_a_moment_after_the_job_has_ended_costs_nothing(container_bench: Bench) -> None:
    failures = iter([True])

    def stumble() -> None:
        if next(failures, False):
            raise StoreUnavailableError("for a moment")

    job = _begin(container_bench)
    manifest = container_bench.save(job, store=WatchedStore(container_bench.store, before_chunk=stumble))
    assert job.wait() == names.EXIT_CHECKPOINTED
    container_bench.resume(manifest).expect("ready at 2")


def test_a_job_that_criu_cannot_save_saves_itself_where_it_says_a_directory(plain_bench: Bench) -> None:
    job = _begin(plain_bench, "packets", mode=Mode.AUTO)
    story = Story()
    manifest = plain_bench.save(job, story)
    assert job.wait() == names.EXIT_CHECKPOINTED
    assert manifest.mode == APPLICATION_MODE
    assert "packet mode" in story.messages["saves-itself"]
    plain_bench.resume(manifest).expect("ready at 2")


def test_a_job_whose_dump_fails_saves_itself_where_it_says_a_directory(container_bench: Bench) -> None:
    job = _begin(container_bench, "ghost", mode=Mode.AUTO)
    able = container_bench.settings
    container_bench.settings = replace(able, criu=replace(able.criu, ghost_limit_bytes=MIB))
    grow = WatchedStore(container_bench.store, before_started=lambda: ghost_of(job).write_bytes(bytes(2 * MIB)))
    manifest = container_bench.save(job, store=grow)
    assert job.wait() == names.EXIT_CHECKPOINTED
    assert manifest.mode == APPLICATION_MODE
    container_bench.resume(manifest).expect("ready at 2")


def test_a_job_that_criu_can_save_is_saved_by_criu_unless_it_wants_otherwise(container_bench: Bench) -> None:
    job = _begin(container_bench, mode=Mode.AUTO)
    manifest = container_bench.save(job)
    assert manifest.mode == PROCESS_MODE
    moved = container_bench.resume(manifest)
    assert moved.prove() == "proved 3 of 3"


def test_a_job_that_neither_can_save_is_told_both_reasons(container_bench: Bench) -> None:
    job = _begin(container_bench, "packets", "deaf", mode=Mode.AUTO)
    with pytest.raises(UnsupportedJobError, match=r"packet mode.*neither handles SIGTERM"):
        container_bench.save(job)
    container_bench.saving = replace(container_bench.saving, mode=Mode.PROCESS)
    with pytest.raises(UnsupportedJobError) as refused:
        container_bench.save(job)
    assert "SIGTERM" not in str(refused.value)
    assert job.prove() == "proved 3 of 3"
