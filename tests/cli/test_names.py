"""A name is one job: who holds it, what another one is told, and what becomes of a job whose `run` is killed."""

from __future__ import annotations

import os
import signal

import pytest

from crikpy import names
from crikpy.errors import JobRunningError, UsageError
from tests.cli.machines import NAME, Machine
from tests.integration.capsules import job_words, until
from tests.jobs import proving

pytestmark = pytest.mark.criu

JOB = job_words("ending", 6)


def test_a_second_run_of_the_name_on_the_machine_is_told_so(machine: Machine) -> None:
    run = machine.start("ending", 0)
    machine.run(*JOB).wait().require(JobRunningError, NAME, "runs on this machine, its launcher is process ")
    run.prove()
    assert run.finish().status == 0


def test_a_second_run_of_the_name_on_another_machine_is_told_who_holds_it(
    machine: Machine, other: Machine
) -> None:
    run = machine.start("ending", 0)
    other.run(*JOB).wait().require(JobRunningError, NAME, os.uname().nodename, f"PID {run.pid}")
    run.prove()
    assert run.finish().status == 0
    assert other.start("ending", 0).finish().status == 0


def test_of_many_runs_of_the_name_at_once_one_wins(machine: Machine, other: Machine) -> None:
    runs = [place.run(*JOB) for place in (machine, other) * 3]
    until(lambda: sum(run.running() for run in runs) <= 1, "the end of all but one")
    winners = [run for run in runs if run.running()]
    assert len(winners) == 1, [run.wait() for run in runs]
    winners[0].expect("ready")
    winners[0].prove()
    for run in runs:
        if run is not winners[0]:
            run.wait().require(JobRunningError, NAME)
    assert winners[0].finish().status == 6


def test_jobs_of_other_names_run_side_by_side(machine: Machine) -> None:
    first, second = (machine.run(*JOB, name=name) for name in ("one", "two"))
    for run in (first, second):
        run.expect("ready")
    assert [run.finish().status for run in (first, second)] == [6, 6]


def test_a_job_outlives_its_killed_run_and_can_still_be_saved(machine: Machine) -> None:
    run = machine.run(*JOB, changes={"CRIKPY_RUN_LEASE_S": "0.5"})
    run.expect("ready")
    run.kill()
    machine.run(*JOB).wait().require(JobRunningError, NAME, "runs on this machine")
    [job] = [pid for pid, words in machine.leftovers().items() if words == " ".join(JOB)]
    os.kill(job, proving.ASK)
    run.expect("proved ")
    saved = machine.crikpy("checkpoint", NAME)
    assert saved.status == 0, saved.err
    until(lambda: not machine.leftovers(), "the end of the saved job")

    def free() -> bool:
        later = machine.run("false")
        until(lambda: "goes on" in later.stderr.text() or not later.running(), "the next run")
        if later.running():
            later.prove()
            assert later.finish().status == 6
            return True
        later.wait().require(JobRunningError, NAME, os.uname().nodename)
        return False

    until(free, "the killed run's hold on the name to lapse")


def test_a_saved_job_of_a_killed_run_ends_with_the_status_of_a_move(machine: Machine) -> None:
    run = machine.start("ending", 6)
    run.signal(signal.SIGTERM)
    assert run.wait().status == names.EXIT_CHECKPOINTED
    assert not machine.leftovers()
    assert not any(machine.run_dir.iterdir())


@pytest.mark.parametrize("name", ["a/b", "../up", ".hidden", "", "a b", "x" * 300])
def test_a_name_that_cannot_be_a_folder_is_refused(machine: Machine, name: str) -> None:
    ended = machine.crikpy("run", "--name", name, "--store", machine.store, "--", "true")
    ended.require(UsageError, f"name {name!r}", "letters, digits")
    assert not machine.run_dir.exists()


@pytest.mark.parametrize("command", ["restore", "show", "verify"])
def test_every_command_refuses_a_name_that_leads_elsewhere(machine: Machine, command: str) -> None:
    machine.of_store(command, "../up").require(UsageError, "name '../up'")


def test_a_group_that_cannot_be_a_folder_is_refused(machine: Machine) -> None:
    machine.of_store("show", NAME, "--namespace", "a/b").require(UsageError, "namespace 'a/b'")
