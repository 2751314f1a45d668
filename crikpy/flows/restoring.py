"""The story of one restore, from a complete checkpoint to a job that goes on in a waiting capsule.

Nothing is touched before it is known that the checkpoint fits, and it is claimed before anything of it runs: a
checkpoint is resumed at most once. What a failed restore means for the job is the caller's decision; here it
only leaves the capsule empty again and the checkpoint quarantined.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from crikpy.aio.clock import Deadline
from crikpy.capsule import entering, stdio
from crikpy.capsule.applying import apply_archive
from crikpy.capsule.changes import mounts_to_spare
from crikpy.capsule.launcher import LauncherConnection
from crikpy.capsule.mounts import read_mounts
from crikpy.criu import compat
from crikpy.criu.argv import InheritedPipe
from crikpy.criu.features import criu_version
from crikpy.criu.running import Criu
from crikpy.errors import CheckpointClaimedError, CrikpyError, IncompatibleError
from crikpy.flows.checkpointing import kill_all, let_go
from crikpy.flows.reporting import Reporter
from crikpy.model.capsule import Capsule
from crikpy.model.manifest import Manifest
from crikpy.model.workload import Workload
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.reading import ChunkReader
from crikpy.store.records import Claim

_BUFFER_BYTES = 1024 * 1024

_SPARE_PIDS = 64
"""Programs that enter the capsule get PIDs this far above the job's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOrder:
    """What is to be done.

    Attributes:
        manifest: the checkpoint.
        claim: who resumes it.
        deadline: when the job must run.
    """

    manifest: Manifest
    claim: Claim
    deadline: Deadline


def restore(
    capsule: Capsule,
    launcher: LauncherConnection,
    store: ObjectStore,
    workload: Workload,
    order: RestoreOrder,
    settings: Settings,
    reporter: Reporter,
) -> None:
    """Resume a checkpoint in a capsule whose launcher waits and is held by `launcher`.

    Raises:
        IncompatibleError: it does not fit this machine; nothing was touched, it is still there to be resumed.
        CheckpointClaimedError: somebody else has resumed it.
        CrikpyError: the restore failed; the capsule is empty, the checkpoint quarantined.
    """
    manifest = order.manifest
    checkpoints = Checkpoints(store, workload)
    require_fit(capsule, manifest, settings, order.deadline)
    checkpoints.claim(manifest.checkpoint, order.claim)
    reporter.event("claimed", f"checkpoint {manifest.checkpoint} is ours", checkpoint=manifest.checkpoint)
    with _quarantine_on_failure(capsule, checkpoints, manifest, reporter):
        with ChunkReader(
            store,
            workload,
            manifest.images,
            settings=settings.store,
            deadline=order.deadline,
            on_progress=partial(reporter.transfer, "download"),
        ) as reader:
            _apply_archives(capsule, manifest, reader, order.deadline)
            _restore_processes(capsule, manifest, reader, settings, order.deadline)
        launcher.adopt(manifest.job.root_pid, order.deadline)
    let_go(capsule, but=manifest.job.stopped)
    reporter.event("resumed", "the job goes on", pid=manifest.job.root_pid)


def require_fit(capsule: Capsule, manifest: Manifest, settings: Settings, deadline: Deadline) -> None:
    """Compare a checkpoint with this machine.

    Raises:
        IncompatibleError: naming everything that differs.
    """
    here = compat.facts(criu_version(settings.criu.bundle, deadline))
    differences = [*compat.differences(manifest.compatibility, here), *_file_differences(capsule, manifest)]
    if differences:
        raise IncompatibleError(
            f"checkpoint {manifest.checkpoint} does not fit this machine: {'; '.join(differences)}",
            remedy="resume it on a machine like the one it was taken on; it is kept",
        )


def _file_differences(capsule: Capsule, manifest: Manifest) -> Iterator[str]:
    """Yield what is wrong with the files that the job has open and that the machine must have by itself."""
    view = Path(f"/proc/{capsule.launcher_pid}/root")
    for file in manifest.open_files:
        try:
            size = (view / file.path.lstrip("/")).stat().st_size
        except OSError:
            yield f"file {file.path} is missing here"
            continue
        if size != file.size:
            yield f"file {file.path} has {size} bytes here, {file.size} there"


def _apply_archives(capsule: Capsule, manifest: Manifest, reader: ChunkReader, deadline: Deadline) -> None:
    mounts = read_mounts(capsule.launcher_pid)
    root = os.open(f"/proc/{capsule.launcher_pid}/root", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for archive in manifest.archives:
            with io.BufferedReader(reader.file(archive.image), _BUFFER_BYTES) as source:
                spared = mounts_to_spare(archive, mounts)
                apply_archive(source, root, archive, spared, deadline=deadline, keep=manifest.checkpoint)
    finally:
        os.close(root)


def _restore_processes(
    capsule: Capsule, manifest: Manifest, reader: ChunkReader, settings: Settings, deadline: Deadline
) -> None:
    """Have CRIU make the tree, its helpers' and its later children's PIDs kept clear of the tree's own."""
    highest = manifest.job.highest_pid
    entering.raise_last_pid(capsule.launcher_pid, entering.clear_last_pid(highest + _SPARE_PIDS), deadline)
    replacements = stdio.open_replacements(capsule.launcher_pid, manifest.job.stdio)
    try:
        pipes = [InheritedPipe(descriptor=descriptor, identity=identity) for descriptor, identity in replacements]
        entry = entering.restore_entry(capsule.launcher_pid)
        Criu(settings.criu).restore(entry, reader, pipes, deadline, may_use_tiles=manifest.job.tiles)
    finally:
        for descriptor, _ in replacements:
            os.close(descriptor)
    entering.raise_last_pid(capsule.launcher_pid, entering.clear_last_pid(highest), deadline)


@contextlib.contextmanager
def _quarantine_on_failure(
    capsule: Capsule, checkpoints: Checkpoints, manifest: Manifest, reporter: Reporter
) -> Iterator[None]:
    try:
        yield
    except CrikpyError as fault:
        kill_all(capsule)
        reporter.event("restore-failed", f"checkpoint {manifest.checkpoint} could not be resumed: {fault}")
        with contextlib.suppress(CrikpyError, CheckpointClaimedError):
            checkpoints.quarantine(manifest.checkpoint, str(fault))
        raise
    except BaseException:
        kill_all(capsule)
        raise
