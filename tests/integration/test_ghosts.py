"""Files that have lost their names, and POSIX shared memory and semaphores, move with the job that has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from crikpy.errors import CrikpyError, UnsupportedJobError
from tests.integration.moving import Bench, Kind, Story

pytestmark = pytest.mark.criu


def _folder(bench: Bench) -> str:
    return "/tmp/ghosts" if bench.kind is Kind.CONTAINER else f"{bench.folder}/tmp/ghosts"


@pytest.mark.parametrize("case", ["folder", "anew", "renamed", "posix"])
def test_files_without_their_names_move(bench: Bench, case: str) -> None:
    job = bench.begin("ghosts", case, _folder(bench))
    job.prove()
    moved = bench.move(bench.move(job))
    moved.prove()
    moved.prove()


def test_what_criu_makes_for_a_lost_name_is_gone_when_a_job_runs_on(bench: Bench) -> None:
    job = bench.begin("ghosts", "renamed", _folder(bench))
    for _ in range(2):
        bench.save(job, leave_running=True)
        job.prove()
    bench.move(job).prove()


def test_what_criu_makes_for_a_lost_name_is_gone_after_a_save_that_fails_and_hinders_none_if_it_is_not(
    bench: Bench,
) -> None:
    job = bench.begin("ghosts", "renamed", _folder(bench))
    folder = Path(f"/proc/{job.launcher_pid}/root{_folder(bench)}")
    seen: list[str] = []

    def fail() -> None:
        seen.extend(path.name for path in folder.iterdir() if path.name.startswith("link_remap."))
        raise CrikpyError("no more")

    with pytest.raises(CrikpyError, match="no more"):
        bench.save(job, Story(streamed=fail))
    job.prove()
    (remap,) = seen
    (folder / remap).hardlink_to(folder / "other")  # as an agent leaves it that is killed
    bench.move(job).prove()


def test_a_deleted_file_that_is_too_large_is_refused_before_the_job_stands_still(container_bench: Bench) -> None:
    bench = container_bench
    job = bench.begin("ghosts", "anew", _folder(bench))
    criu = bench.settings.criu
    bench.settings = replace(bench.settings, criu=replace(criu, ghost_limit_bytes=1024))
    story = Story()
    with pytest.raises(UnsupportedJobError, match=r"name .deleted. open.*CRIKPY_CRIU_GHOST_LIMIT_BYTES"):
        bench.save(job, story)
    assert story.events == []
    job.prove()
    bench.settings = replace(bench.settings, criu=criu)
    bench.move(job).prove()
