"""The story of one checkpoint of a single job, from its order to what becomes of the job afterwards."""

from __future__ import annotations

from collections.abc import Callable

from crikpy.flows.members import CheckpointOrder, Gate, Member
from crikpy.flows.reporting import Reporter
from crikpy.flows.saving import save
from crikpy.model.manifest import Manifest
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore


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
