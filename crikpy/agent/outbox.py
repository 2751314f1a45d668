"""Words to the API server that must arrive in the end: the newest for each subject, sent until acknowledged.

Whoever puts one in never waits and never fails. The box holds only so many, so that an outage of days costs little
memory; what the words mean is the sender's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from crikpy import log
from crikpy.aio.clock import Deadline
from crikpy.errors import CrikpyError, KubeConflictError, KubeInvalidError, KubeNotFoundError

_log = logging.getLogger(__name__)

Act = Callable[[Deadline], Awaitable[None]]
"""Says it once; raises CrikpyError when it was not heard."""

_MOST_LETTERS: Final = 2048
_AT_ONCE: Final = 8
_ONE_TRY_S: Final = 15.0
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 5.0
"""While the API server is away: it may come back just before this machine goes."""

_PARKED_S: Final = 15.0
_LONGEST_PARKED: Final = 8
"""A node whose controller is away must not ask for a hundred orders all the time: the pause doubles up to this."""

_CONFLICT_S: Final = 0.05


@dataclass(slots=True, eq=False)
class _Letter:
    subject: tuple[str, ...]
    about: log.Facts
    act: Act
    expires: Deadline
    due: Deadline = field(default_factory=lambda: Deadline.after(0))
    parked: int = 0
    tried: int = 0
    complained: bool = False


class Outbox:
    """The box; one task runs it.

    Args:
        most: letters that it holds.
        parked_s: seconds until the second try of what the API server knows nothing of yet, or forbids; `poke`
            ends the wait.
    """

    def __init__(self, *, most: int = _MOST_LETTERS, parked_s: float = _PARKED_S) -> None:
        self._most = most
        self._parked_s = parked_s
        self._letters: dict[tuple[str, ...], _Letter] = {}
        self._news = asyncio.Event()
        self._pause_s = 0.0
        self._away = False

    def put(self, subject: tuple[str, ...], act: Act, *, keep_s: float = 86400.0) -> None:
        """Have something said, in place of what was to be said on the subject before; given up after `keep_s`."""
        self._letters.pop(subject, None)
        self._letters[subject] = _Letter(subject, log.subject_facts(), act, Deadline.after(keep_s))
        if len(self._letters) > self._most:
            dropped = self._letters.pop(next(iter(self._letters)))
            _log.warning("too much is untold; the oldest is given up", extra={"subject": dropped.subject})
        self._news.set()

    def poke(self, subject: tuple[str, ...]) -> None:
        """Say that there is reason to try a subject at once."""
        if (letter := self._letters.get(subject)) is not None:
            letter.due = Deadline.after(0)
            self._news.set()

    def waiting(self) -> tuple[tuple[str, ...], ...]:
        """Return the subjects that have not been acknowledged."""
        return tuple(self._letters)

    async def run(self) -> None:
        """Send for ever; cancel to stop."""
        while True:
            self._news.clear()
            await self._send_due()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._idle_s()):
                    await self._news.wait()
            if self._pause_s:
                await asyncio.sleep(self._pause_s * random.uniform(0.7, 1.3))  # noqa: S311  # no secret

    async def flush(self, deadline: Deadline) -> None:
        """Try once more to send everything, until the deadline; `run` must have been stopped."""
        for letter in self._letters.values():
            letter.due = Deadline.after(0)
        self._pause_s = 0.0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline.remaining()):
                await self._send_due()
        if self._letters:
            _log.warning("the API server was not told everything", extra={"untold": len(self._letters)})

    async def _send_due(self) -> None:
        """Send what is due until nothing is, or until the API server turns out to be away."""
        while batch := list(self._due())[:_AT_ONCE]:
            await asyncio.gather(*(self._send(letter) for letter in batch))
            if self._pause_s:
                return

    def _due(self) -> Iterator[_Letter]:
        due = [letter for letter in self._letters.values() if letter.due.expired()]
        return iter(sorted(due, key=lambda letter: letter.tried))

    def _idle_s(self) -> float | None:
        """Return the time until the next letter is due; None when there is none."""
        return min((letter.due.remaining() for letter in self._letters.values()), default=None)

    async def _send(self, letter: _Letter) -> None:
        with log.about(**letter.about):
            await self._try(letter)

    async def _try(self, letter: _Letter) -> None:
        if letter.expires.expired():
            _log.warning("given up: nobody wanted to hear it", extra={"subject": letter.subject})
            self._drop(letter)
            return
        letter.tried += 1
        try:
            await letter.act(Deadline.after(_ONE_TRY_S))
        except KubeConflictError:
            letter.due = Deadline.after(_CONFLICT_S * random.uniform(1, 3))  # noqa: S311  # no secret
            self._note_answer()
        except KubeInvalidError as fault:
            _log.error("the API server does not take it: %s", fault, extra={"subject": letter.subject})
            self._drop(letter)
        except KubeNotFoundError:
            letter.due = Deadline.after(self._parked_s * min(2**letter.parked, _LONGEST_PARKED))
            letter.parked += 1
            self._note_answer()
        except CrikpyError as fault:
            self._note_fault(letter, fault)
        except Exception:  # noqa: BLE001  # a defect of ours; the other letters must go out all the same
            _log.exception("a defect in crikpy: this is not told", extra={"subject": letter.subject})
            self._drop(letter)
        else:
            self._drop(letter)
            self._note_answer()

    def _drop(self, letter: _Letter) -> None:
        """Forget a letter, unless a newer one has taken its place."""
        if self._letters.get(letter.subject) is letter:
            del self._letters[letter.subject]

    def _note_answer(self) -> None:
        if self._away:
            _log.info("the API server answers again", extra={"untold": len(self._letters)})
        self._away, self._pause_s = False, 0.0

    def _note_fault(self, letter: _Letter, fault: CrikpyError) -> None:
        if not fault.retryable:  # forbidden, for instance: other letters may well be taken
            letter.due = Deadline.after(self._parked_s)
            if not letter.complained:
                _log.warning("not told for now: %s", fault, extra={"subject": letter.subject})
            letter.complained = True
            return
        if not self._away:
            _log.warning("the API server is told later: %s", fault)
        self._away = True
        self._pause_s = min(max(_FIRST_PAUSE_S, 2 * self._pause_s), _LONGEST_PAUSE_S)
