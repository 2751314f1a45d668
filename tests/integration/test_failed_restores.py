"""A restore that fails leaves an empty capsule in which the job can start cold; nothing is resumed twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from crikpy.errors import CheckpointClaimedError, IncompatibleError, IntegrityError
from crikpy.model.capsule import JobPhase
from crikpy.model.manifest import Manifest
from tests.integration.capsules import JobCapsule, until
from tests.integration.moving import Bench
from tests.integration.processes import Agent, criu_of

pytestmark = pytest.mark.criu


@pytest.fixture
def saved(bench: Bench) -> Manifest:
    """A checkpoint of a job with memory."""
    job = bench.begin("memory", 16, 1)
    manifest = bench.save(job)
    assert job.wait() == 75
    return manifest


def _largest_chunk(bench: Bench) -> Path:
    chunks = (bench.folder / "store").rglob("chunks/*/*")
    return max(chunks, key=lambda path: path.stat().st_size)


def _starts_cold(capsule: JobCapsule) -> None:
    capsule.expect("ready")
    capsule.prove()
    assert capsule.finish() == 0


def test_a_flipped_byte_in_a_chunk_is_found_and_the_job_starts_cold(bench: Bench, saved: Manifest) -> None:
    chunk = _largest_chunk(bench)
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    capsule = bench.vacant()
    with capsule.held() as launcher:
        with pytest.raises(IntegrityError):
            bench.restore(saved, capsule, launcher)
        assert capsule.members() == {}
        assert bench.checkpoints.summary(saved.checkpoint).quarantine is not None
        assert bench.checkpoints.newest_resumable() is None
        capsule.start(launcher)
    _starts_cold(capsule)


def test_a_missing_chunk_is_found_and_the_launcher_starts_the_job_when_it_is_let_go(
    bench: Bench, saved: Manifest
) -> None:
    _largest_chunk(bench).unlink()
    capsule = bench.vacant()
    with pytest.raises(IntegrityError), capsule.held() as launcher:
        bench.restore(saved, capsule, launcher)
    _starts_cold(capsule)


@pytest.mark.parametrize("moment", ["claimed", "chunk"])
def test_a_job_starts_cold_when_the_agent_is_killed_in_the_middle(
    bench: Bench, saved: Manifest, moment: str
) -> None:
    capsule = bench.vacant()
    with Agent(bench, capsule, "resume", checkpoint=saved.checkpoint, pause=moment) as agent:
        agent.await_pause()
        agent.kill()
    capsule.expect("ready")
    assert criu_of(capsule, patience_s=0) == 0
    capsule.prove()
    assert capsule.finish() == 0


def test_a_checkpoint_is_resumed_only_once(bench: Bench, saved: Manifest) -> None:
    first = bench.resume(saved)
    first.prove()
    second = bench.vacant()
    with second.held() as launcher:
        with pytest.raises(CheckpointClaimedError):
            bench.restore(saved, second, launcher)
        assert second.phase() is JobPhase.WAITING
        assert second.members() == {}
        second.start(launcher)
    first.prove()
    assert first.finish() == 0


def test_what_does_not_fit_is_refused_before_anything_is_touched(bench: Bench, saved: Manifest) -> None:
    foreign = replace(saved, compatibility=replace(saved.compatibility, architecture="pdp11"))
    capsule = bench.vacant()
    with capsule.held() as launcher:
        with pytest.raises(IncompatibleError, match="pdp11"):
            bench.restore(foreign, capsule, launcher)
        assert bench.checkpoints.summary(saved.checkpoint).claim is None
        bench.restore(saved, capsule, launcher)
    capsule.prove()
    until(lambda: capsule.phase() is JobPhase.RUNNING, "a running job")
    assert capsule.finish() == 0
