"""What a job writes reaches the outside once and in order, whatever is being done to the job."""

from __future__ import annotations

import pytest

from tests.integration.capsules import JobCapsule, Stream, until
from tests.integration.moving import Bench
from tests.jobs import proving

pytestmark = pytest.mark.criu


def _flows(stream: Stream, characters: int = 1000) -> None:
    """Wait until so much more has come by a stream."""
    before = len(stream.text())
    until(lambda: len(stream.text()) > before + characters, "fresh lines")


def _both_flow(job: JobCapsule) -> None:
    _flows(job.stdout)
    _flows(job.stderr)


@pytest.mark.vm
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
