"""A real process that an earlier release has saved goes on in the middle of its work, with all of its memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from crikpy.criu.versions import kernel_version
from crikpy.errors import CheckpointClaimedError, IncompatibleError
from crikpy.model.manifest import Manifest
from crikpy.names import EXIT_CHECKPOINTED
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.local import LocalStore
from tests.golden.job import Model, Proof, letters_at
from tests.golden.saving import LETTERS, WORDS, WORKLOAD, ask, provide
from tests.integration.capsules import ContainerJob, JobCapsule
from tests.integration.moving import Bench

RELEASES = sorted(path.parent for path in Path(__file__).parent.glob("*/process"))
_BASELINE = frozenset(
    {
        *("clflush", "cmov", "cx16", "cx8", "fpu", "fxsr", "lahf_lm", "mmx", "pni", "popcnt"),
        *("sse", "sse2", "sse4_1", "sse4_2", "ssse3", "tsc"),
    }
)
"""What crikpy's own libraries need of a CPU, x86-64-v2: every machine on which it runs has this."""

_LARGEST_BYTES = 512 * 1024

pytestmark = pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)


def _manifest(release: Path) -> Manifest:
    checkpoints = Checkpoints(LocalStore(release / "process" / "store"), WORKLOAD)
    newest = checkpoints.newest_complete()
    assert newest is not None
    return checkpoints.manifest(newest.id)


@pytest.fixture
def ready(release: Path, container_bench: Bench) -> Manifest:
    """The checkpoint, in a store of the bench's own, with the job's program where it was."""
    copied = container_bench.folder / "golden"
    shutil.copytree(release / "process" / "store", copied)
    provide(container_bench, release / "process" / "job", copied)
    manifest = _manifest(release)
    _require_kernel(manifest)
    return manifest


def _require_kernel(manifest: Manifest) -> None:
    if kernel_version(Path("/proc/sys/kernel/osrelease").read_text().strip()) < (6, 3):
        pytest.skip(f"saved on kernel {manifest.compatibility.kernel}, which no kernel before 6.3 resumes")


def test_it_is_small_and_asks_nothing_of_a_machine_that_crikpy_does_not_ask(release: Path) -> None:
    files = [path for path in (release / "process").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < _LARGEST_BYTES
    manifest = _manifest(release)
    assert frozenset(manifest.compatibility.cpu_features) <= _BASELINE
    assert [(file.path, file.size) for file in manifest.open_files] == [
        (WORDS[0], (release / "process" / "job").stat().st_size)
    ]


@pytest.mark.criu
@pytest.mark.vm
def test_it_goes_on_with_all_of_its_memory_and_can_be_saved_again(ready: Manifest, container_bench: Bench) -> None:
    bench, model = container_bench, Model()
    job = _resume(bench, ready)
    first = _prove(job, model)
    assert first.steps > 1024
    assert _prove(job, model).steps > first.steps
    bench.save(job)
    assert job.wait() == EXIT_CHECKPOINTED
    newest = bench.checkpoints.newest_resumable()
    assert newest is not None
    again = bench.resume(newest)
    proof = _prove(again, model)
    assert proof.steps > first.steps
    assert _letters(again).startswith(letters_at(proof.steps))
    assert again.finish() == 0


@pytest.mark.criu
def test_it_is_resumed_once_only(ready: Manifest, container_bench: Bench) -> None:
    job = _resume(container_bench, ready)
    with pytest.raises(CheckpointClaimedError):
        container_bench.resume(ready)
    _prove(job, Model())


@pytest.mark.criu
def test_it_is_refused_with_the_reason_where_its_program_is_another(
    ready: Manifest, container_bench: Bench
) -> None:
    program = container_bench.shared_directories["/golden"] / "job"
    program.write_bytes(program.read_bytes() + b"\0")
    container_bench.vacant(*WORDS)
    with pytest.raises(IncompatibleError, match=f"file {WORDS[0]} has"):
        container_bench.resume(ready)
    assert container_bench.checkpoints.newest_resumable() == ready


def _resume(bench: Bench, manifest: Manifest) -> JobCapsule:
    capsule = bench.vacant(*WORDS)
    with capsule.held() as launcher:
        bench.restore(manifest, capsule, launcher)
    return capsule


def _prove(job: JobCapsule, model: Model) -> Proof:
    """Have the job say where it is, and compare its memory with what it must be there."""
    proof = ask(job)
    assert model.proof_at(proof.steps) == proof
    return proof


def _letters(job: JobCapsule) -> str:
    assert isinstance(job, ContainerJob)
    return (job.container.upper / LETTERS.lstrip("/")).read_text()
