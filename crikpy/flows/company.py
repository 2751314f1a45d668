"""The company in which jobs are saved or resumed: alone, or in step with other pods of a group on whatever nodes.

Whoever is in company stops at three places of a save and one of a restore until all have come so far, and is told
by an error when they will not. What a look at the others means is said by crikpy.model.groups; here it is waited
for, in the thread that saves or restores, and nobody waits for ever. docs/groups.md has the protocol.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from crikpy.aio import retrying
from crikpy.aio.clock import Deadline
from crikpy.aio.retrying import is_retryable
from crikpy.aio.threads import Thread
from crikpy.errors import CrikpyError, GroupError
from crikpy.model.groups import (
    QUESTION_OF,
    SIGN_OF,
    STAYS,
    Decision,
    Pass,
    Question,
    Said,
    Seen,
    Wait,
    abandoned,
    named,
    next_move,
)
from crikpy.store.sets import SetRecord, Talk

_log = logging.getLogger(__name__)

_LOOK_S: Final = 0.3
"""Between two looks at what the others have said."""

_INSIST_S: Final = 60.0
"""How long one that has said a word that decides asks what was decided, when its own time is up."""

_ABANDON_S: Final = 10.0
"""How long the store is asked to tell the others that they wait in vain."""

_BEATS: Final = 5
"""Signs of life within the time after which one counts as dead."""

_DECISIVE: Final = (Said.STORED, Said.RESTORED)
"""Who has said one of these can be decided for without being asked again."""

Room = Callable[[Deadline], AbstractContextManager[None]]
"""Lends what a transfer needs of the machine, such as memory, until the deadline at the latest."""

Hear = Callable[[str], object]
"""Told in words what is waited for, from any thread."""


class Company(Protocol):
    """What a save or a restore asks of the company in which it is done. A context: left by an error, all end."""

    @property
    def alone(self) -> bool:
        """Whether there is nobody to wait for."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def ready(self) -> None:
        """All could be saved, and run still; return when all are to be stopped."""
        ...

    def frozen(self) -> None:
        """All of ours stand still; return when all others do, with room to read ours."""
        ...

    def stored(self) -> None:
        """Our manifests stand; return when the checkpoint counts."""
        ...

    def room(self) -> AbstractContextManager[None]:
        """Return a context with room to restore."""
        ...

    def restored(self) -> None:
        """All of ours stand again, still stopped; return when they may go on."""
        ...


class Alone:
    """No company: nobody is waited for."""

    alone = True

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    def ready(self) -> None:
        """Go on."""

    def frozen(self) -> None:
        """Go on."""

    def stored(self) -> None:
        """Go on."""

    def room(self) -> AbstractContextManager[None]:
        """Ask for none: whoever is alone had it before."""
        return contextlib.nullcontext()

    def restored(self) -> None:
        """Go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long members of a group wait for each other.

    Attributes:
        wait_s: for all to be ready, and for all to stand still.
        silence_s: without a sign of life until a member counts as dead.
    """

    wait_s: float
    silence_s: float


class Together:
    """Company of a group: one set of checkpoints, one member of it.

    Args:
        talk: what is said about the set.
        record: what the set consists of.
        me: UID of the pod whose checkpoint in the set this is.
        pod: the pod, for messages; another than that in a restore.
        deadline: when a save must be complete, or a restore stand.
        patience: for the others, besides.
        question: what is not answered yet and is abandoned after an error: SAVED or RESUMED.
        room: lends what a transfer needs.
        hear: told what is waited for.

    Attributes:
        standing: ours stand still, or have been stored.
    """

    alone = False

    def __init__(
        self,
        talk: Talk,
        record: SetRecord,
        *,
        me: str,
        pod: str,
        deadline: Deadline,
        patience: Patience,
        question: Question = Question.SAVED,
        room: Room = lambda _: contextlib.nullcontext(),
        hear: Hear = lambda _: None,
    ) -> None:
        self._talk = talk
        self._members = record.pods
        self._record = record
        self._me = me
        self._pod = pod
        self._deadline = deadline
        self._patience = patience
        self._room = room
        self._hear = hear
        self._open = question
        self._sign = SIGN_OF[question]
        self._settled = False
        self.standing = False
        self._lent = contextlib.ExitStack()
        self._pulse: _Pulse | None = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; after an error have the others wait no longer, unless they have decided already."""
        self._lent.close()
        if self._pulse is not None:
            self._pulse.stop()
        if error is not None and not self._settled:
            self.abandon(str(error))

    def abandon(self, reason: str) -> None:
        """Have the others wait no longer; harmless when it is decided already, or the store is away."""
        self._settled = True
        decision = abandoned(self._pod, reason)
        with contextlib.suppress(CrikpyError):
            retrying.call(lambda: self._talk.decide(self._open, decision), deadline=Deadline.after(_ABANDON_S))

    def ready(self) -> None:
        """Say that ours could be saved, and wait for the others; they all run still.

        Raises:
            GroupError: the set is abandoned, or an earlier process has taken part in it for this pod.
            CrikpyError: it cannot be said.
        """
        self._talk.describe(self._record)
        said = self._talk.look().said
        if self._me in said.get(Said.READY, {}):
            # What it has stored may count still. Our jobs have gone on since, and fit the others no more.
            self._settled = self._me in said.get(Said.STORED, {})
            raise GroupError("an earlier agent has taken part in the group's set, and its jobs have gone on since")
        self._live()
        self._meet(Said.READY, self._deadline.earlier(self._patience.wait_s))

    def frozen(self) -> None:
        """Say that ours stand still, wait for the others, then for room.

        Raises:
            GroupError: the set is abandoned.
            CrikpyError: it cannot be said, or there is no room in time.
        """
        self.standing = True
        self._meet(Said.FROZEN, self._deadline.earlier(self._patience.wait_s))
        self._hear("waits for room to be stored")
        self._lent.enter_context(self._room(self._deadline))

    def stored(self) -> None:
        """Say that our manifests stand, and wait until the set is complete.

        Raises:
            GroupError: it is abandoned, or nobody knows whether it is complete.
        """
        self._lent.close()
        self._meet(Said.STORED, self._deadline)

    @property
    def settled(self) -> bool:
        """Whether the others wait for us no more: all is decided, or given up."""
        return self._settled

    @contextlib.contextmanager
    def room(self) -> Iterator[None]:
        """Have room to restore, or to read what a job has saved by itself.

        Raises:
            CrikpyError: no sign of life can be given, or there is no room in time.
        """
        self._live()
        with self._room(self._deadline):
            yield

    def restored(self) -> None:
        """Say that ours stand again, stopped, and wait until all may go on.

        Raises:
            GroupError: one could not be restored in time, or nobody knows whether all were.
        """
        self._meet(Said.RESTORED, self._deadline)

    def leaves(self, *, ends: bool) -> bool:
        """Say for all whether jobs that were saved to move end or run on; return whether they end.

        Args:
            ends: what is to become of ours; another member may have been first.

        Raises:
            StoreError: nobody knows.
        """
        outcome = Question.MOVED.yes if ends else STAYS
        stands = self._talk.decide(Question.MOVED, Decision(outcome=outcome, by=self._pod))
        return stands.outcome != STAYS

    def _meet(self, word: Said, limit: Deadline) -> None:
        """Say a word, and wait until all have said it."""
        self._open = QUESTION_OF[word]
        decisive = word in _DECISIVE
        insist = Deadline(limit.at + _INSIST_S) if decisive else limit
        retrying.call(lambda: self._talk.say(word, self._me, pod=self._pod), deadline=limit)
        began = time.monotonic()
        told: tuple[str, ...] = ()
        while True:
            waited_s = time.monotonic() - began
            try:
                seen = self._talk.look()
                gone = limit.expired() or (word is Said.RESTORED and self._unheard(seen, waited_s))
                move = next_move(
                    word,
                    self._members,
                    seen,
                    me=self._me,
                    late=f"after {waited_s:.0f} s" if gone else "",
                    silence_s=self._patience.silence_s,
                )
                if isinstance(move, Pass):
                    return
                if isinstance(move, Wait):
                    if move.missing != told:
                        told = move.missing
                        self._hear(f"is {word}, waits for {named(self._members, told)}")
                else:
                    self._obey(word, self._talk.settle(self._open, move, by=self._pod))
                    return
            except CrikpyError as fault:
                if not is_retryable(fault):
                    raise
                if insist.expired():
                    self._settled = decisive  # what we do not know we must not claim to know
                    raise GroupError(f"nobody says what became of the group: {fault}") from fault
            time.sleep(_LOOK_S)

    def _unheard(self, seen: Seen, waited_s: float) -> bool:
        """Say whether another has not even begun to restore, though all were there when we began."""
        return waited_s > self._patience.wait_s and bool(seen.missing(Said.RETURNING, self._members))

    def _live(self) -> None:
        if self._pulse is None:
            self._pulse = _Pulse(self._talk, self._sign, self._me, every_s=self._patience.silence_s / _BEATS)

    def _obey(self, word: Said, decision: Decision) -> None:
        self._settled = True
        if decision.outcome == self._open.yes and word not in _DECISIVE:
            raise GroupError("the group's set is complete already")
        if decision.outcome != self._open.yes:
            raise GroupError(f"the group's set was abandoned: {decision.reason or decision.outcome}")


class _Pulse:
    """Says every so often that a member lives, in a thread of its own, since the others are busy for long."""

    def __init__(self, talk: Talk, sign: Said, me: str, *, every_s: float) -> None:
        self._talk = talk
        self._sign = sign
        self._me = me
        self._every_s = every_s
        self._over = threading.Event()
        self._talk.say(sign, me)
        self._thread = Thread(target=self._beat, name=f"pulse {me}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Say nothing more; a word that is on its way is not waited for."""
        self._over.set()

    def _beat(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                self._talk.say(self._sign, self._me)
            except CrikpyError as fault:
                _log.info("a sign of life could not be given: %s", fault)
