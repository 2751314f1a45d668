"""Hours of work that were saved, and that were lost, of what is still recorded.

Pure. Counted is the time that a pod's jobs had been running in it, which is what a start from the beginning would
have cost: once for each pod, so that what a job had done before an earlier move is not counted again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from crikpy.page.lives import Fate, Life


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """The sums.

    Attributes:
        saved_s: seconds of work that other pods went on from.
        saves: pods that this is of.
        lost_s: seconds of work that nobody went on from.
        losses: pods that this is of.
        unknown: pods of which it is not recorded since when they worked, and which are in neither sum.
        since: the first moment of all that is recorded, aware UTC, or None.
    """

    saved_s: float = 0.0
    saves: int = 0
    lost_s: float = 0.0
    losses: int = 0
    unknown: int = 0
    since: datetime | None = None


def count_hours(lives: Iterable[Life]) -> Hours:
    """Add it up."""
    saved: list[float] = []
    lost: list[float] = []
    unknown = 0
    moments: list[datetime] = []
    for life in lives:
        if life.orders and life.earliest is not None:
            moments.append(life.earliest)
        if life.fate not in (Fate.MOVED, Fate.LOST):
            continue
        kept = life.left_by.status.completed if life.left_by is not None else life.begin
        if life.begin is None or life.end is None or kept is None:
            unknown += 1
            continue
        if life.fate is Fate.MOVED:
            saved.append(max(0.0, (kept - life.begin).total_seconds()))
        unsaved = max(kept, life.begin)
        if life.end > unsaved:
            lost.append((life.end - unsaved).total_seconds())
    return Hours(
        saved_s=sum(saved),
        saves=len(saved),
        lost_s=sum(lost),
        losses=len(lost),
        unknown=unknown,
        since=min(moments, default=None),
    )
