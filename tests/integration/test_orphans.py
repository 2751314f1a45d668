"""Processes of a job whose parents or session leaders have ended move with it."""

from __future__ import annotations

import pytest

from tests.integration.moving import Bench

pytestmark = pytest.mark.criu


@pytest.mark.vm
def test_orphans_and_their_sessions_and_zombies_move_with_the_job(bench: Bench) -> None:
    job = bench.begin("orphaned")
    for _ in range(3):
        job.prove()
        job = bench.move(job)
    job.prove()
    assert job.finish() == 0, job.stderr.text()
