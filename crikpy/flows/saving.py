"""The story of one checkpoint of capsules that belong together: all of them are saved, or none.

The commit gate: every job that is to end stays stopped until every manifest stands in the store. Whatever fails
before, all jobs are let go and run on, and what stands already is put in quarantine; only after it may they be
killed. Jobs that are to run on stand still only until all of them are read. Nothing here decides whether to save,
nor what becomes of the jobs afterwards.
"""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

from crikpy import log, tracing
from crikpy.aio.clock import Deadline
from crikpy.capsule.changes import Place
from crikpy.criu import compat
from crikpy.criu.features import criu_version
from crikpy.errors import CrikpyError, DeadlineError, LauncherError, UnsupportedJobError
from crikpy.flows import devices
from crikpy.flows.company import Alone, Company
from crikpy.flows.completing import completed
from crikpy.flows.dumping import ANSWER_S, Dump, Read
from crikpy.flows.hooks import Hooks, Outcome
from crikpy.flows.members import CheckpointOrder, Gate, Member, OrderedGate
from crikpy.flows.reporting import Reporter, Transfers
from crikpy.flows.undoing import give_back, let_go, let_go_on_failure, undo
from crikpy.model.manifest import Manifest, Origin
from crikpy.model.streams import WrittenImages
from crikpy.settings import Settings
from crikpy.store import layout
from crikpy.store.base import ObjectStore
from crikpy.store.records import Claim

__all__ = ["CheckpointOrder", "Member", "Saved", "save"]

_SLICE_S = 0.2
"""How long another thread's decision may wait for one that listens."""


def save(
    members: Sequence[Member],
    store: ObjectStore,
    order: CheckpointOrder,
    settings: Settings,
    reporter: Reporter,
    *,
    gate: Gate | None = None,
    company: Company | None = None,
) -> Saved:
    """Save jobs together: all stand still before the first is dumped, and none is saved unless all are.

    Tells the reporter `frozen` (fact `at`, monotonic), `thawed` (`frozen_s`) where they go on early, `streamed`
    (`bytes`) and `committed` (`checkpoint`, `image_bytes`, `stored_bytes`, `reused_bytes`, `processes`), once each
    for all; on failure `released`, unless they go on already. Unless they do, `order.leave_running` is the
    caller's to obey, by run_on() or end().

    Args:
        members: the capsules; their workloads differ.
        store: where to.
        order: why and until when.
        settings: which CRIU, how much memory.
        reporter: hears the story.
        gate: asked whether the jobs go on once they are read; the order says so by itself otherwise.
        company: the other pods of their group, with which they are saved or not at all; alone without.

    Returns:
        The jobs, held, and still stopped unless they went on early; every manifest stands in the store.

    Raises:
        CrikpyError: saying what failed; all jobs run on, and manifests that stood already are in quarantine.
            LauncherError when another act holds a launcher; UnsupportedJobError when CRIU could not save a job.
            Neither has stopped any, nor left anything in the store. GroupError when another pod of the group could
            not be saved.
    """
    ordered = sorted(members, key=lambda member: member.workload)
    company = company or Alone()
    with tracing.act("save") as told, contextlib.ExitStack() as stack, company:
        with tracing.step("prepare"):
            dumps = [stack.enter_context(Dump(member, store, order, settings)) for member in ordered]
            _refuse_unsupported(dumps)
            # What can be learnt before the jobs stand still is learnt now.
            version = criu_version(settings.criu.bundle, order.deadline)
        hooks = Hooks([dump.hearer for dump in dumps], reporter)
        with let_go_on_failure(dumps, hooks, reporter):
            with tracing.step("announce"):
                log.learn(checkpoint=hold_and_announce(dumps, order))
                company.ready()
            transfers = Transfers(reporter, "upload")
            with tracing.step("freeze"):
                hooks.before(order.deadline)
                halted_at = devices.take([(dump.devices, dump.tree) for dump in dumps], order.deadline)
                if company.alone:
                    dumps[0].prepare(transfers.begin())
                frozen_at = _stop(dumps, halted_at, reporter)
                company.frozen()
            with tracing.step("dump"):
                if not company.alone:  # there is room only now
                    dumps[0].prepare(transfers.begin())
                read = _read(dumps, transfers)
                drafts = [
                    dump.draft(
                        found,
                        here=compat.facts(version, dump.member.image),
                        origin=origin(order, dumps),
                        carried=_places(read),
                    )
                    for dump, found in zip(dumps, read, strict=True)
                ]
            thawed_at = _go_on(dumps, gate or OrderedGate(order), frozen_at, reporter)
            if thawed_at is not None:
                hooks.after(Outcome.CONTINUED)
            with tracing.step("store"):
                written = _store(dumps, reporter)
            frozen_s = (thawed_at or time.monotonic()) - frozen_at
            manifests = [completed(draft, images, frozen_s) for draft, images in zip(drafts, written, strict=True)]
            order.deadline.check("committing the checkpoint")
            with tracing.step("commit"):
                for dump, manifest in zip(dumps, manifests, strict=True):
                    dump.commit(manifest)
                company.stored()
            told.note(frozen_s=frozen_s, **tell_committed(manifests, reporter))
        stack.pop_all()
    of_workload = {manifest.workload: manifest for manifest in manifests}
    return Saved(dumps, [of_workload[str(member.workload)] for member in members], hooks, reporter)


class Saved:
    """Jobs whose checkpoint is complete, most of them still stopped, until it is decided what becomes of them.

    Its connections hold the launchers, so it has to be kept. A context: left without a decision, the jobs run on.
    Every method may be called from any thread, and from several at once; the first decision stands.

    Attributes:
        checkpoint: id of the checkpoint, the same for all members.
        can_run_on: the jobs can go on here; those that have saved themselves and ended cannot.
        manifests: one for each member, in the order in which they were given.
    """

    def __init__(
        self, dumps: Sequence[Dump], manifests: Sequence[Manifest], hooks: Hooks, reporter: Reporter
    ) -> None:
        self.checkpoint = manifests[0].checkpoint
        self.manifests = tuple(manifests)
        self.can_run_on = all(dump.can_run_on for dump in dumps)
        self._dumps = tuple(dumps)
        self._hooks = hooks
        self._reporter = reporter
        self._undecided = threading.Lock()
        self._decided = threading.Event()
        self._lock = threading.Lock()
        """Kept by whoever uses the connections."""

    def __enter__(self) -> Saved:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run_on()

    def run_on(self) -> None:
        """Let the jobs go on, but for processes that were stopped before, and let go of their launchers.

        Jobs that cannot go on have ended for the sake of their checkpoint, and are ended as such.
        """
        if not self.can_run_on:
            with contextlib.suppress(CrikpyError):
                self.end()
            return
        with self._decision() as first:
            if first:
                let_go(self._dumps, self._reporter)
                self._reporter.event("running-on", "the job runs on")
                self._hooks.after(Outcome.CONTINUED)

    def resumed_elsewhere(self) -> bool:
        """Say whether another pod has taken the jobs over, so that they must not go on here; asks the store.

        Raises:
            StoreError: the store does not tell.
        """
        return self._dumps[0].resumed_elsewhere()

    def withdraw(self, reason: str) -> None:
        """Let the jobs go on, and put the checkpoint in quarantine, as if saving had failed."""
        with self._decision() as first:
            if first:
                undo(self._dumps, self._hooks, self._reporter, reason)

    def end(self) -> None:
        """Kill the jobs, none of which can act any more, and have each launcher exit with status 75.

        A SIGTERM that waits for an answer is done with then. A capsule that is gone already has ended too.

        Raises:
            CrikpyError: a launcher did not answer; the jobs are dead all the same.
        """
        with self._decision() as first:
            if not first:
                return
            for dump in self._dumps:
                dump.inhabitants.kill()
            faults: list[CrikpyError] = []
            deadline = Deadline.after(ANSWER_S)
            for dump in self._dumps:
                try:
                    dump.end(deadline)
                except (LauncherError, DeadlineError) as fault:
                    faults.append(fault)
            self._reporter.event("ended", "the job has ended here")
            if faults:
                raise faults[0]

    def wait_term(self, deadline: Deadline) -> bool:
        """Wait until the jobs have to end; return False when nothing has asked for that in time.

        It is True once a launcher has got a SIGTERM (since `save` connected to it), and once one of the capsules
        or its job is gone: killed by kubelet or for want of memory, and the others cannot go on without it. It is
        False at the deadline, and soon after another thread has decided.
        """
        while not self._decided.is_set():
            with self._lock:
                if not self._decided.is_set() and self._must_end(min(_SLICE_S, deadline.remaining())):
                    return True
            if deadline.expired():
                break
        return False

    @contextlib.contextmanager
    def _decision(self) -> Iterator[bool]:
        """Say whether this is the first decision; hang up when it is carried out."""
        first = self._undecided.acquire(blocking=False)
        self._decided.set()
        with self._lock:
            try:
                yield first
            finally:
                if first:
                    for dump in self._dumps:
                        dump.close()

    def _must_end(self, within_s: float) -> bool:
        if any(map(_must_end, self._dumps)):
            return True
        poll = select.poll()
        for dump in self._dumps:
            poll.register(dump.launcher, select.POLLIN)
        poll.poll(within_s * 1000)
        return any(map(_must_end, self._dumps))


def _must_end(dump: Dump) -> bool:
    launcher = dump.launcher
    try:
        launcher.read_news()
    except LauncherError:
        return True
    except DeadlineError:
        return False  # it is in the middle of a word
    return launcher.term_pending or (launcher.ended_status is not None and dump.can_run_on)


def _refuse_unsupported(dumps: Sequence[Dump]) -> None:
    reasons: list[str] = []
    for dump in dumps:
        whose = f"{dump.member.workload.name}: " if len(dumps) > 1 else ""
        reasons += [f"{whose}{reason}" for reason in dump.refusals()]
    if reasons:
        raise UnsupportedJobError(f"the job cannot be saved: {'; '.join(reasons)}")


def hold_and_announce(dumps: Sequence[Dump], order: CheckpointOrder) -> str:
    """Keep others away, then begin in the store; so whoever is refused leaves nothing there. Return the id."""
    for dump in dumps:
        dump.hold()
    claim, checkpoint = Claim.ours(instance=order.instance), layout.new_checkpoint_id()
    for dump in dumps:
        dump.announce(claim, checkpoint)
    return checkpoint


def _stop(dumps: Sequence[Dump], halted_at: float | None, reporter: Reporter) -> float:
    """Stop all; return the monotonic time by which the first stood still, or waited for its GPU."""
    frozen_at = min(dump.stop() for dump in dumps)
    frozen_at = frozen_at if halted_at is None else min(frozen_at, halted_at)
    reporter.event("frozen", "the job stands still", at=frozen_at)
    return frozen_at


def _read(dumps: Sequence[Dump], transfers: Transfers) -> list[Read]:
    """Read all, one after another: before the next one may use all the memory, the last one must be stored."""
    found: list[Read] = []
    for dump in dumps:
        if found:
            dumps[len(found) - 1].store()
            dump.prepare(transfers.begin())
        found.append(dump.read(_places(found)))
    return found


def _go_on(dumps: Sequence[Dump], gate: Gate, frozen_at: float, reporter: Reporter) -> float | None:
    """Let all run on if the gate opens; return the monotonic time at which they did."""

    def abandon(reason: str) -> None:
        for dump in dumps:
            dump.abandon(reason)

    if not gate.opens(abandon):
        return None
    with tracing.step("thaw"):
        for dump in dumps:
            dump.go_on()
        give_back(dumps, reporter)
    thawed_at = time.monotonic()
    reporter.event("thawed", "the job runs on while it is stored", frozen_s=thawed_at - frozen_at)
    return thawed_at


def _store(dumps: Sequence[Dump], reporter: Reporter) -> list[WrittenImages]:
    """Wait until all are stored."""
    written = [dump.store() for dump in dumps]
    size = sum(images.sizes.image_bytes for images in written)
    reporter.event("streamed", "everything is in the store", bytes=size)
    return written


def _places(read: Sequence[Read]) -> list[Place]:
    """Return the directories that travel, with whomever."""
    return [place for one in read for place in one.places]


def origin(order: CheckpointOrder, dumps: Sequence[Dump]) -> Origin:
    here = Claim.ours(instance=order.instance)
    names = tuple(dump.member.workload.name for dump in dumps)
    return Origin(
        host=here.host,
        instance=here.instance,
        boot_id=here.boot_id,
        trigger=order.trigger,
        notice=order.notice,
        pod=order.pod,
        pod_uid=order.pod_uid,
        together=names if len(names) > 1 else (),
        group=order.group,
        set=order.set_id,
        trace=tracing.carried(),
    )


def tell_committed(manifests: Sequence[Manifest], reporter: Reporter) -> dict[str, int]:
    """Tell that all stands, and return of how much."""
    checkpoint = manifests[0].checkpoint
    facts = {
        "image_bytes": sum(manifest.sizes.image_bytes for manifest in manifests),
        "stored_bytes": sum(manifest.sizes.stored_bytes for manifest in manifests),
        "reused_bytes": sum(manifest.sizes.reused_bytes for manifest in manifests),
        "processes": sum(len(manifest.job.processes) for manifest in manifests),
    }
    reporter.event("committed", f"checkpoint {checkpoint} is complete", checkpoint=checkpoint, **facts)
    return facts
