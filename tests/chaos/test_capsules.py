"""The new capsule dies while a checkpoint is being resumed in it, at each step: nobody goes on half restored."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import psutil
import pytest

from crikpy import names
from crikpy.errors import CapsuleError, CheckpointClaimedError
from crikpy.model.manifest import Manifest
from tests.chaos.moments import once, reading_memory, watched
from tests.chaos.recording import Record
from tests.integration.capsules import JobCapsule, until
from tests.integration.moving import Bench, Story
from tests.integration.processes import criu_of
from tests.integration.stores import WatchedStore

pytestmark = [pytest.mark.criu, pytest.mark.chaos]

_WORDS = {
    "held": "before the checkpoint is looked at",
    "claim": "before it is claimed",
    "claimed": "after it was claimed",
    "memory": "while memory is read",
    "restored": "when its processes stand, not yet let go",
}


def kill(capsule: JobCapsule) -> None:
    """End a capsule as the deletion of its container does."""
    os.kill(capsule.launcher_pid, signal.SIGKILL)


def kill_once_restored(capsule: JobCapsule, manifest: Manifest) -> None:
    """End a capsule when CRIU has done its part; its launcher, stopped until then, has adopted nobody."""
    os.kill(capsule.launcher_pid, signal.SIGSTOP)

    def stands() -> bool:
        try:
            states = [psutil.Process(pid).status() for pid in capsule.members()]
        except psutil.NoSuchProcess:  # CRIU's helpers come and go
            return False
        whole = states == [psutil.STATUS_STOPPED] * len(manifest.job.processes)
        return whole and criu_of(capsule, patience_s=0) == 0

    def wait() -> None:
        until(stands, "a restored job")
        kill(capsule)

    threading.Thread(target=wait).start()


def breaking(bench: Bench, manifest: Manifest, capsule: JobCapsule, moment: str) -> tuple[Story, WatchedStore]:
    """Return the story and the store of a restore whose capsule dies at a moment."""
    end: Callable[[], None] = once(lambda: kill(capsule))
    match moment:
        case "memory":
            return Story(), reading_memory(bench, manifest, end)
        case "claimed":
            return Story(claimed=end), WatchedStore(bench.store)
        case "restored":
            return Story(claimed=lambda: kill_once_restored(capsule, manifest)), WatchedStore(bench.store)
    return Story(), watched(bench, moment, end)


def fate_of_next(bench: Bench, manifest: Manifest) -> str:
    """Resume the checkpoint in one more capsule, or start the job in it."""
    capsule = bench.vacant()
    try:
        with capsule.held() as launcher:
            bench.restore(manifest, capsule, launcher)
        fate = "the next one resumes it"
    except CheckpointClaimedError:
        capsule.expect("ready")
        fate = "the next one starts from its beginning"
    capsule.prove()
    assert capsule.finish() == 0
    return fate


@pytest.mark.parametrize("moment", _WORDS)
def test_when_the_new_capsule_dies(bench: Bench, record: Record, moment: str) -> None:
    job = bench.begin("memory", 24, 1)
    manifest = bench.save(job)
    capsule = bench.vacant()
    story, store = breaking(bench, manifest, capsule, moment)
    with pytest.raises(CapsuleError, match=r"ended|is gone") as caught, capsule.held() as launcher:
        if moment == "held":
            kill(capsule)
            until(lambda: not psutil.pid_exists(capsule.launcher_pid), "the capsule's end")
        bench.restore(manifest, capsule, launcher, story, store=store)
    assert capsule.wait() not in {0, names.EXIT_CHECKPOINTED}
    assert "resumed" not in story.events
    assert not [child for child in psutil.Process().children() if child.name() in {"nsenter", "criu"}]
    assert bench.checkpoints.newest_resumable() is None or moment == "held"
    fate = fate_of_next(bench, manifest)
    record("restore", f"the new capsule dies ({_WORDS[moment]})", f"`{type(caught.value).__name__}`; {fate}")
