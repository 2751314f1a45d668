"""The story of `crikpy run`: a named job on a plain machine, begun or resumed, watched, moved or finished.

One machine runs a name at a time (a lease in the store), a checkpoint is resumed at most once (a claim), and the
job outlives this process if that is killed. What is saved and how is told in checkpointing and restoring.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from crikpy import log, names, tracing
from crikpy.aio import retrying
from crikpy.aio.clock import Deadline
from crikpy.capsule import entering
from crikpy.capsule.changes import inherited_memory
from crikpy.capsule.launcher import LauncherConnection
from crikpy.capsule.making import CapsulePlan, PlainCapsule
from crikpy.capsule.places import JobPlace
from crikpy.criu.features import criu_version
from crikpy.ec2.imds import MetadataClient
from crikpy.errors import (
    CheckpointNotFoundError,
    CrikpyError,
    FormatVersionError,
    IncompatibleError,
    IntegrityError,
    MetadataError,
    SelfSaveError,
)
from crikpy.flows.attending import News, attend, signals_into
from crikpy.flows.checkpointing import checkpoint, unless_taken_over
from crikpy.flows.fate import Fate
from crikpy.flows.members import CheckpointOrder, Member
from crikpy.flows.reporting import Reporter
from crikpy.flows.restoring import Waiting, restore
from crikpy.metrics import Metrics
from crikpy.model.capsule import Capsule
from crikpy.model.manifest import Manifest
from crikpy.model.notices import Trigger
from crikpy.model.saving import SaveOptions
from crikpy.model.workload import Workload
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.leases import Lease, require_untaken
from crikpy.store.records import Claim

_log = logging.getLogger(__name__)

_BEGIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What the user asked for.

    Attributes:
        workload: the job's name and the group that it belongs to.
        store_url: where its checkpoints are, kept for other commands on this machine.
        command: what to run when there is nothing to resume.
        environment: the job's environment.
        carried: directories that travel with the job.
        excluded: paths that never travel.
        must_resume: fail when there is nothing to resume, instead of starting the command.
        start_on_failure: start the command when a checkpoint cannot be resumed here.
        saving: what the job hears of its checkpoints, and who saves it.
    """

    workload: Workload
    store_url: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    carried: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    must_resume: bool = False
    start_on_failure: bool = True
    saving: SaveOptions = field(default_factory=SaveOptions)


async def run_job(
    plan: RunPlan, store: ObjectStore, settings: Settings, reporter: Reporter, metrics: Metrics
) -> int:
    """Run a named job to its end or to its move.

    Returns:
        The job's exit status as a shell shows it, or 75 after a committed checkpoint.

    Raises:
        JobRunningError: the name is taken, here or elsewhere.
        CriuMissingError: no usable CRIU is here.
        CheckpointNotFoundError: there had to be something to resume and there is not.
        CrikpyError: the job could not be begun.
    """
    place = JobPlace(settings.run, plan.workload)
    place.require_free()
    # What could not be saved, or not be resumed for want of CRIU, is better not begun.
    await asyncio.to_thread(criu_version, settings.criu.bundle, Deadline.after(_BEGIN_S))
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(MetadataClient(settings.notices))
        instance = await _instance(client, settings)
        claim = Claim.ours(instance=instance)
        lease = await asyncio.to_thread(
            Lease.acquire, store, plan.workload, claim, settings.run.lease_s, partial(_tell_lost, reporter)
        )
        stack.callback(lease.release)
        # Only now: before we hold the name, what lies here may belong to one that is just beginning.
        place.require_free()
        place.remove()
        job = _RunningJob(plan, place, store, settings, reporter, claim)
        stack.callback(job.leave)
        # Signals wait until there is a job: one that ended us before would leave the job to itself.
        news: News = asyncio.Queue()
        stack.enter_context(signals_into(news))
        await asyncio.to_thread(job.begin)
        status = await attend(job, client, settings, metrics, news)
        await asyncio.to_thread(job.finish)
        return status


class _RunningJob:
    """The job, its capsule and its checkpoints (crikpy.flows.attending.AttendedJob)."""

    def __init__(
        self,
        plan: RunPlan,
        place: JobPlace,
        store: ObjectStore,
        settings: Settings,
        reporter: Reporter,
        claim: Claim,
    ) -> None:
        self._plan = plan
        self._place = place
        self._settings = settings
        self.reporter = reporter
        self._claim = claim
        self._store = store
        self._checkpoints = Checkpoints(store, plan.workload)
        self._begun = False

    def begin(self) -> None:
        """Make the capsule, and resume the newest checkpoint in it or start the command."""
        found = self._find()
        self._command = self._plan.command or (found.job.command if found else ())
        self.made = PlainCapsule(self._capsule_plan(), self._plan.environment)
        try:
            self.made.await_launcher()
            launcher = LauncherConnection(self._place.socket, Deadline.after(_BEGIN_S))
        except BaseException:
            self.made.child.kill_tree()
            raise
        with launcher:
            try:
                self._begin_held(launcher, found)
            except BaseException:
                # Before the connection ends: a launcher that is let go starts the job by itself.
                self.made.child.kill_tree()
                raise
        self._begun = True

    def _find(self) -> Manifest | None:
        """Return the checkpoint to resume, or None when the command shall be started."""
        try:
            found = self._checkpoints.newest_resumable()
        except (IntegrityError, FormatVersionError) as fault:
            if self._plan.must_resume or not self._plan.start_on_failure:
                raise
            self.reporter.event("cold-start", f"starting from the beginning instead: {fault}")
            return None
        if found is None and self._plan.must_resume:
            raise CheckpointNotFoundError(
                f"the store holds no checkpoint of {self._plan.workload.name} to resume",
                remedy="`crikpy list` shows what there is; `crikpy run` starts a job afresh",
            )
        return found

    def _begin_held(self, launcher: LauncherConnection, found: Manifest | None) -> None:
        launcher.hold(Deadline.after(_BEGIN_S))
        self.capsule = Capsule(
            launcher_pid=launcher.launcher_pid,
            socket=self._place.socket,
            carried=(str(self._place.temporary), *self._plan.carried),
            excluded=self._plan.excluded,
            inherited=inherited_memory(launcher.launcher_pid),
            hooks=str(self._place.hooks),
        )
        self._place.record(self._plan.store_url, self._command, self.capsule, self._claim.token, self._plan.saving)
        if found is None or not self._resume(launcher, found):
            self._start(launcher)
        launcher.release(Deadline.after(_BEGIN_S))

    def _start(self, launcher: LauncherConnection) -> None:
        entering.raise_last_pid(self.capsule.launcher_pid, names.PID_FLOOR, Deadline.after(_BEGIN_S))
        launcher.start(Deadline.after(_BEGIN_S))
        self.reporter.event("started", f"{self._plan.workload.name} starts from the beginning")

    def _resume(self, launcher: LauncherConnection, found: Manifest) -> bool:
        """Resume a checkpoint; return False when the command shall be started instead."""
        deadline = Deadline.after(self._settings.run.manual_deadline_s)
        waiting = Waiting(member=self._member(), launcher=launcher, manifest=found)
        self.reporter.event(
            "resuming", f"resuming checkpoint {found.checkpoint}, taken on {found.origin.host} at {found.created}"
        )
        try:
            with log.about(checkpoint=found.checkpoint):
                restore([waiting], self._store, self._claim, deadline, self._settings, self.reporter)
        except CrikpyError as fault:
            if self._plan.must_resume or not self._plan.start_on_failure:
                raise
            self.reporter.event("cold-start", f"starting from the beginning instead: {fault}")
            if not isinstance(fault, IncompatibleError):
                self._place.empty_temporary()
            return False
        return True

    def save(self, trigger: Trigger, deadline: Deadline, *, notice: str = "", fate: Fate | None = None) -> bool:
        """Checkpoint the job, again if that can help; return whether it was saved. With a fate it runs on."""
        leave_running = fate is not None
        order = CheckpointOrder(
            trigger=trigger,
            notice=notice,
            instance=self._claim.instance,
            deadline=deadline,
            leave_running=leave_running,
        )

        def mark(_: Manifest) -> None:
            if not leave_running:
                self._place.mark_moved()

        def attempt() -> Manifest:
            if fate is not None:
                fate.begin()
            return checkpoint(
                self._member(),
                self._store,
                order,
                self._settings,
                self.reporter,
                gate=fate,
                on_committed=unless_taken_over(self._store, self._plan.workload, self._claim.token, mark),
            )

        with log.about(trigger=trigger.value, notice=notice), tracing.rescue() as told:
            return self._attempt(attempt, deadline, told)

    def _attempt(self, attempt: Callable[[], Manifest], deadline: Deadline, told: tracing.Span) -> bool:
        """Save, again if that can help; say what came of it."""
        try:
            retrying.call(attempt, deadline=deadline)
        except SelfSaveError as fault:
            told.fail(fault)
            if fault.ended:
                self._place.mark_undone()
            self.reporter.event("not-saved", f"the job was not saved: {fault}", detail=fault.detail)
            return False
        except CrikpyError as fault:
            told.fail(fault)
            self.reporter.event("not-saved", f"the job was not saved and runs on: {fault}", detail=fault.detail)
            return False
        except Exception as defect:  # noqa: BLE001  # of ours; it must not end the job's attendance either
            told.fail(defect)
            _log.exception("a checkpoint failed of a defect in crikpy")
            self.reporter.event("not-saved", "the job was not saved and runs on: crikpy has a defect, see its log")
            return False
        return True

    @property
    def process(self) -> int:
        """PID whose end is that of the capsule."""
        return self.made.child.pid

    def wait(self, deadline: Deadline) -> int:
        """Return the exit status of a capsule that has ended."""
        return self.made.wait(deadline)

    def leave(self) -> None:
        """Remove the job's place, unless its capsule outlives us: then other commands must still find it."""
        if not self._begun or self.made.child.poll() is not None:
            self._place.remove()

    def finish(self) -> None:
        """Unless the job has moved, or its name has, see to it that nobody resumes what is done."""
        if self._place.moved() or self._place.undone():
            return
        try:
            require_untaken(self._store, self._plan.workload, self._claim.token)
            self._checkpoints.retire(self._claim)
        except CrikpyError as fault:
            _log.warning("earlier checkpoints of the finished job could not be retired: %s", fault)

    def pass_on(self, number: int) -> None:
        """Send a signal to the job, by way of its launcher."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.capsule.launcher_pid, number)

    def _member(self) -> Member:
        return Member(
            capsule=self.capsule,
            workload=self._plan.workload,
            command=self._command,
            saving=self._plan.saving,
        )

    def _capsule_plan(self) -> CapsulePlan:
        return CapsulePlan(
            launcher=self._settings.criu.launcher,
            socket=self._place.socket,
            temporary=self._place.temporary,
            command=self._command,
            agent_wait_s=self._settings.run.agent_wait_s,
        )


def _tell_lost(reporter: Reporter) -> None:
    reporter.event("name-lost", "another machine has taken this job's name, since the store was out of reach")


async def _instance(client: MetadataClient, settings: Settings) -> str:
    """Return the EC2 instance id, or nothing on a machine that is not EC2's."""
    if not settings.notices.imds_enabled:
        return ""
    try:
        return await client.instance_id()
    except MetadataError as fault:
        _log.warning("no metadata service answers, so no interruption notice will come: %s", fault)
        return ""
