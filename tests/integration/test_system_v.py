"""System V shared memory, semaphores and queues move with a job that has them to itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from crikpy.aio.children import kill_tree
from crikpy.capsule import systemv
from crikpy.errors import UnsupportedJobError
from tests.integration.capsules import JobCapsule
from tests.integration.moving import Bench

pytestmark = pytest.mark.criu

_SEMAPHORES = """
import ctypes, time
libc = ctypes.CDLL(None)
libc.semctl(libc.semget(0, 3, 0o1600), 1, 16, 42)
print(flush=True)
time.sleep(1000)
"""
_SLEEP = ("sh", "-c", "echo; exec sleep 1000")


@contextmanager
def _beside(job: JobCapsule, *words: str, before: Sequence[str] = ()) -> Iterator[None]:
    """Run a program in the IPC namespace of a capsule and outside of all else of it, from its first word on."""
    enter = ("nsenter", f"--ipc=/proc/{job.launcher_pid}/ns/ipc", "--")
    with subprocess.Popen((*before, *enter, *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as beside:
        try:
            assert beside.stdout is not None
            beside.stdout.readline()
            yield
        finally:
            kill_tree(beside.pid)


def _space(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/ipc")


@pytest.mark.vm
def test_system_v_objects_move_with_the_job(bench: Bench) -> None:
    job = bench.begin("sysv")
    for _ in range(3):
        job.prove()
        job = bench.move(job)
    job.prove()
    assert job.finish() == 0, job.stderr.text()


def test_they_are_refused_where_another_container_could_have_a_share_in_them(container_bench: Bench) -> None:
    job = container_bench.begin("sysv")
    with (
        _beside(job, *_SLEEP),
        pytest.raises(
            UnsupportedJobError, match=r"System V .*semaphores.* where others are too, such as s(h|leep):"
        ),
    ):
        container_bench.save(job)
    job.prove()
    container_bench.move(job).prove()


def test_a_process_that_the_job_has_started_since_they_were_listed_is_no_other(container_bench: Bench) -> None:
    job = container_bench.begin("sysv")
    listed = {job.launcher_pid}
    (root, *_) = job.members()
    assert systemv.fate_of(root, job.launcher_pid, listed) == systemv.Fate(travels=True)


def test_a_job_that_has_none_keeps_its_namespace_and_takes_nothing_of_another_containers(
    container_bench: Bench,
) -> None:
    job = container_bench.begin("family", 2)
    with _beside(job, sys.executable, "-ISc", _SEMAPHORES):
        manifest = container_bench.save(job)
    assert not [image.name for image in manifest.images if image.name.startswith("ipcns")]
    moved = container_bench.resume(manifest)
    moved.prove()
    assert {_space(pid) for pid in moved.members()} == {_space(moved.launcher_pid)}


def test_the_first_process_of_a_sandbox_does_not_count_as_another_container(
    container_bench: Bench, folder: Path
) -> None:
    (folder / "pause").symlink_to("/bin/sh")
    job = container_bench.begin("sysv")
    pause = (str(folder / "pause"), "-c", "echo; read forever")
    with _beside(job, *pause, before=("unshare", "--pid", "--fork")):
        container_bench.move(job).prove()


def test_a_queue_of_posix_is_refused_with_its_name(bench: Bench) -> None:
    job = bench.begin("awkward", "queue", "/")
    with pytest.raises(UnsupportedJobError, match="POSIX message queue /crikpy-test"):
        bench.save(job)
    job.prove()
