"""The story of one checkpoint of a single job, from its order to what becomes of the job afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from crikpy.errors import StoreError
from crikpy.flows.members import CheckpointOrder, Gate, Member
from crikpy.flows.modes import save
from crikpy.flows.reporting import Reporter
from crikpy.model.manifest import Manifest
from crikpy.model.workload import Workload
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.leases import require_untaken


def checkpoint(
    member: Member,
    store: ObjectStore,
    order: CheckpointOrder,
    settings: Settings,
    reporter: Reporter,
    *,
    gate: Gate | None = None,
    on_committed: Callable[[Manifest], None] = lambda manifest: None,
) -> Manifest:
    """Save a running job.

    Args:
        member: the job's capsule, and whose checkpoint it becomes.
        store: where to.
        order: why and until when.
        settings: which CRIU, how much memory.
        reporter: hears the story.
        gate: asked whether a job that is to be left running goes on once it is read; it may only do so.
        on_committed: called between the commit and the job's end. When it fails, so has all: the job runs on and
            the checkpoint goes into quarantine, for a job that runs on without a word to anybody must not be
            resumed elsewhere.

    Returns:
        The committed manifest; the job has ended with status 75 unless it was to be left running.

    Raises:
        CrikpyError: saying what failed; the job runs on.
    """
    with save([member], store, order, settings, reporter, gate=gate) as saved:
        manifest = saved.manifests[0]
        try:
            on_committed(manifest)
        except BaseException as fault:
            saved.withdraw(f"what follows the commit failed: {fault}")
            raise
        if not order.leave_running:
            saved.end()
    return manifest


def unless_taken_over(
    store: ObjectStore, workload: Workload, holder: str, on_committed: Callable[[Manifest], None]
) -> Callable[[Manifest], None]:
    """See that the name of a job on a plain machine is still its own; return what sees it again at the commit.

    Args:
        store: where the name is kept.
        workload: the name.
        holder: token of the claim by which it was taken for this job.
        on_committed: what else is called between the commit and the job's end.

    Raises:
        JobRunningError: another machine has taken it; also raised by what is returned, so that `checkpoint` undoes
            the commit. A store that does not tell by then changes nothing.
        StoreError: the store does not tell.
    """
    require_untaken(store, workload, holder)

    def committed(manifest: Manifest) -> None:
        with contextlib.suppress(StoreError):  # the whole machine may have stood still meanwhile
            require_untaken(store, workload, holder)
        on_committed(manifest)

    return committed
