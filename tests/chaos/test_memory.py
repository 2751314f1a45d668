"""Memory runs out, and the kernel kills whom it likes: the agent, the job, or what is to become the job again."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crikpy import names
from crikpy.errors import CrikpyError
from tests.chaos.memory import MemoryGroup, memory_group
from tests.chaos.moments import at, gone, save
from tests.chaos.recording import Record
from tests.chaos.subject import SAVED, Subject
from tests.integration.capsules import JobCapsule, until
from tests.integration.moving import Bench
from tests.integration.processes import Agent, criu_of

pytestmark = [pytest.mark.criu, pytest.mark.chaos]

_AGENT_MIB = 400
"""What the agent may have; it needs half of that."""

_JOB_MIB = 24


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    """A cgroup; first of what a test asks for, so that it goes last: the bench ends what is in it."""
    with memory_group(_AGENT_MIB) as made:
        yield made


def starve(agent: Agent, group: MemoryGroup) -> None:
    """See the kernel kill an agent that eats."""
    assert agent.wait() == -signal.SIGKILL
    assert group.kills() >= 1, "somebody else has killed it"


@pytest.mark.parametrize("moment", ["frozen", "chunk", "streamed"])
def test_when_the_agent_has_no_memory_left_while_it_saves(
    group: MemoryGroup, plain_bench: Bench, local: Subject, record: Record, moment: str
) -> None:
    job = plain_bench.begin("memory", _JOB_MIB, 1)
    with Agent(plain_bench, job, "save", pause=moment, hungry=True, before=group.entered()) as agent:
        starve(agent, group)
    until(lambda: criu_of(job, patience_s=0) == 0, "the end of the orphaned CRIU")
    local.check_saved(job, "killed")
    record("save", f"the agent killed for want of memory ({moment})", "runs on")


def test_when_the_agents_container_is_killed_as_a_whole_while_criu_is_inside_the_job(
    group: MemoryGroup, plain_bench: Bench, local: Subject, record: Record
) -> None:
    chance = random.Random(0)
    job = plain_bench.begin("memory", 12 * _JOB_MIB, 1)
    for _ in range(10):
        with Agent(plain_bench, job, "save", before=group.entered()):
            assert criu_of(job)
            time.sleep(chance.choice([chance.uniform(0, 0.05), chance.uniform(0, 0.25)]))
            group.kill()
        until(lambda: criu_of(job, patience_s=0) == 0, "the end of the orphaned CRIU")
        job.prove()
    local.check_saved(job, "killed")
    record("save", "the agent's container killed as a whole, at any moment of the dump", "runs on")


@pytest.mark.parametrize("moment", ["chunk", "claimed"])
def test_when_the_agent_has_no_memory_left_while_it_restores(
    group: MemoryGroup, plain_bench: Bench, record: Record, moment: str
) -> None:
    job = plain_bench.begin("memory", _JOB_MIB, 1)
    manifest = plain_bench.save(job)
    capsule = plain_bench.vacant()
    with Agent(
        plain_bench,
        capsule,
        "resume",
        checkpoint=manifest.checkpoint,
        pause=moment,
        hungry=True,
        before=group.entered(),
    ) as agent:
        starve(agent, group)
    until(lambda: criu_of(capsule, patience_s=0) == 0, "the end of the orphaned CRIU")
    capsule.expect("ready")
    capsule.prove()
    assert plain_bench.checkpoints.newest_resumable() is None
    assert capsule.finish() == 0
    record("restore", f"the agent killed for want of memory ({moment})", "started from its beginning")


def bound_job(group: MemoryGroup, job: JobCapsule) -> None:
    """Put a job into the cgroup, as the first that the kernel kills, like those of pods without requests."""
    for pid in job.members():
        group.take(pid)
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")


@pytest.mark.parametrize("moment", ["frozen", "chunk", "streamed"])
def test_when_the_job_has_no_memory_left_while_it_is_saved(
    group: MemoryGroup, plain_bench: Bench, record: Record, moment: str
) -> None:
    job = plain_bench.begin("memory", _JOB_MIB, 1)
    bound_job(group, job)
    job.prove()
    outcome = save(plain_bench, job, *at(plain_bench, moment, lambda: group.eat(_AGENT_MIB - 1)))
    assert group.kills() >= 1
    assert job.wait() in {128 + signal.SIGKILL, names.EXIT_CHECKPOINTED}
    manifest = plain_bench.checkpoints.newest_resumable()
    assert (manifest is not None) == (outcome == SAVED)
    if manifest is not None:
        plain_bench.resume(manifest).prove()
    record("save", f"the job killed for want of memory ({moment})", gone(outcome))


def test_when_the_new_capsule_has_too_little_memory(
    group: MemoryGroup, plain_bench: Bench, record: Record
) -> None:
    job = plain_bench.begin("memory", 3 * _JOB_MIB, 1)
    manifest = plain_bench.save(job)
    capsule = plain_bench.vacant()
    group.take(capsule.launcher_pid)
    group.bound(2 * _JOB_MIB)
    with capsule.held() as launcher:
        with pytest.raises(CrikpyError) as caught:
            plain_bench.restore(manifest, capsule, launcher)
        assert group.kills() >= 1
        assert capsule.members() == {}
        group.bound(_AGENT_MIB)
        capsule.start(launcher)
    capsule.expect("ready")
    capsule.prove()
    assert plain_bench.checkpoints.newest_resumable() is None
    assert capsule.finish() == 0
    record("restore", "the new capsule has too little memory", type(caught.value).__name__)
