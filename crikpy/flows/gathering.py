"""Which checkpoints of several workloads belong together, and what becomes of those that nobody needs any more.

The containers of one pod are saved under one checkpoint id, each in a workload of its own. Pods may share
workloads (replicas are interchangeable), so what is a pod's own is told by the pod's UID in the manifests. Whoever
claims a checkpoint begins with its first workload, so that one conditional write decides about the whole.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from crikpy.errors import FormatVersionError, IntegrityError
from crikpy.model.manifest import Manifest
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.gc import DEFAULT_AGE, apply_gc, plan_gc
from crikpy.store.layout import time_of
from crikpy.store.records import RESUMED, CheckpointSummary, Claim, Quarantine

_log = logging.getLogger(__name__)

_REST: Final = timedelta(days=1)
"""How long a checkpoint stays after it was claimed or put into quarantine: longer than any restore reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A checkpoint that is complete in every workload that was asked for.

    Attributes:
        checkpoint: its id.
        pod: `namespace/name` of the pod that was saved; empty when no manifest is readable.
        pod_uid: that pod's UID; empty likewise, and for checkpoints that no pod made.
        created: RFC 3339 time of the last commit; empty when no manifest is readable.
        claim: who has claimed it in any of the workloads, with its outcome `resumed` or `finished`.
        quarantine: why it must not be used, if that is said in any of the workloads.
        fault: why it cannot be resumed: a manifest is damaged or of a newer release, or more workloads than these
            were saved together; empty when it can.
        group: name of the group of pods that was saved as one, or empty.
        set: id of that group's set, which has to be complete, too; empty likewise.
    """

    checkpoint: str
    pod: str = ""
    pod_uid: str = ""
    created: str = ""
    claim: Claim | None = None
    quarantine: Quarantine | None = None
    fault: str = ""
    group: str = ""
    set: str = ""

    @property
    def resumable(self) -> bool:
        """Whether it may be resumed, as far as the store can tell; it does not know whether the pod lives."""
        return not (self.claim or self.quarantine or self.fault)


def find_together(store: ObjectStore, workloads: Sequence[Workload]) -> tuple[Candidate, ...]:
    """Return the checkpoints that are complete in all of these workloads, the newest first.

    Those that are claimed, in quarantine or unreadable are among them, and say so: who chooses has to know.
    """
    parts = _parts(store, workloads)
    common = frozenset[str].intersection(*(part.complete() for part in parts))
    found = _by_checkpoint({part.workload: part.list(common) for part in parts})
    return tuple(
        _candidate(checkpoint, found[checkpoint])
        for checkpoint in sorted(common, reverse=True)
        if len(found[checkpoint]) == len(parts) and all(part.complete for part in found[checkpoint].values())
    )


def read_manifests(store: ObjectStore, workloads: Sequence[Workload], checkpoint: str) -> tuple[Manifest, ...]:
    """Return the manifests of one checkpoint, in the order of the workloads.

    Raises:
        CheckpointNotFoundError: it is not complete in one of them.
        FormatVersionError: a newer release wrote one.
        IntegrityError: one is damaged.
    """
    return tuple(Checkpoints(store, workload).manifest(checkpoint) for workload in workloads)


def retire_pod(
    store: ObjectStore, workloads: Sequence[Workload], pod_uid: str, claim: Claim, *, until: datetime | None = None
) -> int:
    """Claim as finished what is left of the checkpoints of a pod whose job has ended by itself.

    A checkpoint that somebody resumes at this moment is left to them, as a whole; so is what was begun after
    `until`, by a later life of the same pod.

    Returns:
        How many checkpoints were retired.

    Raises:
        StoreError: some may be left; it may be done again.
    """
    parts = {part.workload: part for part in _parts(store, workloads)}
    found = _by_checkpoint(
        {workload: part.list(part.complete(unclaimed=True)) for workload, part in parts.items()}
    )
    retired = 0
    for checkpoint, summaries in found.items():
        if until is not None and time_of(checkpoint) >= until:
            continue
        if pod_uid and any(summary.pod_uid == pod_uid for summary in summaries.values()):
            retired += _retire([parts[workload] for workload in summaries], checkpoint, claim.finished())
    return retired


def thin_out(store: ObjectStore, workloads: Sequence[Workload], pod_uid: str, keep: int) -> int:
    """Remove checkpoints that nobody will resume, and the chunks that only they needed.

    These are: of this pod what is older than the newest `keep` (at least one) that may be resumed; and of all
    pods what `superfluous` calls used up. Plain machines' checkpoints, which no pod made, are never touched.

    Returns:
        How many checkpoints were removed.

    Raises:
        StoreError: some may be left; it may be done again.
    """
    parts = {part.workload: part for part in _parts(store, workloads)}
    found = _by_checkpoint({workload: part.list() for workload, part in parts.items()})
    names = frozenset(workload.name for workload in parts)
    doomed = superfluous(found, names, pod_uid, keep, datetime.now(UTC))
    for checkpoint in doomed:
        # The first one first: without it, the checkpoint is not complete for anybody.
        for workload in found[checkpoint]:
            parts[workload].remove(checkpoint)
    for workload in parts:
        collect_chunks(store, workload)
    return len(doomed)


def collect_chunks(store: ObjectStore, workload: Workload, *, min_age: timedelta = DEFAULT_AGE) -> None:
    """Remove chunks of a workload that nothing needs any more; none where a manifest cannot be read.

    Args:
        store: where they are.
        workload: whose.
        min_age: how old they must be.

    Raises:
        StoreError: some may be left.
    """
    try:
        apply_gc(store, plan_gc(store, workload, min_age=min_age))
    except (IntegrityError, FormatVersionError) as fault:
        _log.warning("no chunks are removed", extra={"workload": str(workload), "why": str(fault)})


def superfluous(
    found: Mapping[str, Mapping[Workload, CheckpointSummary]],
    names: frozenset[str],
    pod_uid: str,
    keep: int,
    now: datetime,
) -> tuple[str, ...]:
    """Return the ids of checkpoints to remove, the oldest first.

    What nobody can resume any more is used up, a day later: what was claimed or put into quarantine, what is older
    than a claimed one of the same pod (of a pod only the newest counts), and what was never completed. What cannot
    be judged stays: unreadable manifests, and what was saved together with workloads that were not looked at.

    Args:
        found: by id, what each workload shows of it.
        names: names of the workloads that were looked at.
        pod_uid: the pod whose older checkpoints go.
        keep: how many of its checkpoints stay.
        now: aware.
    """
    whole = [_Whole.of(checkpoint, parts) for checkpoint, parts in sorted(found.items(), reverse=True)]
    judged = [one for one in whole if one.pod_uid and one.readable and one.together <= names]
    rested = [one for one in judged if one.rested(now)]
    last_claimed: dict[str, str] = {}
    for one in rested:
        if one.claimed:
            last_claimed.setdefault(one.pod_uid, one.checkpoint)
    fresh = [one for one in judged if one.pod_uid == pod_uid and one.resumable]
    doomed = {one.checkpoint for one in (*rested, *fresh[max(1, keep) :])}
    doomed |= {
        one.checkpoint for one in judged if one.resumable and one.checkpoint < last_claimed.get(one.pod_uid, "")
    }
    return tuple(sorted(doomed))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Whole:
    """What the workloads of one checkpoint show of it, taken together."""

    checkpoint: str
    pod_uid: str
    together: frozenset[str]
    readable: bool
    complete: bool
    claimed: bool
    quarantined: bool
    touched: tuple[str, ...]

    @classmethod
    def of(cls, checkpoint: str, parts: Mapping[Workload, CheckpointSummary]) -> _Whole:
        """Put the parts together."""
        summaries = parts.values()
        together = frozenset(name for workload, part in parts.items() for name in _together(workload, part))
        claims = [part.claim for part in summaries if part.claim]
        quarantines = [part.quarantine for part in summaries if part.quarantine]
        present = {workload.name for workload, part in parts.items() if part.complete}
        return cls(
            checkpoint=checkpoint,
            pod_uid=next((part.pod_uid for part in summaries if part.pod_uid), ""),
            together=together,
            readable=not any(part.fault for part in summaries),
            complete=together <= present,
            claimed=bool(claims),
            quarantined=bool(quarantines),
            touched=(*(claim.time for claim in claims), *(quarantine.time for quarantine in quarantines)),
        )

    @property
    def resumable(self) -> bool:
        return self.complete and not self.claimed and not self.quarantined

    def rested(self, now: datetime) -> bool:
        """Say whether it has been of no use to anybody for so long that nobody can still be reading it."""
        if self.resumable:
            return False
        try:
            times = [datetime.fromisoformat(text) for text in self.touched]
            return all(time + _REST < now for time in (*times, time_of(self.checkpoint)))
        except (ValueError, TypeError):
            return False  # a time that cannot be read, or without a zone


def _parts(store: ObjectStore, workloads: Sequence[Workload]) -> list[Checkpoints]:
    return [Checkpoints(store, workload) for workload in sorted(workloads)]


def _by_checkpoint(
    listed: Mapping[Workload, Sequence[CheckpointSummary]],
) -> dict[str, dict[Workload, CheckpointSummary]]:
    """Turn summaries by workload into summaries by checkpoint, keeping the order of the workloads."""
    found: dict[str, dict[Workload, CheckpointSummary]] = defaultdict(dict)
    for workload, summaries in listed.items():
        for summary in summaries:
            found[summary.id][workload] = summary
    return found


def _candidate(checkpoint: str, parts: Mapping[Workload, CheckpointSummary]) -> Candidate:
    summaries = parts.values()
    return Candidate(
        checkpoint=checkpoint,
        pod=next((part.pod for part in summaries if part.pod), ""),
        pod_uid=next((part.pod_uid for part in summaries if part.pod_uid), ""),
        created=max(part.created for part in summaries),
        claim=next((part.claim for part in summaries if part.claim), None),
        quarantine=next((part.quarantine for part in summaries if part.quarantine), None),
        fault=next((part.fault for part in summaries if part.fault), "") or _apart(parts),
        group=next((part.group for part in summaries if part.group), ""),
        set=next((part.set for part in summaries if part.set), ""),
    )


def _apart(parts: Mapping[Workload, CheckpointSummary]) -> str:
    """Say why these are not the workloads that were saved as one; nothing when they are."""
    here = sorted(workload.name for workload in parts)
    for workload, part in parts.items():
        together = sorted(_together(workload, part))
        if together != here:
            return f"{', '.join(together)} were saved together, not {', '.join(here)}"
    if len({part.pod_uid for part in parts.values()}) > 1:
        return "its parts are of different pods"
    return ""


def _together(workload: Workload, part: CheckpointSummary) -> tuple[str, ...]:
    return part.together or (workload.name,)


def _retire(parts: Sequence[Checkpoints], checkpoint: str, claim: Claim) -> bool:
    """Lay a claim on every part; return False when it turns out that somebody resumes the checkpoint."""
    for part in parts:
        if not part.lay(checkpoint, claim):
            other = part.summary(checkpoint).claim
            if other is not None and other.outcome == RESUMED:
                return False
    return True
