"""Jobs that belong together are saved and resumed as one, or not at all."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from crikpy.errors import (
    CheckpointClaimedError,
    DumpError,
    IncompatibleError,
    IntegrityError,
    LauncherError,
    StoreUnavailableError,
    UnsupportedJobError,
)
from crikpy.flows.gathering import read_manifests
from crikpy.model.capsule import JobPhase
from crikpy.model.manifest import Manifest
from crikpy.settings import MIB
from crikpy.store.checkpoints import Checkpoints
from tests.integration.capsules import JobCapsule, until
from tests.integration.moving import Story
from tests.integration.pods import Pod
from tests.integration.processes import criu_of
from tests.integration.stores import WatchedStore

pytestmark = pytest.mark.criu

_STOPPED = {psutil.STATUS_STOPPED}


def _runs_on(pod: Pod) -> None:
    """Prove that jobs whose checkpoint failed have lost nothing and can still be saved."""
    pod.prove()
    assert not any(found.resumable for found in pod.found())
    checkpoint = pod.end_saved()
    pod.replace()
    pod.resume(checkpoint)
    pod.prove()
    assert pod.finish() == [0, 0]


def test_two_jobs_move_together(jobs: Pod) -> None:
    seen: list[set[str]] = []
    stored: list[bool] = []

    def look() -> None:
        seen.append(jobs.states())
        stored.append(bool(list((Path(jobs.store.url.removeprefix("file://"))).rglob("chunks/*/*"))))

    story = Story(frozen=look)
    saved = jobs.save(story)
    assert seen == [_STOPPED]
    assert stored == [False], "the first was dumped before the second stood still"
    assert story.events == ["frozen", "streamed", "committed"]
    assert jobs.states() == _STOPPED
    (found,) = jobs.found()
    assert found.resumable
    assert (found.checkpoint, found.pod, found.pod_uid) == (saved.checkpoint, "tests/pod", jobs.uid)
    assert [manifest.workload for manifest in saved.manifests] == [str(one.workload) for one in jobs.members()]
    assert {manifest.checkpoint for manifest in saved.manifests} == {saved.checkpoint}
    saved.end()
    assert story.events[-1] == "ended"
    assert [capsule.wait() for capsule in jobs.capsules] == [75, 75]
    jobs.replace()
    jobs.resume(saved.checkpoint)
    jobs.prove()
    (found,) = jobs.found()
    assert found.claim is not None
    assert jobs.finish() == [0, 0]


def test_a_dump_of_the_second_that_fails_lets_both_run_on(jobs: Pod) -> None:
    first, last = (jobs.of(workload) for workload in jobs.workloads)
    killed = threading.Event()

    def kill() -> None:
        if not killed.is_set() and (criu := criu_of(last, patience_s=0)):
            killed.set()
            os.kill(criu, signal.SIGKILL)

    story = Story()
    with pytest.raises(DumpError, match="killed by SIGKILL"):
        jobs.save(story, store=WatchedStore(jobs.store, before_chunk=kill))
    assert killed.is_set()
    assert story.events == ["frozen", "released"]
    assert jobs.records() == []
    assert first.phase() is JobPhase.RUNNING
    _runs_on(jobs)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_commit_that_fails_lets_both_run_on_and_quarantines_what_stands(jobs: Pod, failing: int) -> None:
    commits = 0

    def fail() -> None:
        nonlocal commits
        commits += 1
        if commits == failing:
            raise StoreUnavailableError("the store went away")

    story = Story()
    with pytest.raises(StoreUnavailableError):
        jobs.save(story, store=WatchedStore(jobs.store, before_manifest=fail))
    assert story.events[-1] == "released"
    assert jobs.found() == ()
    standing = [summary for workload in jobs.workloads for summary in Checkpoints(jobs.store, workload).list()]
    assert len(standing) == failing - 1
    assert all(summary.quarantine and "store went away" in summary.quarantine.reason for summary in standing)
    _runs_on(jobs)


def test_a_deadline_that_passes_before_the_commit_lets_both_run_on(jobs: Pod) -> None:
    released = threading.Event()
    try:
        with pytest.raises(Exception, match="out of time"):
            jobs.save(store=WatchedStore(jobs.store, before_chunk=released.wait), within_s=4)
    finally:
        released.set()
    assert jobs.records() == []
    _runs_on(jobs)


def test_whoever_is_refused_by_one_launcher_leaves_no_trace(jobs: Pod) -> None:
    last = jobs.of(jobs.workloads[-1])
    story = Story()
    with last.held(), pytest.raises(LauncherError, match="another checkpoint or restore"):
        jobs.save(story)
    assert story.events == []
    assert jobs.records() == []
    with jobs.of(jobs.workloads[0]).held():
        pass
    _runs_on(jobs)


def test_one_that_cannot_be_saved_is_named_before_any_is_stopped(pod: Pod) -> None:
    jobs: dict[str, Sequence[object]] = {"one": ("family", 2), "two": ("orphans",)}
    pod.begin(jobs)
    story = Story()
    with pytest.raises(UnsupportedJobError, match=f"{pod.benches['two'].workload.name}: 1 of its processes left"):
        pod.save(story)
    assert story.events == []
    assert pod.records() == []
    pod.prove()


def _flip_a_byte(pod: Pod, manifest: Manifest) -> None:
    """Damage the largest chunk of one part."""
    folder = Path(pod.store.url.removeprefix("file://")) / manifest.workload
    chunk = max(folder.rglob("chunks/*/*"), key=lambda path: path.stat().st_size)
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)


def test_a_restore_that_fails_in_the_second_leaves_nothing_of_either(jobs: Pod) -> None:
    checkpoint = jobs.end_saved()
    _flip_a_byte(jobs, read_manifests(jobs.store, jobs.workloads, checkpoint)[-1])
    jobs.replace()
    with jobs.held(checkpoint) as waiting:
        with pytest.raises(IntegrityError):
            jobs.restore(waiting)
        assert [capsule.members() for capsule in jobs.capsules] == [{}, {}]
        assert jobs.phases() == [JobPhase.WAITING, JobPhase.WAITING]
        for workload in jobs.workloads:
            assert Checkpoints(jobs.store, workload).summary(checkpoint).quarantine is not None
        assert not jobs.found()[0].resumable
        for capsule, one in zip(jobs.capsules, waiting, strict=True):
            capsule.start(one.launcher)
    for capsule in jobs.capsules:
        capsule.expect("ready")
    assert jobs.finish() == [0, 0]


def _leave_a_file(capsule: JobCapsule) -> None:
    """Put a file that has a chunk of its own where it travels."""
    folder = capsule.capsule.carried[0] if capsule.capsule.carried else "/dev/shm"
    Path(f"/proc/{capsule.launcher_pid}/root{folder}/large").write_bytes(os.urandom(9 * MIB))


def test_no_process_is_restored_before_all_files_are_there(jobs: Pod) -> None:
    for capsule in jobs.capsules:
        _leave_a_file(capsule)
    checkpoint = jobs.end_saved()
    jobs.replace()
    of_files: set[str | None] = set()
    of_processes: set[str | None] = set()
    for manifest in read_manifests(jobs.store, jobs.workloads, checkpoint):
        for image in manifest.images:
            chunks = of_files if image.name.startswith("files/") else of_processes
            chunks |= {extent.chunk for extent in image.extents}
    assert len(of_files - of_processes) >= 2
    living: list[bool] = []

    def look(key: str) -> None:
        if key.rpartition("/")[2] in of_files - of_processes:
            living.append(any(capsule.members() for capsule in jobs.capsules))

    jobs.resume(checkpoint, store=WatchedStore(jobs.store, before_read=look))
    assert len(living) >= 2
    assert not any(living)
    jobs.prove()


def test_a_checkpoint_of_two_is_resumed_only_once_and_only_as_a_whole(jobs: Pod) -> None:
    checkpoint = jobs.end_saved()
    jobs.replace()
    with jobs.held(checkpoint) as waiting:
        for part in waiting:
            with pytest.raises(IncompatibleError, match="were saved together"):
                jobs.restore([part])
        assert jobs.found()[0].resumable
        jobs.restore(waiting)
    jobs.prove()
    first = list(jobs.capsules)
    jobs.replace()
    with jobs.held(checkpoint) as waiting, pytest.raises(CheckpointClaimedError):
        jobs.restore(waiting)
    for capsule in first:
        capsule.prove()


def test_a_claim_on_the_second_part_is_tried_again(jobs: Pod) -> None:
    checkpoint = jobs.end_saved()
    jobs.replace()
    claims = 0

    def fail_once() -> None:
        nonlocal claims
        claims += 1
        if claims == 2:
            raise StoreUnavailableError("the store was away for a moment")

    jobs.resume(checkpoint, store=WatchedStore(jobs.store, before_claim=fail_once))
    assert claims > 2
    jobs.prove()


def test_another_image_is_refused_before_anything_is_touched(jobs: Pod) -> None:
    jobs.image = "sha256:1"
    checkpoint = jobs.end_saved()
    jobs.replace()
    jobs.image = "sha256:2"
    with jobs.held(checkpoint) as waiting:
        with pytest.raises(IncompatibleError, match="image sha256:1 there, sha256:2 here"):
            jobs.restore(waiting)
        assert jobs.found()[0].resumable
        known = [replace(one, member=replace(one.member, image="sha256:1")) for one in waiting]
        jobs.restore(known)
    jobs.prove()


class Sharing:
    """Two containers with a directory of the node in common, under paths of their own."""

    def __init__(self, pod: Pod, folder: Path) -> None:
        self._pod = pod
        self._folder = folder
        self._count = 0
        self.paths = {"one": "/var/lib/crikpy-one", "two": "/var/lib/crikpy-two"}

    def renew(self) -> Path:
        """Give the next capsules an empty directory."""
        there = self._folder / f"volume-{self._count}"
        self._count += 1
        there.mkdir()
        for name, bench in self._pod.benches.items():
            bench.shared_directories = {self.paths[name]: there}
        return there


@pytest.mark.parametrize("carrying", [("one",), ("two",), ("one", "two")])
def test_a_directory_that_two_containers_share_travels_once(
    container_pod: Pod, folder: Path, carrying: tuple[str, ...]
) -> None:
    pod, sharing = container_pod, Sharing(container_pod, folder)
    sharing.renew()
    paths = sharing.paths
    pod.carried = {name: (paths[name],) for name in carrying}
    pod.begin({"one": ("sharing", paths["one"], "one", "two"), "two": ("sharing", paths["two"], "two", "one")})
    pod.prove()
    checkpoint = pod.end_saved()
    manifests = read_manifests(pod.store, pod.workloads, checkpoint)
    roots = [archive.root for manifest in manifests for archive in manifest.archives]
    assert len([root for root in roots if root in paths.values()]) == 1
    assert not any(root.startswith("/var/lib") and root not in paths.values() for root in roots)
    there = sharing.renew()
    pod.replace()
    pod.resume(checkpoint)
    assert sorted(path.name for path in there.iterdir()) == ["one.count", "two.count"]
    pod.prove()
    assert pod.finish() == [0, 0]


def test_the_containers_changes_are_looked_for_below_the_nodes_root(container_pod: Pod, folder: Path) -> None:
    pod = container_pod
    pod.begin({"one": ("family", 2), "two": ("family", 2)})
    settings = pod.settings
    pod.use(replace(settings, criu=replace(settings.criu, node_root=folder / "nowhere")))
    with pytest.raises(Exception, match="are not at"):
        pod.save()
    pod.use(replace(settings, criu=replace(settings.criu, node_root=Path("/proc/self/root"))))
    checkpoint = pod.end_saved()
    pod.replace()
    pod.resume(checkpoint)
    pod.prove()


def _stop_one(capsule: JobCapsule) -> int:
    """Stop one of a job's processes by a signal; return its PID inside."""
    outer, inner = max(capsule.members().items(), key=lambda pids: pids[1])
    os.kill(outer, signal.SIGSTOP)
    until(lambda: psutil.Process(outer).status() == psutil.STATUS_STOPPED, "a stopped process")
    return inner


def _stopped(capsule: JobCapsule) -> set[int]:
    return {
        inner
        for outer, inner in capsule.members().items()
        if psutil.Process(outer).status() == psutil.STATUS_STOPPED
    }


def test_what_was_stopped_before_stays_stopped_whatever_is_done(pod: Pod) -> None:
    pod.begin({"one": ("family", 3), "two": ("family", 3)})
    stopped = {_stop_one(pod.capsules[0])}

    def only_that() -> None:
        until(lambda: _stopped(pod.capsules[1]) == set(), "the other job running on")
        assert _stopped(pod.capsules[0]) == stopped

    def fail() -> None:
        raise StoreUnavailableError("the store went away")

    with pytest.raises(StoreUnavailableError):
        pod.save(store=WatchedStore(pod.store, before_manifest=fail))
    only_that()
    pod.save().run_on()
    only_that()
    checkpoint = pod.end_saved()
    pod.replace()
    pod.resume(checkpoint)
    only_that()
    for outer, inner in pod.capsules[0].members().items():
        if inner in stopped:
            os.kill(outer, signal.SIGCONT)
    pod.prove()
