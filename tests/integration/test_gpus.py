"""Jobs on GPUs: what they have there is in their memory when CRIU comes, and back on every way out."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from crikpy import names
from crikpy.aio.clock import Deadline
from crikpy.errors import (
    DeadlineError,
    DumpError,
    GpuBusyError,
    GpuError,
    GpuStateLostError,
    IncompatibleError,
    StoreFullError,
    UnsupportedJobError,
)
from crikpy.model.capsule import JobPhase
from crikpy.settings import MIB
from tests.integration.capsules import PATIENCE_S, JobCapsule, until
from tests.integration.gpus import UUID, GpuNode, actions
from tests.integration.moving import Bench, Story
from tests.integration.pods import Pod
from tests.integration.processes import Agent, ghost_of
from tests.integration.stores import WatchedStore

pytestmark = pytest.mark.criu

TAKEN = ["lock", "checkpoint"]
GIVEN_BACK = ["restore", "unlock"]

TRACER = """\
import ctypes, os, sys, time
for pid in map(int, sys.argv[1:]):
    for request in 0x4206, 0x4207:
        assert ctypes.CDLL(None).ptrace(request, pid, None, None) == 0
    os.waitpid(pid, 0x40000000)
print(flush=True)
time.sleep(600)
"""
"""Holds processes, as CRIU does, until it is killed."""


@pytest.fixture
def node(folder: Path) -> GpuNode:
    return GpuNode(folder / "node")


@pytest.fixture
def gpu_bench(container_bench: Bench, node: GpuNode) -> Bench:
    node.equip(container_bench)
    return container_bench


@pytest.fixture
def job(gpu_bench: Bench, node: GpuNode) -> JobCapsule:
    begun = gpu_bench.begin("gpus", 2)
    begun.prove()
    return begun


def test_a_job_moves_with_what_it_has_on_its_gpus(
    gpu_bench: Bench, job: JobCapsule, node: GpuNode, folder: Path
) -> None:
    manifest = gpu_bench.save(job)
    assert job.wait() == names.EXIT_CHECKPOINTED
    calls = node.calls()
    assert actions(calls) == TAKEN, "all are locked before the first is taken, and nothing is given back"
    assert not node.guards()
    assert len(calls) == 4
    assert len(manifest.job.cuda) == 2
    assert manifest.compatibility.gpus.models == ("NVIDIA Test",)
    there = GpuNode(folder / "there", first_uuid=5)
    there.equip(gpu_bench)
    moved = gpu_bench.resume(manifest)
    calls = there.calls()
    assert actions(calls) == GIVEN_BACK
    assert calls[0].endswith(f"{UUID.format(1)}={UUID.format(5)}"), "it is told which GPU takes whose place"
    moved.prove()
    moved = gpu_bench.move(moved)
    moved.prove()
    assert moved.finish() == 0


def test_a_job_that_runs_on_has_its_gpus_again(gpu_bench: Bench, job: JobCapsule, node: GpuNode) -> None:
    gpu_bench.save(job, leave_running=True)
    assert actions(node.calls()) == TAKEN + GIVEN_BACK
    job.prove()
    moved = gpu_bench.move(job)
    moved.prove()
    assert moved.finish() == 0


def test_the_containers_of_a_pod_leave_and_get_their_gpus_together(container_pod: Pod, node: GpuNode) -> None:
    pod = container_pod
    for bench in pod.benches.values():
        node.equip(bench)
    pod.begin({"one": ("gpus", 1), "two": ("gpus", 1)})
    with pod.save() as saved:
        assert actions(node.calls()) == TAKEN, "both are locked before the first is taken"
        saved.run_on()
    assert actions(node.calls()) == GIVEN_BACK
    for capsule in pod.capsules:
        capsule.prove()
    checkpoint = pod.end_saved()
    pod.replace()
    node.calls()
    pod.resume(checkpoint)
    assert actions(node.calls()) == GIVEN_BACK
    for capsule in pod.capsules:
        capsule.prove()


def _acts(calls: list[str]) -> list[str]:
    """Return what was done, without the questions between."""
    return actions([call for call in calls if not call.startswith("get-state ")])


def _runs_on(bench: Bench, job: JobCapsule, node: GpuNode) -> None:
    """Prove that a job whose checkpoint failed has lost nothing, and can still be saved."""
    job.prove()
    assert bench.checkpoints.newest_resumable() is None
    node.plan()
    node.calls()
    moved = bench.move(job)
    moved.prove()
    assert moved.finish() == 0


def test_a_lock_that_comes_too_late_is_given_up(gpu_bench: Bench, job: JobCapsule, node: GpuNode) -> None:
    node.equip(gpu_bench, lock_s=0.5)
    node.plan("lock hangs 1")
    with pytest.raises(GpuBusyError, match="could not be halted on its GPU") as caught:
        gpu_bench.save(job)
    assert caught.value.retryable
    assert [call for call in actions(node.calls()) if call != "get-state"] == ["lock", "unlock"]
    _runs_on(gpu_bench, job, node)


@pytest.mark.parametrize("action", ["lock", "checkpoint"])
def test_a_process_that_cannot_be_taken_from_its_gpu(
    gpu_bench: Bench, job: JobCapsule, node: GpuNode, action: str
) -> None:
    node.plan(f"{action} fails 1")
    with pytest.raises(GpuError, match=f"cannot {action} process .*: .*operation not supported") as caught:
        gpu_bench.save(job)
    assert "PID 9" in str(caught.value)
    assert actions(node.calls())[-1] == "unlock"
    _runs_on(gpu_bench, job, node)


def test_a_tool_that_hangs_costs_no_more_than_the_time_there_is(
    gpu_bench: Bench, job: JobCapsule, node: GpuNode
) -> None:
    node.plan("checkpoint hangs 2")
    with pytest.raises(DeadlineError):
        gpu_bench.save(job, within_s=4)
    _runs_on(gpu_bench, job, node)


def test_a_dump_that_fails(gpu_bench: Bench, job: JobCapsule, node: GpuNode) -> None:
    able = gpu_bench.settings
    gpu_bench.settings = replace(able, criu=replace(able.criu, ghost_limit_bytes=MIB))
    grow = WatchedStore(gpu_bench.store, before_started=lambda: ghost_of(job).write_bytes(bytes(2 * MIB)))
    with pytest.raises(DumpError):
        gpu_bench.save(job, store=grow)
    assert actions(node.calls()) == TAKEN + GIVEN_BACK
    gpu_bench.settings = able
    _runs_on(gpu_bench, job, node)


def test_a_store_that_fails(gpu_bench: Bench, job: JobCapsule, node: GpuNode) -> None:
    def fail() -> None:
        raise StoreFullError("no room")

    with pytest.raises(StoreFullError):
        gpu_bench.save(job, store=WatchedStore(gpu_bench.store, before_manifest=fail))
    assert actions(node.calls()) == TAKEN + GIVEN_BACK
    _runs_on(gpu_bench, job, node)


@pytest.mark.parametrize("leave_running", [False, True])
def test_a_process_that_is_left_without_its_gpu_is_told(
    gpu_bench: Bench, job: JobCapsule, node: GpuNode, leave_running: bool
) -> None:
    node.plan("restore breaks 1")
    story = Story()

    def fail() -> None:
        raise StoreFullError("no room")

    store = gpu_bench.store if leave_running else WatchedStore(gpu_bench.store, before_manifest=fail)
    if leave_running:
        manifest = gpu_bench.save(job, story, leave_running=True, store=store)
    else:
        with pytest.raises(GpuStateLostError, match=r"no room; the job runs on without its GPUs: .*PID 9"):
            gpu_bench.save(job, story, store=store)
    assert "gpu-lost" in story.events
    job.signal(signal.SIGUSR1)
    assert job.wait() not in {0, names.EXIT_CHECKPOINTED}
    if leave_running:  # what was read of it before is good
        node.plan()
        resumed = gpu_bench.resume(manifest)
        resumed.prove()
        assert resumed.finish() == 0


def test_an_unlock_that_fails_is_told(gpu_bench: Bench, job: JobCapsule, node: GpuNode) -> None:
    node.plan("unlock fails 1")
    story = Story()
    gpu_bench.save(job, story, leave_running=True)
    assert "gpu-lost" in story.events
    assert actions(node.calls()) == [*TAKEN, "restore", "unlock", "get-state"]


@pytest.mark.parametrize("action", GIVEN_BACK)
def test_a_job_that_cannot_have_its_gpus_back_elsewhere_begins_anew(
    gpu_bench: Bench, job: JobCapsule, node: GpuNode, action: str
) -> None:
    manifest = gpu_bench.save(job)
    node.plan(f"{action} fails 1")
    capsule = gpu_bench.vacant()
    with capsule.held() as launcher:
        with pytest.raises(GpuError, match=f"cannot {action}"):
            gpu_bench.restore(manifest, capsule, launcher)
        assert not capsule.members(), "nothing of the job is left"
        assert launcher.status(Deadline.after(PATIENCE_S)).phase is JobPhase.WAITING
        assert gpu_bench.checkpoints.newest_resumable() is None
        capsule.start(launcher)
    capsule.expect("ready")
    capsule.prove()
    assert capsule.finish() == 0


def test_if_we_are_killed_the_job_gets_its_gpus_back(gpu_bench: Bench, job: JobCapsule, node: GpuNode) -> None:
    with Agent(gpu_bench, job, "save", pause="frozen", environment=node.variables()) as agent:
        agent.await_pause()
        assert actions(node.calls()) == TAKEN
        agent.kill()
    until(lambda: not node.guards(), "the end of who watched over the GPUs")
    assert _acts(node.calls()) == GIVEN_BACK
    job.prove()
    _runs_on(gpu_bench, job, node)


def test_if_we_are_killed_the_tool_waits_until_nobody_traces_the_job_any_more(
    gpu_bench: Bench, job: JobCapsule, node: GpuNode
) -> None:
    with Agent(gpu_bench, job, "save", pause="frozen", environment=node.variables()) as agent:
        agent.await_pause()
        assert actions(node.calls()) == TAKEN
        words = [sys.executable, "-c", TRACER, *map(str, job.members())]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as tracer:
            try:
                assert tracer.stdout is not None
                assert tracer.stdout.readline() == b"\n"
                agent.kill()
                time.sleep(1)
                assert not _acts(node.calls()), "the real tool would hang"
            finally:
                tracer.kill()
    until(lambda: not node.guards(), "the end of who watched over the GPUs")
    assert _acts(node.calls()) == GIVEN_BACK
    job.prove()


def test_if_we_are_killed_while_the_tool_works_the_job_gets_its_gpus_back_after_that(
    gpu_bench: Bench, job: JobCapsule, node: GpuNode
) -> None:
    node.plan("checkpoint lingers 2")
    with Agent(gpu_bench, job, "save", environment=node.variables()) as agent:
        until(lambda: len(node.called("checkpoint")) == 2, "the tool at work")
        agent.kill()
    job.prove()
    until(lambda: not node.guards(), "the end of who watched over the GPUs")
    _runs_on(gpu_bench, job, node)


def test_nobody_watches_over_gpus_that_were_given_back(gpu_bench: Bench, job: JobCapsule, node: GpuNode) -> None:
    gpu_bench.save(job, leave_running=True)
    assert not node.guards()


def test_a_device_that_stays_open_is_told_and_the_job_runs_on(
    gpu_bench: Bench, job: JobCapsule, node: GpuNode
) -> None:
    (node.memory / "leave-open").touch()
    with pytest.raises(GpuError, match="still has a GPU open after cuda-checkpoint"):
        gpu_bench.save(job)
    assert actions(node.calls()) == TAKEN + GIVEN_BACK
    (node.memory / "leave-open").unlink()
    job.prove()


@pytest.mark.parametrize(
    ("make_wrong", "words"),
    [
        (lambda node: (node.folder / "cuda-checkpoint").unlink(), "there is no cuda-checkpoint on this node"),
        (lambda node: node.tell_driver("550.90.07"), "the NVIDIA driver is 550.90.07: install 570"),
        (lambda node: (node.folder / "driver/version").unlink(), "no NVIDIA driver"),
    ],
)
def test_a_node_that_cannot_save_jobs_on_gpus_refuses_them_untouched(
    gpu_bench: Bench, job: JobCapsule, node: GpuNode, make_wrong: Callable[[GpuNode], object], words: str
) -> None:
    make_wrong(node)
    with pytest.raises(UnsupportedJobError, match=words):
        gpu_bench.save(job)
    assert not node.calls()
    job.prove()


def test_memory_of_gpus_that_does_not_fit_into_the_nodes_is_refused_untouched(
    gpu_bench: Bench, job: JobCapsule, node: GpuNode
) -> None:
    node.tell_memory(dict.fromkeys(job.members(), 10_000_000))
    with pytest.raises(UnsupportedJobError, match=r"on its GPUs.*the node has .* to spare"):
        gpu_bench.save(job)
    assert not node.calls()
    job.prove()


@pytest.mark.parametrize(
    ("there", "minors", "words"),
    [
        ({"driver": "580.95.05"}, (0,), "dumped with 580.65.06"),
        ({"gpus": 2}, (0, 1), "dumped with 1 of NVIDIA Test, here are 2 of NVIDIA Test"),
        ({}, (), "here are no GPU"),
    ],
)
def test_a_checkpoint_does_not_fit_other_gpus(
    gpu_bench: Bench, job: JobCapsule, folder: Path, there: dict[str, object], minors: tuple[int, ...], words: str
) -> None:
    manifest = gpu_bench.save(job)
    GpuNode(folder / "there", **there).equip(gpu_bench, minors=minors)  # type: ignore[arg-type]
    capsule = gpu_bench.vacant()
    with capsule.held() as launcher, pytest.raises(IncompatibleError, match=words):
        gpu_bench.restore(manifest, capsule, launcher)
    assert gpu_bench.checkpoints.newest_resumable() is not None, "it is kept"
