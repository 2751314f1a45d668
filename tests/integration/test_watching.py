"""Watches of inotify move with the job, also on an overlay, where the kernel tells no names."""

from __future__ import annotations

import pytest

from crikpy.errors import UnsupportedJobError
from tests.integration.moving import Bench, Story

pytestmark = pytest.mark.criu


@pytest.mark.parametrize("where", ["/dev/shm/watched", "/srv/watched/deep", "/etc"])
def test_watches_move_with_the_job(container_bench: Bench, where: str) -> None:
    job = container_bench.begin("watching", where)
    job.prove()
    moved = container_bench.move(container_bench.move(job))
    moved.prove()
    moved.prove()


@pytest.mark.vm
def test_watches_of_what_travels_on_a_plain_machine_move_with_the_job(plain_bench: Bench) -> None:
    job = plain_bench.begin("watching", f"{plain_bench.folder}/tmp/watched")
    job.prove()
    moved = plain_bench.move(job)
    moved.prove()


def test_a_watch_of_what_has_no_name_is_refused_before_the_job_stands_still(container_bench: Bench) -> None:
    job = container_bench.begin("awkward", "watch", "/srv")
    story = Story()
    with pytest.raises(UnsupportedJobError, match="1 files or directories by inotify whose names cannot be found"):
        container_bench.save(job, story)
    assert story.events == []
    job.prove()
