"""What a job writes reaches the outside once and in order, whatever is being done to the job."""

from __future__ import annotations

import pytest

from tests.integration.capsules import JobCapsule, until
from tests.integration.moving import Bench
from tests.jobs import proving

pytestmark = [pytest.mark.criu, pytest.mark.vm]


def _flows(job: JobCapsule) -> None:
    """Wait until fresh lines have come by both streams."""
    for stream in (job.stdout, job.stderr):
        before = len(stream.text())
        until(lambda stream=stream, before=before: len(stream.text()) > before + 1000, "fresh lines")  # type: ignore[misc]


def test_a_job_that_writes_all_the_time_loses_and_repeats_no_line_in_three_moves(bench: Bench) -> None:
    capsules = [bench.begin("lines", ready="0")]
    for _ in range(3):
        _flows(capsules[-1])
        bench.save(capsules[-1], leave_running=True)
        _flows(capsules[-1])
        capsules.append(bench.move(capsules[-1]))
    _flows(capsules[-1])
    assert capsules[-1].finish() == 0
    for streams in ([job.stdout for job in capsules], [job.stderr for job in capsules]):
        *numbers, last = b"".join(stream.whole() for stream in streams).split()
        assert last == b"end"
        assert numbers == [b"%d" % number for number in range(len(numbers))]


def test_lines_that_wait_for_a_slow_reader_at_the_dump_come_once(bench: Bench) -> None:
    job = bench.begin("lines", ready="0")
    job.stdout.pause()
    _stand_still(job)
    manifest = bench.save(job)
    job.stdout.flow()
    moved = bench.resume(manifest)
    moved.stdout.next_line("")
    moved.signal(proving.FINISH)
    assert moved.wait() == 0
    *numbers, last = (job.stdout.whole() + moved.stdout.whole()).split()
    assert last == b"end"
    assert numbers == [b"%d" % number for number in range(len(numbers))]


def _stand_still(job: JobCapsule) -> None:
    """Wait until the job's writer waits for room in its pipe: no bytes come by stdout while stderr flows."""
    _flows_from(job)


def _flows_from(job: JobCapsule) -> None:
    before = len(job.stderr.text())
    until(lambda: len(job.stderr.text()) > before + 200_000, "lines on the other stream")
