"""The memory of whoever saves or restores a job is bounded by a setting, whatever the size of the job."""

from __future__ import annotations

import pytest

from tests.integration.moving import Bench
from tests.integration.processes import Agent

pytestmark = [pytest.mark.criu, pytest.mark.slow]

_BOUND_MIB = 256
_JOB_MIB = 1200


@pytest.mark.timeout(240)
def test_a_job_larger_than_the_bound_is_saved_and_restored_within_it(plain_bench: Bench) -> None:
    job = plain_bench.begin("memory", _JOB_MIB, 1)
    with Agent(plain_bench, job, "save", memory=f"{_BOUND_MIB}Mi") as agent:
        saving_kib = int(agent.result())
    assert job.wait() == 75
    found = plain_bench.checkpoints.newest_complete()
    assert found is not None
    assert found.sizes is not None
    assert found.sizes.stored_bytes > _JOB_MIB * 1024 * 1024
    moved = plain_bench.vacant()
    with Agent(plain_bench, moved, "resume", checkpoint=found.id, memory=f"{_BOUND_MIB}Mi") as agent:
        restoring_kib = int(agent.result())
    moved.prove()
    assert saving_kib < _BOUND_MIB * 1024, saving_kib
    assert restoring_kib < _BOUND_MIB * 1024
