"""What a pod of a group may resume, and with whom: only what belongs to a complete set, and only all together.

`judged` and `companions` are pure. Whoever waits for the others keeps its launchers waiting meanwhile; each wait
has an end, after which all of the group begin from the beginning, as nobody goes on from a set that was abandoned.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from crikpy.agent.choosing import Cold, OriginState, Resume, Wait
from crikpy.agent.companies import Companies, Room
from crikpy.aio.clock import Deadline
from crikpy.aio.retrying import is_retryable
from crikpy.errors import CrikpyError, GroupError, PodEndingError
from crikpy.flows.company import Together
from crikpy.flows.gathering import Candidate
from crikpy.model.groups import Decide, Decision, Obey, Question, Said, abandoned, named, next_move
from crikpy.model.pods import Pod
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.records import Quarantine
from crikpy.store.sets import SetRecord, Talk

_log = logging.getLogger(__name__)

_LOOK_S: Final = 0.5
_UNSAY_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of one set.

    Attributes:
        record: what it consists of; None when nobody has written that.
        complete: it counts, and nobody has abandoned to resume it.
        open: it is not decided yet whether it counts.
        why: why it does not count, or may not be resumed; empty when it may.
    """

    record: SetRecord | None
    complete: bool = False
    open: bool = False
    why: str = ""


def judged(
    candidates: Sequence[Candidate], standings: Mapping[str, Standing], group: str
) -> tuple[Candidate, ...]:
    """Return the checkpoints as they count for a pod of a group, or of none if that is empty.

    What belongs to a set that is not complete was never whole, as if it were in quarantine: the one before counts.
    """
    found = []
    for one in candidates:
        if one.set and one.group != group:
            found.append(replace(one, fault=f"it was saved with group {one.group}, of which this pod is none"))
        elif group and not one.set:
            found.append(replace(one, fault=f"it was saved without its group {group}"))
        elif one.set and one.resumable and (standing := standings[one.set]).why and not standing.open:
            if standing.complete:  # the others do not look for an older one either: all begin afresh
                found.append(replace(one, fault=standing.why))
            else:
                found.append(replace(one, quarantine=Quarantine(reason=standing.why, time="")))
        else:
            found.append(one)
    return tuple(found)


def companions(
    candidate: Candidate, standing: Standing, states: Mapping[str, OriginState]
) -> Resume | Wait | Cold:
    """Say whether the old pods of the other members allow a member's checkpoint to be resumed.

    Args:
        candidate: what the member itself could resume.
        standing: what is known of its set.
        states: what has become of the old pods of all members; those that are missing are gone.
    """
    if standing.record is None:
        return Cold(reason=f"nobody knows who else belongs to set {candidate.set}", spoiled=candidate.checkpoint)
    others = {uid: pod for uid, pod in standing.record.pods.items() if uid != candidate.pod_uid}
    over = [uid for uid in others if states.get(uid) is OriginState.OVER]
    if over:
        return Cold(reason=f"{named(others, over)} of group {candidate.group} has ended by itself")
    ending = [uid for uid in others if states.get(uid) is OriginState.ENDING]
    alive = [uid for uid in others if states.get(uid) is OriginState.ALIVE]
    if alive and not standing.record.moves and not standing.open:
        return Cold(reason=f"{named(others, alive)} of group {candidate.group} runs on")
    if ending or alive:
        return Wait(pod_uid=min([*ending, *alive]))
    if standing.open:
        return Wait(pod_uid="")
    return Resume(candidate=candidate)


class Regrouper:
    """Brings the replacements of a group together.

    Args:
        store: where the sets are.
        settings: how long others are waited for.
        at_once: restores for which there is room.
    """

    def __init__(self, store: ObjectStore, settings: Settings, at_once: int) -> None:
        self._companies = Companies(store, settings)
        self._gather_s = settings.agent.group_gather_s
        self._room = Room(at_once)

    @property
    def gather_s(self) -> float:
        """How long the others are waited for, seconds."""
        return self._gather_s

    def standings(self, candidates: Sequence[Candidate], pod: Pod) -> dict[str, Standing]:
        """Return what is known of the sets of those checkpoints that could be resumed; blocks.

        Raises:
            StoreError: the store does not tell.
        """
        wanted = {one.set: one for one in candidates if one.set and one.resumable}
        return {set_id: self._standing(self._talk(one, pod)) for set_id, one in wanted.items()}

    def abandon(self, candidate: Candidate, pod: Pod, question: Question, reason: str) -> None:
        """Have nobody go on from a checkpoint's set; blocks.

        Raises:
            StoreError: it cannot be said.
        """
        self._talk(candidate, pod).decide(question, abandoned(str(pod), reason))

    async def renounce(self, candidate: Candidate, pod: Pod, reason: str) -> None:
        """Have the others not wait for a replacement that will not resume their set; never raises."""
        try:
            async with asyncio.timeout(_UNSAY_S):
                await asyncio.to_thread(self.abandon, candidate, pod, Question.GATHERED, reason)
        except (TimeoutError, CrikpyError) as fault:
            _log.warning("the others of group %s were not told: %s", candidate.group, fault)

    async def gather(self, candidate: Candidate, pod: Pod, leaving: Callable[[], bool]) -> None:
        """Wait until the replacements of all members wait, as this one does.

        Args:
            candidate: what this one will resume.
            pod: this one.
            leaving: whether its launchers are being ended.

        Raises:
            GroupError: not all have come, or one will not resume the set: it is abandoned.
            PodEndingError: this one is being ended, and its own replacement may come in time.
        """
        talk, limit = self._talk(candidate, pod), Deadline.after(self._gather_s)
        members: dict[str, str] = {}
        said = False
        while True:
            try:
                if not members:
                    record = await asyncio.to_thread(talk.record)
                    members = record.pods if record is not None else {candidate.pod_uid: pod.name}
                if leaving():
                    await self._take_back(talk, candidate.pod_uid)
                    raise PodEndingError("the pod is being ended")
                if not said:
                    await asyncio.to_thread(talk.say, Said.WAITING, candidate.pod_uid, pod=str(pod))
                    said = True
                    _log.info("waits for the others of its group", extra={"pod": str(pod), "set": candidate.set})
                late = f"within {self._gather_s:.0f} s" if limit.expired() else ""
                seen = await asyncio.to_thread(talk.look)
                move = next_move(Said.WAITING, members, seen, me=candidate.pod_uid, late=late)
                if isinstance(move, Decide | Obey):
                    decision = await asyncio.to_thread(talk.settle, Question.GATHERED, move, by=str(pod))
                    if decision.outcome != Question.GATHERED.yes:
                        raise GroupError(f"the group does not go on together: {decision.reason}")
                    return
            except CrikpyError as fault:
                if not is_retryable(fault):
                    raise
                if limit.expired():
                    raise GroupError(f"nobody says who of the group has come: {fault}") from fault
            await asyncio.sleep(_LOOK_S)

    def company(self, candidate: Candidate, pod: Pod, deadline: Deadline) -> Together | None:
        """Return the company in which a checkpoint is restored, None for that of a pod alone; blocks.

        Raises:
            StoreError: the store does not tell.
        """
        if not candidate.set:
            return None
        talk = self._talk(candidate, pod)
        record = talk.record()
        if record is None:
            raise GroupError(f"nobody knows any more who belongs to set {candidate.set}")
        return Together(
            talk,
            record,
            me=candidate.pod_uid,
            pod=str(pod),
            deadline=deadline,
            patience=self._companies.patience,
            question=Question.RESUMED,
            room=self._room,
        )

    def _talk(self, candidate: Candidate, pod: Pod) -> Talk:
        return self._companies.talk(pod.namespace, candidate.group, candidate.set)

    @staticmethod
    def _standing(talk: Talk) -> Standing:
        """Return what is known of a set; one of which all is stored is completed by whoever comes first."""
        record, seen = talk.record(), talk.look()
        stored = record is not None and not seen.missing(Said.STORED, record.pods)
        if stored and Question.SAVED not in seen.decided:
            talk.decide(Question.SAVED, Decision(outcome=Question.SAVED.yes, by="a replacement"))
        saved = talk.decision(Question.SAVED)
        if saved is None:
            return Standing(record=record, open=True, why="it is not known yet whether its set is complete")
        if saved.outcome != Question.SAVED.yes:
            return Standing(record=record, why=f"its set was abandoned: {saved.reason}")
        for question in (Question.GATHERED, Question.RESUMED):
            answer = talk.decision(question)
            if answer is not None and answer.outcome != question.yes:
                return Standing(record=record, complete=True, why=f"its set was not resumed: {answer.reason}")
        return Standing(record=record, complete=True)

    @staticmethod
    async def _take_back(talk: Talk, me: str) -> None:
        try:
            async with asyncio.timeout(_UNSAY_S):
                await asyncio.to_thread(talk.unsay, Said.WAITING, me)
        except (TimeoutError, CrikpyError) as fault:
            _log.warning("a word to a group was not taken back: %s", fault)
