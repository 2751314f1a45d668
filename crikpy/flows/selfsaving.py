"""The story of a checkpoint that jobs write themselves: they are asked to, and what they leave is stored.

It is the same checkpoint in all but its content: held, announced, committed last, claimed once. It has one risk of
its own: a job that has ended because it was asked to cannot be let go again. So nobody is asked before it is known
that somebody listens and that the store takes what comes; and who does not end or answer in time is left alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import crikpy
from crikpy import log, names
from crikpy.aio import retrying
from crikpy.aio.clock import Deadline
from crikpy.capsule.changes import Place, any_stays, place_of, plan_directories
from crikpy.capsule.mounts import read_mounts
from crikpy.criu import compat
from crikpy.criu.features import criu_version
from crikpy.errors import (
    CrikpyError,
    DeadlineError,
    FilesystemError,
    LauncherError,
    SelfSaveError,
    UnsupportedJobError,
)
from crikpy.flows.carrying import write_archives
from crikpy.flows.company import Alone, Company
from crikpy.flows.completing import completed
from crikpy.flows.dumping import Dump
from crikpy.flows.hooks import Hearer, Hooks, Outcome, handles
from crikpy.flows.members import CheckpointOrder, Gate, Member, OrderedGate
from crikpy.flows.reporting import Reporter, Silent, Transfers
from crikpy.flows.saving import Saved, hold_and_announce, origin, tell_committed
from crikpy.flows.undoing import let_go_on_failure
from crikpy.model.manifest import APPLICATION_MODE, Compatibility, FileArchive, Job, Manifest, Origin
from crikpy.model.saving import signal_name
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore

_MARGIN_SHARE = 0.25
_LEAST_MARGIN_S = 3.0
"""Of the time that is left, kept for storing what the jobs leave."""

_LAST_WORD_S = 1.0
"""How long an end that came instead of an answer may take to be known."""


class SelfSavedJob(Dump):
    """One member that saves itself.

    Attributes:
        ended: the status with which it has ended because it was asked to save itself; None while it has not.
    """

    ended: int | None = None

    @property
    def directories(self) -> tuple[str, ...]:
        """Where it saves itself."""
        return self.member.saving.application_directories

    def ask_by_signal(self) -> None:
        """Send its root the signal."""
        self.inhabitants.send(self.root_pid, self.member.saving.application_signal, only_if=handles)

    def has_ended(self) -> bool:
        """Say whether it has ended by now."""
        self.launcher.read_news()
        return self.launcher.ended_status is not None

    def await_end(self, deadline: Deadline, why: str) -> None:
        """Wait until it has ended, in a way that says that it has saved itself.

        Raises:
            SelfSaveError: it has not, or ended otherwise.
        """
        try:
            self.ended = self.launcher.wait_ended(deadline)
        except DeadlineError as late:
            raise SelfSaveError(
                f"{why}, and runs on", remedy="it may need more time, or ends by nothing"
            ) from late
        except LauncherError as gone:
            raise SelfSaveError("the job was killed while it saved itself") from gone
        self.can_run_on = False
        number = self.member.saving.application_signal
        if self.ended not in {0, names.EXIT_CHECKPOINTED, 128 + number}:
            raise SelfSaveError(f"the job has ended with status {self.ended} instead of saving itself")
        # With its root they would have ended, were the launcher not held.
        self.inhabitants.kill()

    def read_files(self, elsewhere: Collection[Place]) -> tuple[FileArchive, ...]:
        """Read what it has left, but for directories that travel with others; it is being stored.

        Raises:
            CrikpyError: a file cannot travel, the store failed or time ran out.
        """
        trees = plan_directories(self.directories, self.inhabitants.folder, elsewhere=elsewhere)
        return tuple(write_archives(trees, self._ready(), self._order.deadline))

    def fault_of_directories(self) -> str:
        """Return why they could not be read, or nothing; to be known before it is asked."""
        try:
            plan_directories(self.directories, self.inhabitants.folder)
        except FilesystemError as fault:
            return str(fault)
        return ""

    def leaves_unseen(self) -> bool:
        """Say whether it may have left something where it need not be read from, as the next machine sees it."""
        return any_stays(self.directories, self.inhabitants.folder)

    def places(self) -> list[Place]:
        """Return where its directories lie."""
        mounts = read_mounts(self.inhabitants.folder)
        return [place_of(directory, mounts) for directory in self.directories]

    def describe(self, archives: tuple[FileArchive, ...], *, here: Compatibility, origin: Origin) -> Manifest:
        """Describe what was read; images and sizes come later."""
        return Manifest(
            format=names.FORMAT_VERSION,
            checkpoint=self._checkpoint,
            workload=str(self.member.workload),
            created="",
            release=crikpy.__version__,
            origin=origin,
            job=Job(
                command=self.member.command,
                root_pid=self.root_pid,
                highest_pid=self.root_pid,
                processes=(),
                stdio=(),
            ),
            compatibility=here,
            images=(),
            archives=archives,
            mode=APPLICATION_MODE,
        )


def save_themselves(
    members: Sequence[Member],
    store: ObjectStore,
    order: CheckpointOrder,
    settings: Settings,
    reporter: Reporter,
    *,
    gate: Gate | None = None,
    company: Company | None = None,
) -> Saved:
    """Have jobs save themselves, all or none, and store what they leave; arguments as in crikpy.flows.saving.save.

    Returns:
        The jobs, held: ended, or stopped where they have answered, unless they go on.

    Raises:
        UnsupportedJobError: one cannot save itself; none was asked.
        SelfSaveError: they were asked, and it came to nothing. Those that have ended leave their launchers with
            their own status, the others run on.
        CrikpyError: something else failed before they were asked.
    """
    ordered = sorted(members, key=lambda member: member.workload)
    company = company or Alone()
    with contextlib.ExitStack() as stack, company:
        jobs = [stack.enter_context(SelfSavedJob(member, store, order, settings)) for member in ordered]
        hooks = Hooks([job.hearer for job in jobs], reporter)
        called = _require_able(jobs, hooks, order)
        version = criu_version(settings.criu.bundle, order.deadline)
        with let_go_on_failure(jobs, hooks, reporter):
            log.learn(checkpoint=hold_and_announce(jobs, order))
            company.ready()
            with _told_as_whole(jobs):
                _ask(jobs, called, hooks, order, reporter)
                frozen_at = min((job.stop() for job in jobs if job.can_run_on), default=0.0)
                if frozen_at:
                    reporter.event("frozen", "the job stands still", at=frozen_at)
                # The others are not waited for before: they may take longer, and an ended job loses nothing.
                with company.room():
                    found = retrying.call(lambda: _read(jobs, reporter), deadline=order.deadline)
                thawed_at = _go_on(jobs, gate or OrderedGate(order), hooks, frozen_at, reporter)
                written = [job.store() for job in jobs]
                frozen_s = (thawed_at or time.monotonic()) - frozen_at if frozen_at else 0.0
                manifests = [
                    completed(
                        job.describe(
                            archives, here=compat.facts(version, job.member.image), origin=origin(order, jobs)
                        ),
                        images,
                        frozen_s,
                    )
                    for job, archives, images in zip(jobs, found, written, strict=True)
                ]
                for job, manifest in zip(jobs, manifests, strict=True):
                    _commit(job, manifest, order)
                company.stored()
            tell_committed(manifests, reporter)
        stack.pop_all()
    of_workload = {manifest.workload: manifest for manifest in manifests}
    return Saved(jobs, [of_workload[str(member.workload)] for member in members], hooks, reporter)


def obstacle(hearer: Hearer, *, leave_running: bool = False) -> str:
    """Return why a job could not save itself as it is now; empty when it could.

    Args:
        hearer: the job.
        leave_running: whether it would have to run on afterwards.
    """
    [called] = Hooks([hearer], Silent()).savers()
    return _obstacle(hearer, called=called, leave_running=leave_running)


def _obstacle(hearer: Hearer, *, called: bool, leave_running: bool) -> str:
    """Return why a job cannot save itself, or nothing.

    Args:
        hearer: the job.
        called: a process of it is called by crikpy.job.
        leave_running: it is to run on afterwards.
    """
    options = hearer.member.saving
    if not options.application_directories:
        return f"nobody says in which directory it does ({names.APPLICATION_DIRECTORY}, or --carry)"
    if leave_running and not called:
        return "it is to run on afterwards, for which it has to use crikpy.job.on_save"
    if not called and not _handles(hearer, options.application_signal):
        signal = signal_name(options.application_signal)
        return f"its first process neither handles {signal} nor uses crikpy.job.on_save"
    return ""


def _handles(hearer: Hearer, number: int) -> bool:
    root = hearer.inhabitants.outside().get(hearer.root_pid)
    return root is not None and handles(Path(f"/proc/{root}"), number)


def _require_able(jobs: Sequence[SelfSavedJob], hooks: Hooks, order: CheckpointOrder) -> tuple[bool, ...]:
    """Say for each job whether it is called by crikpy.job, and not by a signal.

    Raises:
        UnsupportedJobError: naming why one can be asked by neither.
    """
    called = hooks.savers()
    found = [
        _obstacle(hearer, called=by_call, leave_running=order.leave_running)
        for hearer, by_call in zip(hooks.hearers, called, strict=True)
    ]
    found += [job.fault_of_directories() for job in jobs]
    if faults := [fault for fault in dict.fromkeys(found) if fault]:
        raise UnsupportedJobError(f"the job cannot save itself: {'; '.join(faults)}")
    return called


def _ask(
    jobs: Sequence[SelfSavedJob],
    called: Sequence[bool],
    hooks: Hooks,
    order: CheckpointOrder,
    reporter: Reporter,
) -> None:
    """Ask all at once, and wait until each has ended or answered.

    Raises:
        SelfSaveError: one has not, or not in time.
    """
    left_s = order.deadline.remaining()
    limit = Deadline.after(left_s - max(_LEAST_MARGIN_S, left_s * _MARGIN_SHARE))
    limit.check("asking the job to save itself")
    reporter.event("asked", "the job is asked to save itself", within_s=round(limit.remaining(), 1))
    for job, by_call in zip(jobs, called, strict=True):
        if not by_call:
            job.ask_by_signal()
    answers = hooks.save(limit) if any(called) else ("",) * len(jobs)
    late = f"the job has not saved itself within {left_s:.0f} s"
    for job, by_call, fault in zip(jobs, called, answers, strict=True):
        if not by_call:
            job.await_end(limit, late)
        elif fault or job.has_ended():
            job.await_end(Deadline.after(_LAST_WORD_S), f"the job has not saved itself: {fault}")


def _read(jobs: Sequence[SelfSavedJob], reporter: Reporter) -> list[tuple[FileArchive, ...]]:
    """Read what all have left, one after another, and store all but the last of it.

    Raises:
        SelfSaveError: they have left nothing.
        CrikpyError: a file cannot travel, the store failed or time ran out.
    """
    transfers = Transfers(reporter, "upload")
    found: list[tuple[FileArchive, ...]] = []
    elsewhere: list[Place] = []
    for job in jobs:
        job.prepare(transfers.begin())
        found.append(job.read_files(elsewhere))
        elsewhere += job.places()
        job.store()
    read = any(archive.entries > 1 for archives in found for archive in archives)
    if not read and not any(job.leaves_unseen() for job in jobs):
        where = ", ".join(dict.fromkeys(directory for job in jobs for directory in job.directories))
        raise SelfSaveError(f"the job has left nothing in {where}")
    return found


def _go_on(
    jobs: Sequence[SelfSavedJob], gate: Gate, hooks: Hooks, frozen_at: float, reporter: Reporter
) -> float | None:
    """Let those run on that can, if the gate opens; return the monotonic time at which they did."""
    if not gate.opens(lambda reason: None) or not all(job.can_run_on for job in jobs):
        return None
    for job in jobs:
        job.go_on()
    thawed_at = time.monotonic()
    reporter.event("thawed", "the job runs on while its checkpoint is completed", frozen_s=thawed_at - frozen_at)
    hooks.after(Outcome.CONTINUED)
    return thawed_at


def _commit(job: SelfSavedJob, manifest: Manifest, order: CheckpointOrder) -> None:
    """Commit; the same manifest may be tried again, for the job cannot be asked again."""
    order.deadline.check("committing the checkpoint")
    retrying.call(lambda: job.commit(manifest), deadline=order.deadline)


@contextlib.contextmanager
def _told_as_whole(jobs: Sequence[SelfSavedJob]) -> Iterator[None]:
    """Have an error say what has become of jobs that were asked; nobody is to ask them again for it."""
    try:
        yield
    except CrikpyError as fault:
        ended = [str(job.ended) for job in jobs if job.ended is not None]
        if isinstance(fault, SelfSaveError) and not ended:
            raise
        what = f"the job has ended with status {', '.join(ended)} as it was asked to" if ended else "it runs on"
        told = SelfSaveError(f"{what}, and was not saved: {fault}", detail=fault.detail)
        told.ended = bool(ended)
        raise told from fault
