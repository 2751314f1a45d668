"""Whole jobs move from capsule to capsule and prove that nothing of their state was lost."""

from __future__ import annotations

import pytest

from tests.integration.moving import Bench

pytestmark = [pytest.mark.criu, pytest.mark.vm]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("sockets",), id="sockets"),
        pytest.param(("threads", 200), id="threads"),
        pytest.param(("family", 50), id="processes"),
        pytest.param(("pool", "fork"), id="multiprocessing-fork"),
        pytest.param(("pool", "spawn"), id="multiprocessing-spawn"),
        pytest.param(("files",), id="files"),
        pytest.param(("sessions",), id="sessions"),
    ],
)
def test_a_job_keeps_its_state_in_a_move(bench: Bench, words: tuple[object, ...]) -> None:
    job = bench.begin(*words)  # type: ignore[arg-type]  # the first word is the job's name
    job.prove()
    moved = bench.move(job)
    moved.prove()
    moved.prove()
    assert moved.finish() == 0, moved.stderr.text()


def test_a_job_moves_three_times_with_children_born_after_each_move(bench: Bench) -> None:
    job = bench.begin("children")
    for _ in range(3):
        job.prove()
        job = bench.move(job)
    job.prove()
    job.signal(10)
    born = [int(word) for word in job.expect("children").split()[1:]]
    assert len(born) == len(set(born)) == 6
    assert min(born) > 9000
