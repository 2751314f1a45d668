"""Whatever goes wrong before the manifest stands, the job runs on, and the error says what it was."""

from __future__ import annotations

import errno
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from crikpy.aio.clock import Deadline
from crikpy.errors import (
    CrikpyError,
    DeadlineError,
    DumpError,
    LauncherError,
    StoreFullError,
    StoreUnavailableError,
)
from crikpy.flows.checkpointing import checkpoint
from crikpy.flows.members import CheckpointOrder, Member
from crikpy.model.manifest import Manifest
from crikpy.model.notices import Trigger
from crikpy.settings import MIB, StoreSettings
from crikpy.store.local import LocalStore
from crikpy.store.s3 import S3Store
from tests.fakes.s3_server import REGION, S3Server
from tests.integration.capsules import PATIENCE_S, JobCapsule, until
from tests.integration.moving import Bench, Story
from tests.integration.processes import Agent, criu_of, signal_criu
from tests.integration.stores import WatchedStore

pytestmark = pytest.mark.criu


_MEMORY_MIB = 224
"""What a transfer may use here; the job has more than it can take in before something is stored."""


@pytest.fixture
def job(bench: Bench) -> JobCapsule:
    """A job whose dump cannot end before most of it is stored."""
    return _bounded(bench)


def _bounded(bench: Bench) -> JobCapsule:
    bound = replace(bench.settings.store, memory_bytes=_MEMORY_MIB * MIB)
    bench.settings = replace(bench.settings, store=bound)
    return bench.begin("memory", 72, 1)


def _runs_on(bench: Bench, job: JobCapsule) -> None:
    """Prove that a job whose checkpoint failed has lost nothing and can still be saved."""
    job.prove()
    assert bench.checkpoints.newest_resumable() is None
    moved = bench.move(job)
    moved.prove()
    assert moved.finish() == 0


@pytest.fixture
def little_room(folder: Path) -> Iterator[Path]:
    """A directory on a disk of 8 MiB."""
    place = folder / "little"
    place.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place), check=True)
    yield place
    subprocess.run(("umount", place), check=True)


def test_a_full_disk(bench: Bench, job: JobCapsule, little_room: Path) -> None:
    with pytest.raises(StoreFullError) as caught:
        bench.save(job, store=LocalStore(little_room / "store"))
    _tells_what_criu_said(caught.value)
    _runs_on(bench, job)


def test_a_killed_criu(bench: Bench, job: JobCapsule) -> None:
    killed = threading.Event()

    def kill() -> None:
        if not killed.is_set():
            killed.set()
            signal_criu(job, signal.SIGKILL)

    with pytest.raises(DumpError, match="killed by SIGKILL") as caught:
        bench.save(job, store=WatchedStore(bench.store, before_chunk=kill))
    assert killed.is_set()
    _tells_what_criu_said(caught.value)
    _runs_on(bench, job)


@pytest.mark.slow
def test_a_criu_that_hangs(plain_bench: Bench) -> None:
    bench, job = plain_bench, _bounded(plain_bench)
    stopped = threading.Event()

    def stop() -> None:
        if not stopped.is_set():
            stopped.set()
            signal_criu(job, signal.SIGSTOP)

    with pytest.raises(DeadlineError):
        bench.save(job, store=WatchedStore(bench.store, before_chunk=stop), within_s=3)
    assert stopped.is_set()
    assert criu_of(job, patience_s=0) == 0
    _runs_on(bench, job)


def test_a_store_that_hangs(bench: Bench, job: JobCapsule) -> None:
    released = threading.Event()
    try:
        with pytest.raises(DeadlineError):
            bench.save(job, store=WatchedStore(bench.store, before_chunk=released.wait), within_s=3)
    finally:
        released.set()
    _runs_on(bench, job)


def test_a_store_that_fails_at_the_commit(bench: Bench, job: JobCapsule) -> None:
    def fail() -> None:
        raise StoreUnavailableError("the store went away")

    story = Story()
    with pytest.raises(StoreUnavailableError):
        bench.save(job, story, store=WatchedStore(bench.store, before_manifest=fail))
    assert story.events[-1] == "released"
    _runs_on(bench, job)


def test_a_store_that_cannot_be_reached(plain_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job = plain_bench.begin("memory", 1, 1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = StoreSettings(endpoint=f"http://127.0.0.1:{port}", region=REGION, path_style=True)
    story = Story()
    with pytest.raises(StoreUnavailableError):
        plain_bench.save(job, story, store=S3Store("bucket", "", settings), within_s=5)
    assert story.events == [], "the job never stood still"
    _runs_on(plain_bench, job)


@pytest.mark.s3
@pytest.mark.slow
def test_a_store_that_dies_in_the_middle(
    plain_bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _bounded(plain_bench)
    with S3Server(folder / "s3") as server:
        server.create_bucket("jobs")
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        settings = StoreSettings(endpoint=server.endpoint, region=REGION, path_style=True)
        store = WatchedStore(S3Store("jobs", "", settings), before_chunk=server.kill)
        with pytest.raises((StoreUnavailableError, DeadlineError)) as caught:
            plain_bench.save(job, store=store, within_s=6)
    _tells_what_criu_said(caught.value)
    _runs_on(plain_bench, job)


@pytest.mark.parametrize("moment", ["chunk", "frozen", "streamed"])
def test_an_agent_that_is_killed(bench: Bench, job: JobCapsule, moment: str) -> None:
    with Agent(bench, job, "save", pause=moment, memory=f"{_MEMORY_MIB}Mi") as agent:
        agent.await_pause()
        if moment == "chunk":
            assert criu_of(job)
        else:
            assert [psutil.Process(pid).status() for pid in job.members()] == [psutil.STATUS_STOPPED]
        agent.kill()
    until(lambda: criu_of(job, patience_s=0) == 0, "the end of the orphaned CRIU")
    _runs_on(bench, job)


def test_an_agent_that_is_killed_after_the_commit_leaves_a_running_job(bench: Bench, job: JobCapsule) -> None:
    with Agent(bench, job, "save", pause="committed", memory=f"{_MEMORY_MIB}Mi") as agent:
        agent.await_pause()
        assert [psutil.Process(pid).status() for pid in job.members()] == [psutil.STATUS_STOPPED]
        agent.kill()
    job.prove()
    assert bench.checkpoints.newest_resumable() is not None
    assert job.finish() == 0


def test_a_second_checkpoint_at_the_same_time_is_refused_and_harms_nothing(bench: Bench, job: JobCapsule) -> None:
    refusals: list[LauncherError] = []

    def save_too() -> None:
        with pytest.raises(LauncherError) as caught:
            bench.save(job)
        refusals.append(caught.value)

    manifest = bench.save(job, Story(frozen=save_too))
    assert "another" in str(refusals[0])
    assert [summary.id for summary in bench.checkpoints.list()] == [manifest.checkpoint], "it left an announcement"
    assert job.wait() == 75
    moved = bench.resume(manifest)
    moved.prove()


def test_when_what_follows_the_commit_fails_the_job_runs_on_and_nobody_resumes_it(
    bench: Bench, job: JobCapsule
) -> None:
    def fail(manifest: Manifest) -> None:
        raise OSError(errno.ENOSPC, "no room for the mark")

    member = Member(capsule=job.capsule, workload=bench.workload)
    order = CheckpointOrder(trigger=Trigger.MANUAL, deadline=Deadline.after(PATIENCE_S), leave_running=False)
    story = Story()
    with pytest.raises(OSError, match="no room for the mark"):
        checkpoint(member, bench.store, order, bench.settings, story, on_committed=fail)
    assert story.events[-2:] == ["committed", "released"]
    (summary,) = bench.checkpoints.list()
    assert summary.quarantine is not None
    assert "no room for the mark" in summary.quarantine.reason
    _runs_on(bench, job)


def _tells_what_criu_said(fault: CrikpyError) -> None:
    assert fault.detail, "the end of CRIU's log is missing"
