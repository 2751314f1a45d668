"""Signals to `crikpy run`: which ones mean the job, and what a job does that cannot be saved."""

from __future__ import annotations

import signal
import sys

import pytest

from crikpy import names
from crikpy.errors import UnsupportedJobError
from tests.cli.machines import NAME, Machine
from tests.cli.unsavable import make_ring
from tests.integration.capsules import job_words

pytestmark = pytest.mark.criu

UNSAVABLE = [("terminal", "terminal"), ("io_uring", "uses io_uring")]


def words(how: str) -> tuple[str, ...]:
    if how == "io_uring":
        try:
            make_ring()
        except OSError as fault:
            pytest.skip(f"this kernel gives out no io_uring: {fault}")
    return (sys.executable, "-m", "tests.cli.unsavable", how)


def test_sigint_goes_to_the_job(machine: Machine) -> None:
    run = machine.run(sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)")
    run.expect("ready")
    run.signal(signal.SIGINT)
    ended = run.wait()
    assert ended.status == 128 + signal.SIGINT
    assert "KeyboardInterrupt" in ended.err
    assert machine.states() == []


@pytest.mark.parametrize(("how", "reason"), UNSAVABLE)
def test_a_job_that_cannot_be_saved_runs_on_and_a_second_sigterm_is_its_own(
    machine: Machine, how: str, reason: str
) -> None:
    run = machine.run(*words(how))
    run.expect("ready")
    run.signal(signal.SIGTERM)
    run.hear("the job was not saved and runs on: the job cannot be saved: ")
    assert reason in run.stderr.text()
    run.prove()
    assert run.terminate().status == 128 + signal.SIGTERM


@pytest.mark.parametrize(("how", "reason"), UNSAVABLE)
def test_checkpoint_refuses_a_job_that_cannot_be_saved(machine: Machine, how: str, reason: str) -> None:
    run = machine.run(*words(how))
    run.expect("ready")
    machine.crikpy("checkpoint", NAME).require(UnsupportedJobError, reason)
    run.prove()
    assert machine.states() == []
    assert run.finish().status == 0


def test_the_run_on_a_terminal_gives_its_job_none(machine: Machine) -> None:
    run = machine.begin_on_terminal("run", "--name", NAME, "--store", machine.store, "--", *job_words("ending", 0))
    run.expect("ready")
    assert machine.crikpy("checkpoint", NAME).status == 0
    assert run.wait().status == names.EXIT_CHECKPOINTED
