"""Which checkpoints have served their time, for whoever tidies up a store, and their removal.

An agent thins out what its pods leave while they come and go (crikpy.flows.gathering). What is left then is what
nobody comes back to: workloads that were deleted, names that are never used again, quarantines long forgotten.
What cannot be judged stays: a manifest that cannot be read, a time that makes no sense.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from crikpy.store.checkpoints import Checkpoints
from crikpy.store.layout import time_of
from crikpy.store.records import FINISHED, CheckpointSummary, Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How long checkpoints are kept.

    Attributes:
        used: after they were resumed, or their job has finished; longer than a restore takes to read one.
        quarantined: after they were put into quarantine, for those who want to know why.
        resumable: after they were taken, as long as somebody might resume them; None keeps them for ever.
    """

    used: timedelta = timedelta(days=1)
    quarantined: timedelta = timedelta(days=7)
    resumable: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """A checkpoint to be removed.

    Attributes:
        checkpoint: its id.
        why: in a few words.
        claimed: it was claimed, or cannot be, so that nobody will.
    """

    checkpoint: str
    why: str
    claimed: bool = True


def expired(newest_first: Sequence[CheckpointSummary], terms: Terms, now: datetime) -> Iterator[Expired]:
    """Yield what may go of one workload.

    The newest complete one stays as if it had not been resumed: while the job runs, its next one leans on it.
    """
    newest = next((each.id for each in newest_first if each.complete and each.quarantine is None), None)
    for summary in newest_first:
        if not summary.complete or summary.fault:
            continue
        taken = time_of(summary.id)
        if summary.quarantine is not None:
            if _is_older(_time(summary.quarantine.time), terms.quarantined, now):
                yield Expired(checkpoint=summary.id, why=f"in quarantine since {summary.quarantine.time}")
        elif summary.claim is not None and (summary.id != newest or summary.claim.outcome == FINISHED):
            if _is_older(_time(summary.claim.time), terms.used, now):
                yield Expired(checkpoint=summary.id, why=f"{summary.claim.outcome} at {summary.claim.time}")
        elif terms.resumable is not None and _is_older(taken, terms.resumable, now):
            claimed = summary.claim is not None
            yield Expired(checkpoint=summary.id, why=f"taken at {taken:%Y-%m-%dT%H:%M:%SZ}", claimed=claimed)


def remove_expired(checkpoints: Checkpoints, doomed: Sequence[Expired]) -> list[Expired]:
    """Remove checkpoints that are expired, and return those that were; their chunks are left to gc.

    Nobody begins to read one that is being removed, for it is claimed first: one that somebody else has claimed in
    the last moment stays.
    """
    removed = []
    claim = Claim.ours().finished()
    for each in doomed:
        if each.claimed or checkpoints.lay(each.checkpoint, claim):
            checkpoints.remove(each.checkpoint)
            removed.append(each)
    return removed


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _is_older(moment: datetime | None, age: timedelta, now: datetime) -> bool:
    return moment is not None and moment.tzinfo is not None and now - moment > age
