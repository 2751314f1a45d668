"""The main story: a job that `crikpy run` saves and resumes, by signals, by notices and by command."""

from __future__ import annotations

import json
import signal

import pytest

from crikpy import names
from crikpy.errors import CheckpointNotFoundError, NoSuchJobError
from tests.cli.conftest import Imds
from tests.cli.machines import NAME, Ended, Machine, Run
from tests.integration.capsules import job_words, until

pytestmark = pytest.mark.criu


def resume(machine: Machine) -> Run:
    """Run the job's name again, and see that it goes on where it was instead of starting."""
    run = machine.run("false")
    run.hear("the job goes on")
    return run


def begin(machine: Machine, status: int) -> Run:
    """Start a job that counts its SIGHUPs, and wait until it has counted one."""
    run = machine.start("ending", status)
    run.signal(signal.SIGHUP)

    def counted() -> bool:
        run.prove()
        return "caught 1" in run.stdout.text()

    until(counted, "the SIGHUP")
    return run


def prove_memory(run: Run) -> None:
    """See that the job remembers the SIGHUP that it got on its first machine."""
    run.prove()
    assert "caught 1" in run.stdout.text()


@pytest.mark.vm
def test_sigterm_saves_the_job_and_the_next_run_finishes_it(machine: Machine, other: Machine) -> None:
    first = begin(machine, 7)
    ended = first.terminate()
    assert ended.status == names.EXIT_CHECKPOINTED
    assert "is complete" in ended.err
    second = resume(other)
    assert "resuming checkpoint" in second.stderr.text()
    prove_memory(second)
    assert second.finish().status == 7


@pytest.mark.s3
def test_the_same_over_s3(s3_machine: Machine) -> None:
    first = begin(s3_machine, 7)
    assert first.terminate().status == names.EXIT_CHECKPOINTED
    second = resume(s3_machine)
    prove_memory(second)
    assert second.finish().status == 7
    assert s3_machine.states() == ["resumed"]
    verified = s3_machine.of_store("verify", NAME)
    assert verified.status == 0, verified.err


@pytest.mark.vm
def test_a_spot_notice_saves_the_job_before_the_machine_goes(machine: Machine, imds: Imds) -> None:
    run = machine.start("ending", 0)
    imds.tell("spot", action="terminate", in_s=120)
    ended = run.wait()
    assert ended.status == names.EXIT_CHECKPOINTED
    assert "SpotInterruption: terminate at " in ended.err
    shown = json.loads(machine.of_store("show", NAME, "--output=json").out)
    assert shown["origin"]["trigger"] == "SpotInterruption"
    assert shown["origin"]["instance"] == "i-0123456789abcdef0"
    assert imds.tell("counts").get("no-token", 0) == 0


def test_a_rebalance_recommendation_saves_the_job_and_lets_it_run_on(machine: Machine, imds: Imds) -> None:
    run = machine.start("ending", 5)
    imds.tell("rebalance")
    run.hear("the job runs on")
    run.prove()
    assert machine.states() == ["resumable"]
    assert run.finish().status == 5


def test_a_notice_that_comes_too_late_for_a_checkpoint_leaves_the_job_alone(machine: Machine, imds: Imds) -> None:
    run = machine.start("ending", 5)
    imds.tell("spot", action="terminate", in_s=1)
    run.hear("the job was not saved and runs on")
    run.prove()
    assert run.finish().status == 5


def test_a_machine_without_metadata_service_runs_jobs_all_the_same(machine: Machine) -> None:
    machine.environment |= {
        "CRIKPY_NOTICES_IMDS_ENABLED": "true",
        "CRIKPY_NOTICES_IMDS_ENDPOINT": "http://127.0.0.1:9",
    }
    ended = machine.start("ending", 5).terminate()
    assert ended.status == names.EXIT_CHECKPOINTED
    assert "no interruption notice" in ended.err
    assert "Traceback" not in ended.err


def test_a_job_that_finished_is_not_resumed(machine: Machine, imds: Imds) -> None:
    run = machine.start("ending", 5)
    imds.tell("rebalance")
    run.hear("the job runs on")
    assert run.finish().status == 5
    assert machine.states() == ["finished"]
    again = machine.run("true").wait()
    assert again.status == 0
    assert "starts from the beginning" in again.err


def test_restore_resumes_and_never_starts(machine: Machine, other: Machine) -> None:
    first = begin(machine, 9)
    assert first.terminate().status == names.EXIT_CHECKPOINTED
    second = other.begin("restore", NAME, "--store", other.store)
    second.hear("the job goes on")
    prove_memory(second)
    assert second.finish().status == 9
    again = other.crikpy("restore", NAME, "--store", other.store)
    again.require(CheckpointNotFoundError, NAME)
    assert "from the beginning" not in again.err


def test_a_restored_job_moves_again(machine: Machine, other: Machine) -> None:
    first = begin(machine, 9)
    assert first.terminate().status == names.EXIT_CHECKPOINTED
    for place in (other, machine):
        moved = place.begin("restore", NAME, "--store", place.store)
        moved.hear("the job goes on")
        prove_memory(moved)
        assert moved.terminate().status == names.EXIT_CHECKPOINTED
    shown = json.loads(machine.of_store("show", NAME, "--output=json").out)
    assert shown["job"]["command"][-2:] == ["tests.jobs.ending", "9"]


@pytest.mark.parametrize("moment", ["the command", "the checkpoint"])
def test_sigterm_while_the_job_begins_saves_it_as_soon_as_it_runs(machine: Machine, moment: str) -> None:
    if moment == "the checkpoint":
        machine.save("memory", 64, 0)
    run = machine.run(*job_words("memory", 64, 0))
    run.hear("starts from the beginning" if moment == "the command" else "resuming checkpoint")
    ended = run.terminate()
    assert ended.status == names.EXIT_CHECKPOINTED, ended.err
    assert machine.states()[0] == "resumable"


def test_checkpoint_saves_the_job_and_ends_its_run(machine: Machine) -> None:
    run = machine.start("ending", 0)
    saved = machine.crikpy("checkpoint", NAME)
    assert saved.status == 0, saved.err
    assert "stored, stood still" in saved.out
    assert run.wait().status == names.EXIT_CHECKPOINTED
    assert machine.states() == ["resumable"]


def test_checkpoint_leave_running_saves_the_job_and_lets_it_run_on(machine: Machine) -> None:
    run = machine.start("ending", 5)
    saved = machine.crikpy("checkpoint", NAME, "--leave-running", "--output", "json")
    assert saved.status == 0, saved.err
    facts = json.loads(saved.out)
    assert facts["image_bytes"] > facts["stored_bytes"] > 0
    run.prove()
    assert machine.states() == ["resumable"]
    assert run.finish().status == 5


def test_checkpoint_of_a_job_that_does_not_run_here_says_so(machine: Machine) -> None:
    machine.crikpy("checkpoint", NAME).require(NoSuchJobError, NAME)


def test_a_second_checkpoint_stores_only_what_changed(machine: Machine) -> None:
    run = machine.start("memory", 16, 0)
    sizes = [checkpoint_bytes(machine) for _ in range(2)]
    assert sizes[1] < sizes[0] / 4
    assert run.finish().status == 0


def checkpoint_bytes(machine: Machine) -> int:
    """Save the job and return the bytes that this stored."""
    saved: Ended = machine.crikpy("checkpoint", NAME, "--leave-running", "--output", "json")
    return int(json.loads(saved.out)["stored_bytes"])
