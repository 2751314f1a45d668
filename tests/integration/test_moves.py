"""Whole jobs move from capsule to capsule and prove that nothing of their state was lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from crikpy.settings import StoreSettings
from crikpy.store.s3 import S3Store
from tests.fakes.s3_server import REGION, S3Server
from tests.integration.moving import Bench
from tests.integration.processes import Agent

pytestmark = pytest.mark.criu


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("sockets",), id="sockets", marks=pytest.mark.vm),
        pytest.param(("threads", 200), id="threads"),
        pytest.param(("crowded", 500, 5000, 20000), id="threads-descriptors-mappings"),
        pytest.param(("family", 50), id="processes"),
        pytest.param(("pool", "fork"), id="multiprocessing-fork"),
        pytest.param(("pool", "spawn"), id="multiprocessing-spawn", marks=pytest.mark.vm),
        pytest.param(("files",), id="files", marks=pytest.mark.vm),
        pytest.param(("sessions",), id="sessions"),
        pytest.param(("terminals",), id="terminals", marks=pytest.mark.vm),
    ],
)
def test_a_job_keeps_its_state_in_a_move(bench: Bench, words: tuple[object, ...]) -> None:
    job = bench.begin(*words)  # type: ignore[arg-type]  # the first word is the job's name
    job.prove()
    moved = bench.move(job)
    moved.prove()
    moved.prove()
    assert moved.finish() == 0, moved.stderr.text()


@pytest.mark.vm
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


@pytest.mark.vm
def test_clocks_and_waits_go_on_over_machines_that_have_been_up_for_different_times(bench: Bench) -> None:
    days = ("unshare", "--time", "--monotonic=1000000", "--boottime=1000000", "--")
    job = bench.begin("clocks")
    job.prove()
    for machine in (days, ()):
        manifest = bench.save(job)
        job = bench.vacant()
        with Agent(bench, job, "resume", checkpoint=manifest.checkpoint, before=machine) as agent:
            agent.result()
        job.prove()
    assert job.finish() == 0


@pytest.mark.s3
def test_a_job_is_moved_by_way_of_s3(plain_bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with S3Server(folder / "s3") as server:
        server.create_bucket("jobs")
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        settings = StoreSettings(endpoint=server.endpoint, region=REGION, path_style=True)
        plain_bench.store = S3Store("jobs", "some/prefix", settings)
        job = plain_bench.begin("memory", 20, 1)
        moved = plain_bench.move(job)
        moved.prove()
        assert moved.finish() == 0
