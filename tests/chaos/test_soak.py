"""A job that moves more than a hundred times: it loses nothing, and what moves it grows by nothing."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from crikpy.settings import MIB
from crikpy.store.gc import apply_gc, plan_gc
from crikpy.store.layout import chunks_prefix
from tests.chaos.recording import Record
from tests.integration.capsules import JobCapsule, until
from tests.integration.moving import Bench

pytestmark = [pytest.mark.criu, pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(600)]

MOVES = 260
WARM = 200
"""After so many moves the allocator has all that it will ever need.

Measured over 320: from 180 on nothing is added, and of objects there are no more from the 20th on.
"""

ROOM = 4 * MIB


def held() -> Iterator[int]:
    """Yield what a process could keep of each move: descriptors, threads, children."""
    own = psutil.Process()
    yield own.num_fds()
    yield threading.active_count()
    yield len(own.children(recursive=True))


def mounts() -> set[str]:
    return set(Path("/proc/self/mountinfo").read_text().splitlines())


def move(bench: Bench, job: JobCapsule) -> JobCapsule:
    """Move a job, and forget the capsule that it has left."""
    after = bench.move(job)
    after.prove()
    bench.forget(job)
    return after


def test_a_job_moves_more_than_a_hundred_times(plain_bench: Bench, record: Record) -> None:
    job = plain_bench.begin("memory", 8, 1)
    own = psutil.Process()
    for _ in range(WARM):
        job = move(plain_bench, job)
    gc.collect()
    before, mounted, memory = list(held()), mounts(), own.memory_info().rss
    for _ in range(MOVES - WARM):
        job = move(plain_bench, job)
    gc.collect()
    assert list(held()) == before
    new = mounts() - mounted
    until(lambda: not new & mounts(), "the end of what other tests have mounted meanwhile", patience_s=100)
    grown = own.memory_info().rss - memory
    assert grown < ROOM, f"{grown / MIB:.1f} MiB more"
    assert job.finish() == 0
    checkpoints = plain_bench.checkpoints
    assert len(checkpoints.list()) == MOVES
    assert checkpoints.newest_resumable() is None
    for summary in checkpoints.list():
        checkpoints.remove(summary.id)
    plan = plan_gc(plain_bench.store, plain_bench.workload, min_age=timedelta(minutes=-1))
    apply_gc(plain_bench.store, plan)
    assert not list(plain_bench.store.list(chunks_prefix(plain_bench.workload)))
    record(
        "soak", f"a job moved {MOVES} times", "nothing lost, nothing left; no descriptor, thread or process more"
    )
