"""A moved job may do as little as before: by the filters it was started with and its own, in each thread."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.moving import Bench, Kind
from tests.jobs import filters

pytestmark = pytest.mark.criu

_FACTS = ("NoNewPrivs", "Seccomp", "Seccomp_filters")


def _facts(members: dict[int, int]) -> dict[int, tuple[str, ...]]:
    """Return what the kernel says of each thread, by its number inside."""
    found = {}
    for pid in members:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            lines = (thread / "status").read_text().splitlines()
            status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
            found[int(status["NSpid"][-1])] = tuple(status[name][0] for name in _FACTS)
    return found


@pytest.mark.parametrize("threads", [pytest.param("apart", marks=pytest.mark.vm), "tsync"])
def test_filters_of_a_runtime_and_of_the_job_stay_as_many_and_as_strict(bench: Bench, threads: str) -> None:
    job = bench.begin("filters", threads)
    job.prove()
    before = _facts(job.members())
    started_with = 1 if bench.kind is Kind.CONTAINER else 0
    assert before[min(before)] == ("1", "2", str(started_with + 2 + len(filters.DEADLY)))
    assert len(before) == 3
    job = bench.move(job)
    assert _facts(job.members()) == before
    job.prove()
    assert job.finish() == 0, job.stderr.text()
