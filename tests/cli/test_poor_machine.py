"""Machines on which nothing can be saved, and commands that cannot be run: each is told what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crikpy import names
from crikpy.errors import CapsuleError, CriuMissingError, NodeError, NotRootError, SettingsError, UsageError
from tests.cli.machines import NAME, PROGRAM, Machine

pytestmark = pytest.mark.criu

NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    # The interpreter may lie where nobody else looks.
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
    str(PROGRAM),
)


@pytest.fixture
def old_criu(folder: Path) -> Path:
    """A bundle whose CRIU says that it is 3.17."""
    bundle = folder / "old"
    loader = bundle / "lib" / names.BUNDLE_LOADER
    loader.parent.mkdir(parents=True)
    (bundle / "criu").touch()
    loader.write_text("#!/bin/sh\necho 'Version: 3.17'\n")
    loader.chmod(0o755)
    return bundle


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--name", NAME, "--store", "/tmp", "--", "true"),
        ("restore", NAME, "--store", "/tmp"),
        ("checkpoint", NAME),
    ],
)
def test_only_root_may_run_restore_and_checkpoint(machine: Machine, words: tuple[str, ...]) -> None:
    ended = machine.call((*NOBODY, *words))
    ended.require(NotRootError, "only root")
    assert ended.out == ""


def test_check_names_what_keeps_a_user_from_saving_jobs(machine: Machine) -> None:
    ended = machine.call((*NOBODY, "check", "--output=json"))
    assert ended.status == NodeError.exit_code
    facts = json.loads(ended.out)
    assert facts["able"] is False
    failed = {
        finding["name"]: finding["remedy"] for finding in facts["findings"] if finding["verdict"] == "failed"
    }
    assert failed["root"]


def test_check_says_that_this_machine_can_save_jobs(machine: Machine) -> None:
    ended = machine.crikpy("check")
    assert ended.status == 0, ended.out
    assert ended.out.endswith("This node can save jobs.\n")


def test_check_names_a_missing_bundle(machine: Machine) -> None:
    ended = machine.crikpy("check", changes={"CRIKPY_CRIU_BUNDLE": "/nowhere"})
    assert ended.status == NodeError.exit_code
    assert "no CRIU bundle: /nowhere/criu" in ended.out
    assert "hack/criu-bundle" in ended.out


def test_no_job_is_begun_without_criu(machine: Machine) -> None:
    ended = machine.run("echo", "begun", changes={"CRIKPY_CRIU_BUNDLE": "/nowhere"}).wait()
    ended.require(CriuMissingError, "no CRIU bundle", "/nowhere")
    assert ended.out == ""


def test_no_job_is_begun_with_a_criu_that_is_too_old(machine: Machine, old_criu: Path) -> None:
    ended = machine.run("echo", "begun", changes={"CRIKPY_CRIU_BUNDLE": str(old_criu)}).wait()
    ended.require(CriuMissingError, "3.17")
    assert ended.out == ""


def test_a_checkpoint_is_kept_where_there_is_no_criu(heir: Machine) -> None:
    ended = heir.run("echo", "begun", changes={"CRIKPY_CRIU_BUNDLE": "/nowhere"}).wait()
    ended.require(CriuMissingError, "no CRIU bundle")
    assert heir.states() == ["resumable"]


def test_a_checkpoint_without_criu_leaves_the_job_alone(machine: Machine, old_criu: Path) -> None:
    run = machine.start("ending", 3)
    ended = machine.crikpy("checkpoint", NAME, changes={"CRIKPY_CRIU_BUNDLE": str(old_criu)})
    ended.require(CriuMissingError, "3.17")
    run.prove()
    assert run.finish().status == 3


def test_no_job_is_begun_without_a_launcher(machine: Machine) -> None:
    ended = machine.run("echo", "begun", changes={"CRIKPY_CRIU_LAUNCHER": "/nowhere/launch"}).wait()
    ended.require(CapsuleError, "no launcher at /nowhere/launch")
    assert ended.out == ""


def test_a_command_that_does_not_exist_ends_with_127_as_in_a_shell(machine: Machine) -> None:
    ended = machine.run("no-such-command").wait()
    assert ended.status == 127
    assert "no-such-command: No such file or directory" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("command", ["/etc/passwd", "/"])
def test_a_command_that_cannot_be_executed_ends_with_126_as_in_a_shell(machine: Machine, command: str) -> None:
    ended = machine.run(command).wait()
    assert ended.status == 126
    assert f"{command}: Permission denied" in ended.err
    assert "Traceback" not in ended.err


def test_a_run_without_a_command_is_refused(machine: Machine) -> None:
    machine.run().wait().require(UsageError, "no command")


def test_all_bad_settings_are_named_at_once(machine: Machine) -> None:
    changes = {"CRIKPY_RUN_LEASE_S": "soon", "CRIKPY_STORE_NOSUCH": "1"}
    ended = machine.crikpy("check", changes=changes)
    ended.require(SettingsError, "CRIKPY_RUN_LEASE_S='soon'", "CRIKPY_STORE_NOSUCH: no such setting")


def test_a_user_may_look_into_a_store_that_it_may_read(saved: Machine) -> None:
    listed = saved.call((*NOBODY, "list", "--store", saved.store))
    assert listed.status == 0, listed.err
    assert saved.newest() in listed.out
