"""Somebody is killed, or the job does something of its own, at each step of a save and of a restore."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading

import psutil
import pytest

from crikpy import names
from crikpy.errors import CheckpointClaimedError
from tests.chaos.moments import at, gone, save
from tests.chaos.recording import Record
from tests.chaos.subject import SAVED, Subject
from tests.integration.capsules import JobCapsule, until
from tests.integration.moving import Bench, Story
from tests.integration.processes import Agent, criu_of
from tests.integration.stores import WatchedStore

pytestmark = [pytest.mark.criu, pytest.mark.s3, pytest.mark.chaos]

SAVING = ("frozen", "chunk", "streamed", "committed")
RESTORING = ("chunk", "claimed", "resumed")


def kill_all(job: JobCapsule) -> None:
    """Kill every process of a job, as the kernel does when a pod has no memory left."""
    for pid in job.members():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("moment", SAVING)
def test_when_the_agent_is_killed_while_it_saves(
    plain_bench: Bench, local: Subject, record: Record, moment: str
) -> None:
    job = plain_bench.begin("memory", 24, 1)
    with Agent(plain_bench, job, "save", pause=moment) as agent:
        agent.await_pause()
        agent.kill()
    until(lambda: criu_of(job, patience_s=0) == 0, "the end of the orphaned CRIU")
    job.prove()
    if moment != "committed":
        local.check_saved(job, "killed")
    record("save", f"agent killed ({moment})", "runs on")


@pytest.mark.parametrize("moment", ["chunk", "streamed"])
def test_when_criu_is_killed_while_it_dumps(
    plain_bench: Bench, local: Subject, record: Record, moment: str
) -> None:
    job = plain_bench.begin("memory", 24, 1)

    def kill() -> None:
        if criu := criu_of(job, patience_s=0.5):
            os.kill(criu, signal.SIGKILL)

    outcome = save(plain_bench, job, *at(plain_bench, moment, kill))
    local.check_saved(job, outcome)
    record("save", f"CRIU killed ({moment})", outcome)


@pytest.mark.parametrize("moment", SAVING)
def test_when_the_job_is_killed_while_it_is_saved(plain_bench: Bench, record: Record, moment: str) -> None:
    job = plain_bench.begin("memory", 24, 1)
    outcome = save(plain_bench, job, *at(plain_bench, moment, lambda: kill_all(job)))
    status = job.wait()
    assert status in {128 + signal.SIGKILL, names.EXIT_CHECKPOINTED}
    manifest = plain_bench.checkpoints.newest_resumable()
    assert (manifest is not None) == (outcome == SAVED)
    record("save", f"the job killed ({moment})", gone(outcome))


@pytest.mark.parametrize("moment", SAVING)
def test_when_the_launcher_is_killed_while_its_job_is_saved(
    plain_bench: Bench, record: Record, moment: str
) -> None:
    job = plain_bench.begin("memory", 24, 1)
    outcome = save(plain_bench, job, *at(plain_bench, moment, lambda: os.kill(job.launcher_pid, signal.SIGKILL)))
    assert job.wait() not in {0, names.EXIT_CHECKPOINTED}
    until(lambda: not psutil.pid_exists(job.launcher_pid), "the end of the capsule")
    assert (plain_bench.checkpoints.newest_resumable() is not None) == (outcome == SAVED)
    record("save", f"the launcher killed ({moment})", gone(outcome))


@pytest.mark.parametrize("seed", range(6))
def test_when_the_job_forks_and_runs_programs_all_the_time(
    plain_bench: Bench, local: Subject, record: Record, seed: int
) -> None:
    job = plain_bench.begin("restless")
    threading.Event().wait(random.Random(seed).uniform(0, 0.3))
    outcome = save(plain_bench, job, Story(), WatchedStore(plain_bench.store))
    local.check_saved(job, outcome)
    record("save", "the job forks and runs programs all the time", outcome)


@pytest.mark.parametrize("seed", range(10))
def test_when_the_time_is_up_at_any_moment(plain_bench: Bench, local: Subject, record: Record, seed: int) -> None:
    job = plain_bench.begin("memory", 48, 1)
    within_s = random.Random(seed).uniform(0.01, 0.3)
    outcome = save(plain_bench, job, Story(), WatchedStore(plain_bench.store), within_s)
    local.check_saved(job, outcome)
    record("save", "the deadline comes early", outcome)


@pytest.mark.parametrize("moment", RESTORING)
def test_when_the_agent_is_killed_while_it_restores(plain_bench: Bench, record: Record, moment: str) -> None:
    job = plain_bench.begin("memory", 24, 1)
    manifest = plain_bench.save(job)
    capsule = plain_bench.vacant()
    with Agent(plain_bench, capsule, "resume", checkpoint=manifest.checkpoint, pause=moment) as agent:
        agent.await_pause()
        agent.kill()
    until(lambda: criu_of(capsule, patience_s=0) == 0, "the end of the orphaned CRIU")
    if moment == "resumed":
        capsule.prove()
        outcome = "resumed"
    else:
        capsule.expect("ready")
        capsule.prove()
        outcome = "started from its beginning"
    assert plain_bench.checkpoints.newest_resumable() is None or moment == "chunk"
    assert capsule.finish() == 0
    record("restore", f"agent killed ({moment})", outcome)


def test_of_two_that_resume_one_checkpoint_one_does(plain_bench: Bench, record: Record) -> None:
    job = plain_bench.begin("memory", 24, 1)
    manifest = plain_bench.save(job)
    capsules = [plain_bench.vacant(), plain_bench.vacant()]
    outcomes: list[str] = ["", ""]

    def resume(number: int) -> None:
        with capsules[number].held() as launcher:
            try:
                plain_bench.restore(manifest, capsules[number], launcher)
                outcomes[number] = "resumed"
            except CheckpointClaimedError:
                outcomes[number] = "refused"

    threads = [threading.Thread(target=resume, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused", "resumed"]
    capsules[outcomes.index("resumed")].prove()
    record("restore", "two agents at once", "one resumed it, the other was refused")
