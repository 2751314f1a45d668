"""The story of one restore, from a complete checkpoint to jobs that go on in waiting capsules: all, or none.

Nothing is touched before it is known that the checkpoint fits everywhere, and it is claimed before anything of it
runs: a checkpoint is resumed at most once. No job goes on before all of them stand again. What a failed restore
means for the jobs is the caller's decision; here it only leaves the capsules empty again and the checkpoint in
quarantine.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from crikpy import names, tracing
from crikpy.aio import retrying
from crikpy.aio.clock import Deadline
from crikpy.capsule import confinement, entering, stdio
from crikpy.capsule.applying import apply_archive
from crikpy.capsule.beneath import opened_trusted, stat_inside, touching
from crikpy.capsule.changes import mounts_to_spare
from crikpy.capsule.holding import folder_of
from crikpy.capsule.launcher import LauncherConnection
from crikpy.capsule.mounts import read_mounts
from crikpy.criu import compat
from crikpy.criu.argv import InheritedPipe
from crikpy.criu.features import criu_version
from crikpy.criu.running import Criu
from crikpy.errors import CapsuleError, CheckpointClaimedError, CrikpyError, CriuError, IncompatibleError
from crikpy.flows import devices, gpus
from crikpy.flows.company import Alone, Company
from crikpy.flows.hooks import Hearer, Hooks, Outcome
from crikpy.flows.members import Member
from crikpy.flows.reporting import Reporter, Transfers
from crikpy.flows.stopping import Inhabitants
from crikpy.flows.surroundings import Adapted, adapted, network_differences
from crikpy.model.manifest import APPLICATION_MODE, PROCESS_MODE, Job, Manifest, StoredImage
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.reading import ChunkReader
from crikpy.store.records import Claim

_BUFFER_BYTES = 1024 * 1024

_SPARE_PIDS = 64
"""Programs that enter the capsule get PIDs this far above the job's own."""


_GONE_S = 0.2
"""A capsule that is being killed has ended once all of its processes have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A capsule whose job is to be resumed.

    Attributes:
        member: the capsule, the workload whose checkpoint it is, and the image that it runs.
        launcher: holds the capsule's launcher, which waits.
        manifest: the workload's part of the checkpoint.
    """

    member: Member
    launcher: LauncherConnection
    manifest: Manifest


def restore(
    waiting: Sequence[Waiting],
    store: ObjectStore,
    claim: Claim,
    deadline: Deadline,
    settings: Settings,
    reporter: Reporter,
    *,
    company: Company | None = None,
) -> None:
    """Resume a checkpoint in all the capsules that it was taken of.

    On return the jobs run and their launchers are still held; those that had saved themselves begin with their
    files. Tells the reporter `claimed` (fact `checkpoint`) and `resumed` (`pids`, `pid` the first of them), or
    `restore-failed`; and `connections-cut` where connections that a job has with itself could have been kept but
    CRIU does not bring them back.

    Args:
        waiting: the capsules; their manifests are of one checkpoint.
        store: where from.
        claim: who resumes it.
        deadline: when the jobs must run.
        settings: which CRIU, how much memory.
        reporter: hears the story.
        company: the other pods of their group, with which they go on or not at all; alone without.

    Raises:
        GroupError: another pod of the group could not be restored; the capsules are empty.
        IncompatibleError: it does not fit here, or not as a whole; nothing was touched, it is still there to be
            resumed.
        CheckpointClaimedError: somebody else has resumed it, or its job has finished; nothing was touched.
        StoreUnavailableError, DeadlineError: it could not be claimed; nothing was touched.
        CapsuleError: a capsule has ended meanwhile; what that kept from succeeding is its cause.
        CrikpyError: the restore failed; the capsules are empty, the checkpoint is in quarantine. A launcher still
            waits, unless it had adopted its job already and says now that this has ended.
    """
    ordered = sorted(waiting, key=lambda one: one.member.workload)
    company = company or Alone()
    parent = ordered[0].manifest.origin.trace if ordered else ""
    with tracing.act("resume", parent) as told, contextlib.ExitStack() as stack, company:
        capsules = [
            stack.enter_context(Inhabitants(one.launcher.launcher_pid, one.member.capsule.launcher))
            for one in ordered
        ]
        stack.enter_context(_says_when_gone(capsules))
        with tracing.step("compare"):
            require_fit(ordered, settings, deadline)
        with tracing.step("claim"):
            _claim_all(ordered, store, claim, deadline)
        checkpoint = ordered[0].manifest.checkpoint
        reporter.event("claimed", f"checkpoint {checkpoint} is ours", checkpoint=checkpoint)
        with _all_or_none(ordered, capsules, store, reporter):
            parts = list(zip(ordered, capsules, strict=True))
            with company.room():
                _bring_back(parts, store, deadline, settings, reporter)
                # Before they are adopted: if we are killed now they begin anew, and none hangs without its GPU.
                restored = [(capsule, one.manifest) for one, capsule in parts if not _saved_itself(one)]
                devices.bring_back(restored, settings, deadline)
            company.restored()
            with tracing.step("adopt"):
                pids = [_begin(one, capsule, deadline) for one, capsule in parts]
        with tracing.step("go on"):
            for one, capsule in parts:
                alarmed = set(one.manifest.job.alarmed).difference(one.manifest.job.stopped)
                unheard = capsule.unheard_alarms(alarmed)
                capsule.let_go(but=one.manifest.job.stopped)
                capsule.ring(unheard)
        told.note(processes=sum(len(one.manifest.job.processes) for one in ordered))
        text = "the job goes on" if len(pids) == 1 else "the jobs go on"
        reporter.event("resumed", text, pid=pids[0], pids=pids)
        _hooks(parts, reporter).after(Outcome.MOVED)


def require_fit(waiting: Sequence[Waiting], settings: Settings, deadline: Deadline) -> None:
    """Compare a checkpoint with this machine, and with the capsules as a whole.

    Raises:
        IncompatibleError: naming everything that differs.
    """
    version = criu_version(settings.criu.bundle, deadline)
    differences = list(_part_differences(waiting))
    for one in waiting:
        if _saved_itself(one):
            continue  # it begins like any other
        here = compat.facts(version, one.member.image)
        found = (
            *compat.differences(one.manifest.compatibility, here),
            *_file_differences(one),
            *network_differences(one.manifest.network, one.member.capsule.launcher_pid),
            *_confinement_differences(one, settings),
            *gpus.differences(one.manifest, folder_of(one.member.capsule.launcher_pid), settings, deadline),
        )
        differences += [difference for difference in found if difference not in differences]
    if differences:
        raise IncompatibleError(
            f"checkpoint {waiting[0].manifest.checkpoint} does not fit this machine: {'; '.join(differences)}",
            remedy="resume it on a machine like the one it was taken on; it is kept",
        )


def machine_differences(manifests: Sequence[Manifest], settings: Settings, deadline: Deadline) -> tuple[str, ...]:
    """Return what of this machine keeps a checkpoint from being resumed, and another might have; or nothing."""
    here = compat.facts(criu_version(settings.criu.bundle, deadline))
    found: list[str] = []
    for each in manifests:
        if each.mode == PROCESS_MODE:
            found += compat.machine_differences(each.compatibility, here)
            found += gpus.node_differences(each, settings)
    return tuple(dict.fromkeys(found))


def _part_differences(waiting: Sequence[Waiting]) -> Iterator[str]:
    """Yield why these are not the capsules that were saved together."""
    here = sorted(one.member.workload.name for one in waiting)
    for one in waiting:
        if one.manifest.checkpoint != waiting[0].manifest.checkpoint:
            yield f"{one.member.workload.name} is of another checkpoint, {one.manifest.checkpoint}"
        together = sorted(one.manifest.origin.together or (one.member.workload.name,))
        if together != here:
            yield f"{', '.join(together)} were saved together, {', '.join(here)} are to be resumed"
        if one.manifest.mode not in (PROCESS_MODE, APPLICATION_MODE):
            yield f"{one.member.workload.name} was saved in a way that only a later release knows"
        # A pod of the same name may have been given other words since; on a machine the name alone is the job.
        command = one.manifest.job.command
        if one.manifest.origin.pod_uid and command and one.member.command and command != one.member.command:
            yield f"the command of {one.member.workload.name} has changed"


def _file_differences(one: Waiting) -> Iterator[str]:
    """Yield what is wrong with the files that the job has open and that the machine must have by itself."""
    view = folder_of(one.member.capsule.launcher_pid) / "root"
    for file in one.manifest.open_files:
        try:
            size = stat_inside(view, file.path).st_size
        except OSError:
            yield f"file {file.path} is missing here"
            continue
        if size != file.size:
            yield f"file {file.path} has {size} bytes here, {file.size} there"


def _confinement_differences(one: Waiting, settings: Settings) -> Iterator[str]:
    """Yield the profile that the job was confined by, if it is to be again and this node does not have it."""
    job, container = one.manifest.job, confinement.profile_of(one.member.capsule.launcher_pid)
    if not job.apparmor or job.apparmor == container or container not in {"", job.container_apparmor}:
        return
    if not confinement.is_loaded(job.apparmor, settings.criu.node_root):
        yield f"the AppArmor profile {job.apparmor} is not loaded here"


def _begin(one: Waiting, capsule: Inhabitants, deadline: Deadline) -> int:
    """Have a job go on that stands again, or begin with its own files in place; return its PID inside."""
    if not _saved_itself(one):
        return one.launcher.adopt(one.manifest.job.root_pid, deadline).job_pid
    entering.raise_last_pid(capsule.folder, names.PID_FLOOR, deadline)
    return one.launcher.start(deadline).job_pid


def _hooks(parts: Sequence[tuple[Waiting, Inhabitants]], reporter: Reporter) -> Hooks:
    """Return those who hear that they were moved; who has just begun listens to nobody."""
    hearers = [
        Hearer(member=one.member, inhabitants=capsule, root_pid=one.manifest.job.root_pid)
        for one, capsule in parts
        if not _saved_itself(one)
    ]
    return Hooks(hearers, reporter)


def _saved_itself(one: Waiting) -> bool:
    return one.manifest.mode == APPLICATION_MODE


def _claim_all(ordered: Sequence[Waiting], store: ObjectStore, claim: Claim, deadline: Deadline) -> None:
    """Claim every part, the first workload's first: whoever gets that one gets the others."""
    # A claim of this attempt alone, so that trying it again can tell our own from any other.
    ours = claim.anew()
    for number, one in enumerate(ordered):
        act = partial(Checkpoints(store, one.member.workload).claim, one.manifest.checkpoint, ours)
        if number == 0:
            act()
        else:
            retrying.call(act, deadline=deadline)


def _bring_back(
    ordered: Sequence[tuple[Waiting, Inhabitants]],
    store: ObjectStore,
    deadline: Deadline,
    settings: Settings,
    reporter: Reporter,
) -> None:
    """Put all files in place, then make all processes, which stay stopped: they may share files."""
    total = sum(image.size for one, _ in ordered for image in one.manifest.job_images)
    transfers = Transfers(reporter, "download", total)

    def reader(one: Waiting, images: Sequence[StoredImage]) -> ChunkReader:
        return ChunkReader(
            store,
            one.member.workload,
            images,
            settings=settings.store,
            deadline=deadline,
            on_progress=transfers.begin(),
        )

    divided = [(one, capsule.folder, *_archives_apart(one.manifest)) for one, capsule in ordered]
    for one, launcher, archives, _ in divided:
        if archives:
            with tracing.step("files"), reader(one, archives) as source:
                _apply_archives(one.manifest, launcher, source, deadline)

    def restored(one: Waiting, launcher: Path, images: Sequence[StoredImage], *, cut: bool) -> bool:
        with tracing.step("restore"), reader(one, images) as source:
            fitting = adapted(one.manifest, source, launcher, cut=cut)
            try:
                _restore_processes(one.manifest.job, launcher, fitting, settings, deadline)
            except CriuError as fault:
                if not fitting.kept:
                    raise
                text = f"the connections that the job has with itself are cut, since they cannot be kept: {fault}"
                reporter.event("connections-cut", text)
                return False
        return True

    for one, launcher, _, images in divided:
        if _saved_itself(one):
            continue
        # A job that has to connect anew is better than none.
        if not restored(one, launcher, images, cut=False):
            restored(one, launcher, images, cut=True)


def _archives_apart(manifest: Manifest) -> tuple[list[StoredImage], list[StoredImage]]:
    """Return the images that hold archives, and CRIU's own."""
    archived = {archive.image for archive in manifest.archives}
    return (
        [image for image in manifest.job_images if image.name in archived],
        [image for image in manifest.job_images if image.name not in archived],
    )


def _apply_archives(manifest: Manifest, launcher: Path, reader: ChunkReader, deadline: Deadline) -> None:
    mounts = read_mounts(launcher)
    with touching("open", "/"), opened_trusted(launcher / "root") as root:
        for archive in manifest.archives:
            with io.BufferedReader(reader.file(archive.image), _BUFFER_BYTES) as source:
                spared = mounts_to_spare(archive, mounts)
                apply_archive(source, root, archive, spared, deadline=deadline, keep=manifest.checkpoint)


def _restore_processes(job: Job, launcher: Path, images: Adapted, settings: Settings, deadline: Deadline) -> None:
    """Have CRIU make the tree, its helpers' and its later children's PIDs kept clear of the tree's own."""
    entering.raise_last_pid(launcher, entering.clear_last_pid(job.highest_pid + _SPARE_PIDS), deadline)
    replacements = stdio.open_replacements(launcher, job.stdio)
    try:
        pipes = [InheritedPipe(descriptor=descriptor, identity=identity) for descriptor, identity in replacements]
        entry = entering.restore_entry(launcher)
        confined = confinement.profile_of(launcher)
        Criu(settings.criu).restore(
            entry,
            images.source,
            pipes,
            deadline,
            keeps_connections=bool(images.kept),
            may_use_tiles=job.tiles,
            lost_sessions=job.lost_sessions,
            # In a container like its last one it has its own again, and so have its children.
            apparmor=confined if confined != job.container_apparmor else "",
        )
    finally:
        for descriptor, _ in replacements:
            os.close(descriptor)
    entering.raise_last_pid(launcher, entering.clear_last_pid(job.highest_pid), deadline)


@contextlib.contextmanager
def _says_when_gone(capsules: Sequence[Inhabitants]) -> Iterator[None]:
    """Have an error say that a capsule has ended: by itself it tells only of what was not to be found any more."""
    try:
        yield
    except CheckpointClaimedError:
        raise
    except CrikpyError as fault:
        if any(capsule.gone(within_s=_GONE_S) for capsule in capsules):
            text = f"the new capsule has ended while a checkpoint was being resumed in it: {fault.message}"
            raise CapsuleError(text, detail=fault.detail) from fault
        raise


@contextlib.contextmanager
def _all_or_none(
    ordered: Sequence[Waiting], capsules: Sequence[Inhabitants], store: ObjectStore, reporter: Reporter
) -> Iterator[None]:
    """On a failure leave nothing of any job, and see to it that nobody tries this checkpoint again."""
    try:
        yield
    except BaseException as fault:
        for capsule in capsules:
            capsule.kill()
        if isinstance(fault, Exception):
            checkpoint = ordered[0].manifest.checkpoint
            reporter.event("restore-failed", f"checkpoint {checkpoint} could not be resumed: {fault}")
            for one in ordered:
                with contextlib.suppress(CrikpyError):
                    Checkpoints(store, one.member.workload).quarantine(checkpoint, str(fault))
        raise
