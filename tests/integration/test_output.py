"""What a job writes reaches the outside once and in order, whatever is being done to the job."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from tests.integration.capsules import JobCapsule, Stream, job_words, until
from tests.integration.moving import Bench, Kind
from tests.jobs import proving

pytestmark = pytest.mark.criu


def _flows(stream: Stream, characters: int = 1000) -> None:
    """Wait until so much more has come by a stream."""
    before = len(stream.text())
    until(lambda: len(stream.text()) > before + characters, "fresh lines")


def _both_flow(job: JobCapsule) -> None:
    _flows(job.stdout)
    _flows(job.stderr)


def test_a_job_that_writes_all_the_time_loses_and_repeats_no_line_in_three_moves(bench: Bench) -> None:
    capsules = [bench.begin("lines", ready="0")]
    for _ in range(3):
        _both_flow(capsules[-1])
        bench.save(capsules[-1], leave_running=True)
        _both_flow(capsules[-1])
        capsules.append(bench.move(capsules[-1]))
    _both_flow(capsules[-1])
    assert capsules[-1].finish() == 0
    for streams in ([job.stdout for job in capsules], [job.stderr for job in capsules]):
        *numbers, last = b"".join(stream.whole() for stream in streams).split()
        assert last == b"end"
        assert numbers == [b"%d" % number for number in range(len(numbers))]


def test_lines_that_wait_for_a_slow_reader_at_the_dump_come_once(bench: Bench) -> None:
    job = bench.begin("lines", ready="0")
    job.stdout.pause()
    _flows(job.stderr, 200_000)  # by now the pipe that nobody reads is full
    manifest = bench.save(job)
    job.stdout.flow()
    moved = bench.resume(manifest)
    moved.expect("")
    moved.signal(proving.FINISH)
    assert moved.wait() == 0
    *numbers, last = (job.stdout.whole() + moved.stdout.whole()).split()
    assert last == b"end"
    assert numbers == [b"%d" % number for number in range(len(numbers))]


@pytest.mark.parametrize(
    "script", ['exec "$@" > "$0" 2>&1', '"$@" > "$0" 2>&1; exit $?'], ids=["itself", "a child"]
)
def test_output_into_a_file_of_the_job_goes_on_in_it(bench: Bench, script: str) -> None:
    file = "/srv/out" if bench.kind is Kind.CONTAINER else f"{bench.folder}/tmp/out"
    job = bench.vacant("sh", "-c", script, file, *job_words("family", 2))
    job.start()
    until(lambda: _lines(job, file) == ["ready"], "a ready job")
    for count in (1, 2, 3):
        _ask(job, proving.ASK)
        until(lambda: len(_lines(job, file)) > count, "its answer")  # noqa: B023  # it is called at once
        job = bench.move(job)
    assert _lines(job, file) == ["ready", "proved 1", "proved 2", "proved 3"]
    _ask(job, proving.FINISH)
    assert job.wait() == 0


def _lines(job: JobCapsule, file: str) -> list[str]:
    try:
        return Path(f"/proc/{job.launcher_pid}/root{file}").read_text().splitlines()
    except FileNotFoundError:
        return []


def _ask(job: JobCapsule, number: int) -> None:
    """Send a signal to the first process of the job that is no shell."""
    programs = {inner: outer for outer, inner in job.members().items() if psutil.Process(outer).name() != "sh"}
    os.kill(programs[min(programs)], number)
