"""Connections that a job has with itself go on in a move; all others are cut, and never keep it from moving."""

from __future__ import annotations

import pytest

from tests.integration.moving import Bench, Story
from tests.integration.networks import PodNetwork, within

pytestmark = pytest.mark.criu


@pytest.mark.vm
def test_a_job_talks_on_with_itself_after_each_move(bench: Bench) -> None:
    job = bench.begin("conversing", "127.0.0.1", "::1", "::ffff:127.0.0.1")
    for _ in range(3):
        job.prove()
        job = bench.move(job)
    job.prove()
    assert job.finish() == 0, job.stderr.text()


def test_a_job_talks_on_with_itself_at_the_address_that_its_new_container_has(container_bench: Bench) -> None:
    container_bench.network = PodNetwork()
    job = container_bench.begin("conversing", "own")
    for _ in range(2):
        job.prove()
        job = container_bench.move(job)
    job.prove()
    assert job.finish() == 0, job.stderr.text()


@pytest.mark.vm
def test_what_two_processes_send_each_other_all_the_time_arrives_byte_for_byte(container_bench: Bench) -> None:
    container_bench.network = PodNetwork()
    job = container_bench.begin("streaming", "own", 3)
    for _ in range(3):
        job.prove()
        container_bench.save(job, leave_running=True)
        job.prove()
        job = container_bench.move(job)
    job.prove()
    assert job.finish() == 0, job.stderr.text()


def test_a_job_that_runs_on_after_its_checkpoint_goes_on_talking(bench: Bench) -> None:
    job = bench.begin("conversing", "127.0.0.1")
    for _ in range(3):
        job.prove()
        bench.save(job, leave_running=True)
    job.prove()
    assert job.finish() == 0, job.stderr.text()


def test_connections_that_cannot_be_brought_back_are_cut_and_the_job_goes_on(container_bench: Bench) -> None:
    job = container_bench.begin("conversing", "cut", "127.0.0.1")
    job.prove()
    manifest = container_bench.save(job)
    new = container_bench.vacant()
    within(new, "ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
    story = Story()
    with new.held() as launcher:
        container_bench.restore(manifest, new, launcher, story)
    assert "connections-cut" in story.events
    new.prove()
    assert new.finish() == 0, new.stderr.text()
