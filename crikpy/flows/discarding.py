"""Removing one checkpoint of a pod from the store because its owner wants it gone."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from crikpy.errors import CheckpointClaimedError, CheckpointNotFoundError, FormatVersionError, IntegrityError
from crikpy.flows.gathering import collect_chunks
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.records import RESUMED, Claim

_AT_ONCE: Final = timedelta(0)
"""However young a chunk is, nobody relies on it who has not announced a checkpoint of the workload."""


def discard(store: ObjectStore, first: Workload, checkpoint: str, claim: Claim, *, settled: bool) -> None:
    """Remove a checkpoint from all of its workloads, and the chunks that only it needed.

    It is claimed first, so that nobody begins to resume it. The chunks go at once, unless another checkpoint is
    being written: then with the next one. It may be done again: what is gone already is gone.

    Args:
        store: where it is.
        first: the first of its workloads, the one in which it is claimed.
        checkpoint: its id.
        claim: ours.
        settled: whether a restore of it, if there was any, is known to be over.

    Raises:
        CheckpointClaimedError: somebody may be resuming it at this moment; nothing was removed.
        StoreError: some of it may be left.
    """
    head = Checkpoints(store, first)
    if not (settled or head.lay(checkpoint, claim.finished())):
        other = head.summary(checkpoint).claim
        if other is not None and other.outcome == RESUMED:
            raise CheckpointClaimedError(f"checkpoint {checkpoint} of {first} is being resumed by {other}")
    parts = [Checkpoints(store, workload) for workload in _together(head, checkpoint) if workload != first]
    for part in [*parts, head]:  # the first one last: it tells which the others are
        part.remove(checkpoint)
        collect_chunks(store, part.workload, min_age=_AT_ONCE)


def _together(head: Checkpoints, checkpoint: str) -> list[Workload]:
    """Return the workloads that were saved as one, as far as the manifest can be read."""
    first = head.workload
    try:
        names = head.manifest(checkpoint).origin.together
    except (CheckpointNotFoundError, IntegrityError, FormatVersionError):
        return [first]
    return [Workload(cluster=first.cluster, namespace=first.namespace, name=name) for name in names]
