"""The story of one checkpoint, from a running job to a committed manifest.

The commit gate: the tree stays stopped until the manifest stands in the store. Whatever fails before, the tree
is let go and the job runs on; only after it may the job be killed. Nothing here decides whether to checkpoint.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import crikpy
from crikpy import names
from crikpy.aio.clock import Deadline
from crikpy.capsule import entering, members, preflight, surveying
from crikpy.capsule.archives import write_archive
from crikpy.capsule.changes import plan_changes
from crikpy.capsule.launcher import LauncherConnection
from crikpy.capsule.members import CarriedTree
from crikpy.capsule.mounts import lies_in
from crikpy.capsule.preflight import Survey
from crikpy.capsule.trees import find_tree
from crikpy.criu import compat
from crikpy.criu.features import criu_version
from crikpy.criu.running import Criu, DumpOutcome
from crikpy.errors import CapsuleError, CrikpyError, UnsupportedJobError
from crikpy.flows.reporting import Reporter
from crikpy.model.capsule import Capsule, JobPhase
from crikpy.model.manifest import FileArchive, Job, Manifest, Origin, StoredImage
from crikpy.model.notices import Trigger
from crikpy.model.streams import WrittenImages
from crikpy.model.workload import Workload
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.records import Claim
from crikpy.store.writing import ChunkWriter

_ANSWER_S = 10.0
"""How long the launcher may take to answer, and a killed job to vanish."""


_BUFFER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointOrder:
    """What is to be done.

    Attributes:
        trigger: why.
        notice: id of the interruption notice, or empty.
        instance: EC2 instance id of this machine, or empty.
        command: the job's command line.
        deadline: when the manifest must stand.
        leave_running: let the job run on afterwards.
    """

    trigger: Trigger
    notice: str = ""
    instance: str = ""
    command: tuple[str, ...] = ()
    deadline: Deadline
    leave_running: bool


def checkpoint(
    capsule: Capsule,
    store: ObjectStore,
    workload: Workload,
    order: CheckpointOrder,
    settings: Settings,
    reporter: Reporter,
    *,
    on_committed: Callable[[Manifest], None] = lambda manifest: None,
) -> Manifest:
    """Save a running job.

    Args:
        capsule: the job's capsule.
        store: where to.
        workload: whose checkpoint it becomes.
        order: why and until when.
        settings: which CRIU, how much memory.
        reporter: hears the story.
        on_committed: called between the commit and the job's end.

    Returns:
        The committed manifest; the job has ended with status 75 unless it was to be left running.

    Raises:
        CrikpyError: saying what failed; the job runs on.
    """
    with LauncherConnection(capsule.socket, order.deadline.earlier(_ANSWER_S)) as launcher:
        root = _find_root(capsule, launcher)
        stopped_before = _refuse_unsupported(capsule, root)
        act = _Act(capsule, root, stopped_before, store, workload, order, settings, reporter)
        launcher.hold(order.deadline)
        with _let_go_on_failure(capsule, act, reporter):
            manifest = act.dump_and_commit()
        on_committed(manifest)
        if order.leave_running:
            let_go(capsule, but=manifest.job.stopped)
            launcher.release(Deadline.after(_ANSWER_S))
            reporter.event("running-on", "the job runs on")
        else:
            _end_job(capsule, launcher)
            reporter.event("ended", "the job has ended here")
        return manifest


class _Act:
    """One dump up to its commit; what can be learnt before the job stands still is learnt when it is made."""

    def __init__(
        self,
        capsule: Capsule,
        root: int,
        stopped_before: tuple[int, ...],
        store: ObjectStore,
        workload: Workload,
        order: CheckpointOrder,
        settings: Settings,
        reporter: Reporter,
    ) -> None:
        self._capsule = capsule
        self._root = root
        self._store = store
        self._workload = workload
        self._checkpoints = Checkpoints(store, workload)
        self._order = order
        self._settings = settings
        self._reporter = reporter
        self._identity, self._known = self._checkpoints.begin(Claim.ours(instance=order.instance))
        self._here = compat.facts(criu_version(settings.criu.bundle, order.deadline))
        self.stopped_before = stopped_before

    def dump_and_commit(self) -> Manifest:
        """Stop the tree, store it, commit it; it is still stopped then."""
        deadline = self._order.deadline
        with ChunkWriter(
            self._store,
            self._workload,
            settings=self._settings.store,
            known=self._known,
            deadline=deadline,
            on_progress=partial(self._reporter.transfer, "upload"),
        ) as writer:
            entry = entering.dump_entry(self._capsule.launcher_pid)
            outcome = Criu(self._settings.criu).dump(
                entry, entering.inner_pid(self._root), writer, deadline, node_pid=self._root
            )
            self._reporter.event("frozen", "the job stands still", at=outcome.frozen_at)
            survey = surveying.survey(find_tree(self._capsule.launcher_pid, self._root).members)
            trees = plan_changes(self._capsule, survey.written)
            archives = tuple(_write_archives(trees, writer, deadline))
            written = writer.finish()
        self._reporter.event("streamed", "everything is in the store", bytes=written.sizes.image_bytes)
        deadline.check("committing the checkpoint")
        manifest = self._manifest(survey, trees, archives, written, outcome)
        self._checkpoints.commit(manifest)
        message = f"checkpoint {manifest.checkpoint} is complete"
        self._reporter.event(
            "committed",
            message,
            checkpoint=manifest.checkpoint,
            image_bytes=written.sizes.image_bytes,
            stored_bytes=written.sizes.stored_bytes,
            processes=len(survey.processes),
        )
        return manifest

    def give_up(self) -> None:
        """Say in the store that this checkpoint will never be complete; it matters little if that fails."""
        with contextlib.suppress(CrikpyError):
            self._checkpoints.give_up(self._identity)

    def _manifest(
        self,
        survey: Survey,
        trees: Sequence[CarriedTree],
        archives: tuple[FileArchive, ...],
        written: WrittenImages,
        outcome: DumpOutcome,
    ) -> Manifest:
        return Manifest(
            format=names.FORMAT_VERSION,
            checkpoint=self._identity,
            workload=str(self._workload),
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            release=crikpy.__version__,
            origin=_origin(self._order),
            job=Job(
                command=self._order.command,
                root_pid=entering.inner_pid(self._root),
                highest_pid=survey.highest_pid,
                processes=survey.processes,
                stdio=survey.stdio,
                stopped=self.stopped_before,
                tiles=outcome.tiles,
            ),
            compatibility=self._here,
            images=_small_first(written),
            archives=archives,
            open_files=tuple(file for file in survey.files if not _travels(file.path, trees)),
            sizes=written.sizes,
            frozen_s=round(time.monotonic() - outcome.frozen_at, 3),
        )


def _find_root(capsule: Capsule, launcher: LauncherConnection) -> int:
    """Return the job's root process as the node sees it."""
    if launcher.greeting.phase is not JobPhase.RUNNING:
        raise CapsuleError(f"there is nothing to save: the job is {launcher.greeting.phase}")
    inside = {inner: outer for outer, inner in entering.members(capsule.launcher_pid).items()}
    try:
        return inside[launcher.greeting.job_pid]
    except KeyError as fault:
        raise CapsuleError("there is nothing to save: the job has just ended") from fault


def _refuse_unsupported(capsule: Capsule, root: int) -> tuple[int, ...]:
    """Raise for what CRIU could not save; return the PIDs inside of processes that a signal has stopped."""
    tree = find_tree(capsule.launcher_pid, root)
    survey = surveying.survey(tree.members)
    reasons = [*preflight.refusals(survey.views)]
    if tree.strays:
        reasons.append(f"{len(tree.strays)} of its processes left its tree: their parents ended before them")
    if reasons:
        raise UnsupportedJobError(f"the job cannot be saved: {'; '.join(reasons)}")
    return survey.stopped


def _write_archives(
    trees: Sequence[CarriedTree], writer: ChunkWriter, deadline: Deadline
) -> Iterator[FileArchive]:
    for number, tree in enumerate(trees):
        image = f"files/{number}.tar"
        with io.BufferedWriter(writer.file(image), _BUFFER_BYTES) as out:
            entries = write_archive(tree, out, deadline=deadline)
        yield FileArchive(image=image, kind=tree.kind, root=tree.root, entries=entries)


def _travels(path: str, trees: Sequence[CarriedTree]) -> bool:
    """Say whether the checkpoint carries a file, so that the restore's machine need not have it."""
    for tree in trees:
        relative = path.removeprefix(tree.root).lstrip("/")
        match tree.kind:
            case members.OVERLAY if os.path.lexists(tree.source / relative):
                return True
            case members.TREE if lies_in(path, tree.root):
                return True
            case members.FILES if relative in tree.names:
                return True
    return False


def _small_first(written: WrittenImages) -> tuple[StoredImage, ...]:
    """Order images as a restore asks for them: the many small ones before the memory."""
    return tuple(sorted(written.images, key=lambda image: (image.name.startswith("pages-"), image.name)))


def _origin(order: CheckpointOrder) -> Origin:
    here = Claim.ours(instance=order.instance)
    return Origin(
        host=here.host,
        instance=here.instance,
        boot_id=here.boot_id,
        trigger=order.trigger,
        notice=order.notice,
    )


@contextlib.contextmanager
def _let_go_on_failure(capsule: Capsule, act: _Act, reporter: Reporter) -> Iterator[None]:
    try:
        yield
    except BaseException:
        let_go(capsule, but=act.stopped_before)
        reporter.event("released", "the checkpoint failed; the job runs on")
        act.give_up()
        raise


def let_go(capsule: Capsule, *, but: Sequence[int]) -> None:
    """Continue every process of the capsule, except those that were stopped before, by their PIDs inside."""
    for outer, inner in entering.members(capsule.launcher_pid).items():
        if outer != capsule.launcher_pid and inner not in but:
            with contextlib.suppress(ProcessLookupError):
                os.kill(outer, signal.SIGCONT)


def kill_all(capsule: Capsule) -> None:
    """Kill every process of the capsule but the launcher."""
    for outer in entering.members(capsule.launcher_pid):
        if outer != capsule.launcher_pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(outer, signal.SIGKILL)


def _end_job(capsule: Capsule, launcher: LauncherConnection) -> None:
    """Kill what was saved, none of which can act any more, and have the launcher exit with 75."""
    kill_all(capsule)
    deadline = Deadline.after(_ANSWER_S)
    launcher.wait_ended(deadline)
    launcher.release(deadline, names.EXIT_CHECKPOINTED)
