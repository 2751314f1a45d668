"""The name of a job on plain machines, when clocks are wrong, and when a machine comes back that was given up."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from crikpy import names
from crikpy.errors import JobRunningError
from crikpy.model.workload import Workload
from crikpy.store.layout import holder_key
from crikpy.store.local import LocalStore
from crikpy.store.records import Holder
from tests.chaos.clocks import WallClock
from tests.chaos.recording import Record
from tests.cli.machines import NAME, Machine, Run
from tests.integration.capsules import job_words, until

pytestmark = [pytest.mark.criu, pytest.mark.chaos]

_JOB = job_words("ending", 6)
_BRIEF = {"CRIKPY_RUN_LEASE_S": "1.5"}


def holder(machine: Machine) -> Holder:
    """Return what the store says of the name."""
    cluster, namespace = names.PLAIN_GROUP
    key = holder_key(Workload(cluster=cluster, namespace=namespace, name=NAME))
    return msgspec.json.decode(LocalStore(Path(machine.store)).get(key), type=Holder)


def await_beats(machine: Machine, count: int) -> None:
    """Wait until the name has been renewed so many times."""
    first = holder(machine).beat
    until(lambda: holder(machine).beat >= first + count, "renewals")


def start(machine: Machine, changes: dict[str, str]) -> Run:
    """Begin the job and wait until it is ready."""
    run = machine.run(*_JOB, changes=_BRIEF | changes)
    run.expect("ready")
    return run


@pytest.mark.parametrize("hours", [5, -5])
def test_when_the_holders_clock_jumps(
    machine: Machine, other: Machine, folder: Path, record: Record, hours: int
) -> None:
    clock = WallClock(folder)
    run = start(machine, clock.environment)
    clock.jump(hours)
    await_beats(machine, 2)
    other.run(*_JOB).wait().require(JobRunningError, NAME)
    run.prove()
    assert run.finish().status == 6
    record("name", f"the holder's wall clock jumps {hours:+} hours", "held on, and refused to another")


@pytest.mark.parametrize("hours", [5, -5])
def test_when_the_clock_of_somebody_else_is_wrong(
    machine: Machine, other: Machine, folder: Path, record: Record, hours: int
) -> None:
    clock = WallClock(folder)
    clock.jump(hours)
    run = start(machine, {})
    other.run(*_JOB, changes=clock.environment).wait().require(JobRunningError, NAME)
    run.prove()
    assert run.finish().status == 6
    record("name", f"the wall clock of another is wrong by {hours:+} hours", "held on, and refused to another")


@contextlib.contextmanager
def asleep(machine: Machine) -> Iterator[None]:
    """Have everything on a machine stand still, as when it hibernates."""
    stopped = machine.leftovers()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def resumed(machine: Machine) -> Run:
    """Have the job go on on a machine, once its name is free."""
    found: list[Run] = []

    def goes_on() -> bool:
        run = machine.run(*_JOB, changes=_BRIEF)
        until(lambda: "goes on" in run.stderr.text() or not run.running(), "the next run")
        if run.running():
            found.append(run)
        return run.running()

    until(goes_on, "the end of the hold on the name")
    return found[0]


def test_when_a_machine_comes_back_whose_job_was_resumed_elsewhere(
    machine: Machine, other: Machine, record: Record
) -> None:
    first = start(machine, {})
    assert machine.crikpy("checkpoint", NAME, "--leave-running").status == 0
    with asleep(machine):
        second = resumed(other)
    first.hear("another machine has taken this job's name")
    machine.crikpy("checkpoint", NAME).require(JobRunningError, NAME)
    machine.crikpy("checkpoint", NAME, "--leave-running").require(JobRunningError, NAME)
    first.signal(signal.SIGTERM)
    first.hear("was not saved and runs on")
    first.prove()
    assert machine.states() == ["resumed"]
    assert second.terminate().status == names.EXIT_CHECKPOINTED
    assert first.finish().status == 6
    third = resumed(other)
    third.prove()
    assert third.finish().status == 6
    assert other.checkpoints().newest_resumable() is None
    record(
        "name",
        "a machine comes back after its job was resumed elsewhere",
        "its job runs on there but is not saved any more; the one that was resumed keeps the name, moves and ends",
    )
