"""Connections that a job has with itself go on in a move; all others are cut, and never keep it from moving."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from crikpy.errors import UnsupportedJobError
from tests.integration.capsules import job_words
from tests.integration.moving import Bench, Kind, Story
from tests.integration.networks import PodNetwork, within
from tests.jobs.proving import ASK

pytestmark = pytest.mark.criu


def test_a_job_talks_on_with_itself_after_each_move(bench: Bench) -> None:
    job = bench.begin("conversing", "127.0.0.1", "::1", "::ffff:127.0.0.1")
    for _ in range(3):
        job.prove()
        job = bench.move(job)
    job.prove()
    assert job.finish() == 0, job.stderr.text()


@pytest.mark.vm
def test_a_job_talks_on_with_itself_at_the_address_that_its_new_container_has(container_bench: Bench) -> None:
    container_bench.network = PodNetwork()
    job = container_bench.begin("conversing", "own")
    for _ in range(2):
        job.prove()
        job = container_bench.move(job)
    job.prove()
    assert job.finish() == 0, job.stderr.text()


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


def test_connections_to_services_outside_by_unix_sockets_are_cut_and_the_job_goes_on(
    bench: Bench, folder: Path
) -> None:
    shared = folder / "services"
    shared.mkdir()
    place = str(shared) if bench.kind is Kind.PLAIN else "/services"
    bench.shared_directories = {"/services": shared}
    # What a container sends letters to in another network namespace, CRIU does not find.
    names = ("stream", "letters") if bench.kind is Kind.PLAIN else ("stream",)
    job = bench.vacant(*job_words("outward", *(f"{place}/{name}" for name in names)))
    with (
        socket.create_server(str(shared / "stream"), family=socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as letters,
    ):
        letters.bind(str(shared / "letters"))
        job.start()
        with listener.accept()[0] as served:
            job.expect("ready")
            job.signal(ASK)
            served.sendall(served.recv(64))
            job.expect("proved")
            bench.save(job, leave_running=True)
            manifest = bench.save(job)
    moved = bench.resume(manifest)
    moved.prove()
    again = bench.move(moved)
    again.prove()
    assert again.finish() == 0, again.stderr.text()


def test_a_job_that_sends_letters_to_a_service_of_another_network_is_refused_before_it_stops(
    container_bench: Bench, folder: Path
) -> None:
    shared = folder / "services"
    shared.mkdir()
    container_bench.shared_directories = {"/services": shared}
    job = container_bench.vacant(*job_words("outward", "/services/stream", "/services/letters"))
    story = Story()
    with (
        socket.create_server(str(shared / "stream"), family=socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as letters,
    ):
        letters.bind(str(shared / "letters"))
        job.start()
        with listener.accept()[0]:
            job.expect("ready")
            with pytest.raises(UnsupportedJobError, match="datagrams by a Unix socket to a service outside"):
                container_bench.save(job, story)
    assert "frozen" not in story.events


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
