"""Stores that cannot be used, before a job begins and while it runs: the error says why, and the job runs on."""

from __future__ import annotations

import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from crikpy import names
from crikpy.errors import (
    NoSuchBucketError,
    StoreForbiddenError,
    StoreFullError,
    StoreUnavailableError,
    UsageError,
)
from tests.cli.gate import Gate
from tests.cli.machines import NAME, Machine
from tests.fakes.s3_server import S3Server

pytestmark = pytest.mark.criu


@pytest.mark.parametrize("url", ["gs://bucket/x", "relative/path", "s3:///prefix", "s3://user@bucket", ""])
def test_an_unknown_url_is_refused(machine: Machine, url: str) -> None:
    machine.store = url
    ended = machine.run("echo", "begun").wait()
    ended.require(UsageError, repr(url))
    assert ended.out == ""


def test_a_directory_whose_parent_is_missing_is_refused(machine: Machine) -> None:
    machine.store = f"{machine.store}/no/such"
    machine.run("true").wait().require(NoSuchBucketError, machine.store)


@pytest.mark.s3
def test_a_missing_bucket_is_refused(s3_machine: Machine) -> None:
    s3_machine.store = "s3://no-such-bucket/x"
    s3_machine.run("true").wait().require(NoSuchBucketError, "s3://no-such-bucket/x")
    s3_machine.of_store("list").require(NoSuchBucketError, "s3://no-such-bucket/x")


@pytest.mark.s3
def test_credentials_that_may_only_read_are_refused(s3_machine: Machine, s3_server: S3Server) -> None:
    s3_machine.environment |= {
        "AWS_ACCESS_KEY_ID": s3_server.reader_access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.reader_secret_key,
    }
    ended = s3_machine.run("echo", "begun").wait()
    ended.require(StoreForbiddenError, s3_machine.store, "AccessDenied")
    assert ended.out == ""


@pytest.mark.s3
def test_a_wrong_secret_key_is_refused_and_never_shown(s3_machine: Machine) -> None:
    wrong = secrets.token_urlsafe(30)
    s3_machine.environment["AWS_SECRET_ACCESS_KEY"] = wrong
    for ended in (s3_machine.run("echo", "begun").wait(), s3_machine.of_store("list")):
        ended.require(StoreForbiddenError, s3_machine.store, "SignatureDoesNotMatch")
        assert ended.out == ""
        assert wrong not in ended.err


@pytest.mark.s3
def test_no_credentials_are_said_to_be_missing(s3_machine: Machine) -> None:
    del s3_machine.environment["AWS_ACCESS_KEY_ID"], s3_machine.environment["AWS_SECRET_ACCESS_KEY"]
    s3_machine.of_store("list").require(StoreForbiddenError, "no credentials")


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of two mebibytes, which must be free when it goes: ask for it before the machine."""
    with tempfile.TemporaryDirectory(prefix="crikpy-") as folder:
        subprocess.run(("mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "small", folder), check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(("umount", folder), check=True)


def test_a_full_disk_leaves_the_job_running(small_disk: Path, machine: Machine) -> None:
    machine.store = str(small_disk / "store")
    run = machine.start("memory", 8, 0)
    machine.crikpy("checkpoint", NAME).require(StoreFullError, "No space left on device")
    run.prove()
    assert machine.states() == []
    assert run.finish().status == 0


def test_a_full_disk_at_sigterm_leaves_the_job_running(small_disk: Path, machine: Machine) -> None:
    machine.store = str(small_disk / "store")
    run = machine.start("memory", 8, 0)
    run.signal(signal.SIGTERM)
    run.hear("the job was not saved and runs on: ")
    assert "No space left on device" in run.stderr.text()
    run.prove()
    assert run.finish().status == 0


@pytest.mark.s3
def test_a_store_out_of_reach_leaves_the_job_running_and_is_used_again_when_it_is_back(
    s3_machine: Machine,
) -> None:
    machine = s3_machine
    with Gate(machine.environment["CRIKPY_STORE_ENDPOINT"]) as gate:
        machine.environment |= {"CRIKPY_STORE_ENDPOINT": gate.endpoint, "CRIKPY_RUN_MANUAL_DEADLINE_S": "4"}
        run = machine.start("ending", 0)
        gate.shut()
        machine.crikpy("checkpoint", NAME).require(StoreUnavailableError, machine.store, "cannot be reached")
        run.prove()
        run.signal(signal.SIGTERM)
        run.hear("the job was not saved and runs on: ")
        assert f"{machine.store} cannot be reached" in run.stderr.text()
        run.prove()
        gate.open()
        saved = machine.crikpy("checkpoint", NAME, changes={"CRIKPY_RUN_MANUAL_DEADLINE_S": "60"})
        assert saved.status == 0, saved.err
        assert run.wait().status == names.EXIT_CHECKPOINTED
        assert machine.states() == ["resumable"]
