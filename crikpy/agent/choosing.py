"""Which checkpoint a new pod resumes, waits for, or does without. Pure: what is decided here is tried elsewhere.

That a checkpoint is resumed at most once is settled by its claim in the store; here it is seen to that nobody even
tries what would run a job twice. Pods that share a workload stand for each other: a new one takes over from any of
them that is gone, one successor for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from crikpy.flows.gathering import Candidate
from crikpy.store.records import FINISHED, Claim


class OriginState(StrEnum):
    """What has become of a pod whose checkpoints, or whose workload, somebody may take over.

    ALIVE: it runs, or will. ENDING: it is being ended and may still be saved. GONE: nothing of it runs any more.
    OVER: nothing runs any more, and its job was done or failed by itself: there is nothing to take over.
    """

    ALIVE = "alive"
    ENDING = "ending"
    GONE = "gone"
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Resume this checkpoint."""

    candidate: Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Wait for the end of this pod, and choose again."""

    pod_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cold:
    """Start from the beginning.

    Attributes:
        reason: why, in words.
        spoiled: id of a checkpoint that there was to resume and that cannot be; empty when there was none.
    """

    reason: str
    spoiled: str = ""


def choose(
    candidates: Sequence[Candidate], origins: Mapping[str, OriginState], own_uid: str
) -> Resume | Wait | Cold:
    """Choose for a pod that is about to begin.

    Args:
        candidates: the complete checkpoints of its workload, in any order; of the doubtful ones those that count.
        origins: by UID the pods that made them, and others of the workload that may make one in this moment. One
            that is missing counts as alive.
        own_uid: the pod's own UID. Its own checkpoints count only if `origins` says that it is GONE: if it was
            saved and ended, and begins a second time.
    """
    open_to_us = {uid for uid, state in origins.items() if state is OriginState.GONE}
    newest = {uid: found for uid in open_to_us if (found := _newest_left(candidates, uid)) is not None}
    ready = [candidate for candidate in newest.values() if candidate.resumable]
    if ready:
        return Resume(candidate=max(ready, key=lambda candidate: candidate.checkpoint))
    ending = [uid for uid, state in origins.items() if state is OriginState.ENDING and uid != own_uid]
    if waited_for := [uid for uid in ending if not _taken_over(candidates, uid)]:
        return Wait(pod_uid=min(waited_for))
    return _cold(candidates, origins)


def doubtful(candidates: Sequence[Candidate]) -> dict[str, Claim]:
    """Return the checkpoints that a pod made after an earlier one of it was resumed, with that one's claim.

    They count only if the pod had resumed itself, in its own place. Otherwise it ran on although somebody had
    taken over from it, for its node had been lost and came back: they must be left out before `choose` sees them.
    """
    found: dict[str, Claim] = {}
    for candidate in candidates:
        earlier = [one for one in _of(candidates, candidate.pod_uid) if one.checkpoint < candidate.checkpoint]
        claims = [one.claim for one in earlier if one.claim is not None and one.claim.outcome != FINISHED]
        if candidate.pod_uid and candidate.resumable and claims:
            found[candidate.checkpoint] = claims[0]
    return found


def _newest_left(candidates: Sequence[Candidate], uid: str) -> Candidate | None:
    """Return the checkpoint of a pod that counts: its newest, unless somebody has claimed that.

    What is older than a claimed one does not count: its job has gone on from there, or had finished. One that was
    put in quarantine before anybody claimed it was never whole, and the one before it counts.
    """
    for candidate in sorted(_of(candidates, uid), key=lambda candidate: candidate.checkpoint, reverse=True):
        if candidate.claim is not None:
            return None
        if candidate.quarantine is None:
            return candidate
    return None


def _taken_over(candidates: Sequence[Candidate], uid: str) -> bool:
    own = _of(candidates, uid)
    newest = max(own, key=lambda candidate: candidate.checkpoint, default=None)
    return newest is not None and newest.claim is not None and newest.claim.outcome != FINISHED


def _of(candidates: Sequence[Candidate], uid: str) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate.pod_uid == uid]


def _cold(candidates: Sequence[Candidate], origins: Mapping[str, OriginState]) -> Cold:
    """Say why there is nothing to resume, by the newest checkpoint."""
    if not candidates:
        return Cold(reason="there is no checkpoint to resume")
    last = max(candidates, key=lambda candidate: candidate.checkpoint)
    what = f"checkpoint {last.checkpoint}" + (f" of pod {last.pod}" if last.pod else "")
    if last.quarantine is not None:
        return Cold(reason=f"{what} is in quarantine: {last.quarantine.reason}", spoiled=last.checkpoint)
    if last.claim is not None:
        done = last.claim.outcome == FINISHED
        return Cold(reason=f"{what} {'belongs to a job that has ended' if done else 'was resumed before'}")
    if last.fault:
        return Cold(reason=f"{what} cannot be used: {last.fault}", spoiled=last.checkpoint)
    state = origins.get(last.pod_uid, OriginState.ALIVE)
    if state is OriginState.OVER:
        return Cold(reason=f"{what} belongs to a job that has ended")
    return Cold(reason=f"{what} belongs to a pod that has not ended")
