"""Capsules that give their launcher's PID away while we work, and jobs with names that are no text."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from crikpy.aio.clock import Deadline
from crikpy.errors import CrikpyError, LauncherError
from crikpy.flows.members import Member
from crikpy.flows.restoring import Waiting, restore
from crikpy.store.records import Claim
from tests.capsule.hostile import take_pid
from tests.capsule.namespaces import until
from tests.integration.capsules import PATIENCE_S, JobCapsule
from tests.integration.moving import Bench, Story

pytestmark = pytest.mark.criu


def test_a_job_whose_names_are_no_text_is_moved(plain_bench: Bench) -> None:
    kept = plain_bench.folder / "kept"
    kept.mkdir()
    job = plain_bench.begin("strange", kept)
    job.prove()
    manifest = plain_bench.save(job)
    (process,) = manifest.job.processes
    assert process.command == "job \ufffd\ufffd[2J\ufffdx"
    moved = plain_bench.resume(manifest)
    moved.prove()
    assert moved.finish() == 0, moved.stderr.text()


@contextmanager
def _stranger() -> Iterator[tuple[Callable[[JobCapsule], None], list[subprocess.Popen[bytes]]]]:
    """Lend what ends a launcher and has its PID given to a process of the machine, which must live on unharmed."""
    made: list[subprocess.Popen[bytes]] = []

    def replace(job: JobCapsule) -> None:
        os.kill(job.launcher_pid, signal.SIGKILL)
        until(lambda: not psutil.pid_exists(job.launcher_pid), "a free PID")
        made.append(take_pid(job.launcher_pid))

    try:
        yield replace, made
        assert made, "the launcher has kept its PID"
        assert psutil.Process(made[0].pid).status() == psutil.STATUS_SLEEPING
    finally:
        for process in made:
            process.kill()
            process.wait()


def test_a_stopped_capsule_that_ends_does_not_have_another_process_saved_in_its_place(bench: Bench) -> None:
    job = bench.begin("family", 2)
    with _stranger() as (replace, _):
        with pytest.raises(CrikpyError):
            bench.save(job, Story(frozen=lambda: replace(job)))
        assert not bench.checkpoints.list(bench.checkpoints.complete())


def test_a_capsule_that_ends_while_it_is_restored_has_nothing_restored_elsewhere(bench: Bench) -> None:
    saved = bench.begin("files")
    manifest = bench.save(saved)
    assert manifest.archives
    capsule = bench.vacant()
    inhabitants = set(_jobs_of(bench))
    assert inhabitants, "the saved job stands still"
    with _stranger() as (replace, made), contextlib.suppress(LauncherError), capsule.held() as launcher:
        waiting = Waiting(
            member=Member(capsule=capsule.capsule, workload=bench.workload), launcher=launcher, manifest=manifest
        )
        story = Story(claimed=lambda: replace(capsule))
        with pytest.raises(CrikpyError):
            restore([waiting], bench.store, Claim.ours(), Deadline.after(PATIENCE_S), bench.settings, story)
        assert not set(_jobs_of(bench)) - inhabitants
        assert made[0].poll() is None


def _jobs_of(bench: Bench) -> list[int]:
    """Return the processes of the bench's jobs; others may test beside us."""
    return [pid for pid in psutil.pids() if _is_a_job(pid, str(bench.folder).encode())]


def _is_a_job(pid: int, folder: bytes) -> bool:
    try:
        known = Path(f"/proc/{pid}/environ").read_bytes()
        return folder in known and b"tests.jobs" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
