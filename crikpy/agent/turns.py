"""Turns at something scarce: so many at once, and of those that wait the most pressing one next.

When a machine has two minutes left and twenty pods, their order decides what is saved.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import AsyncIterator
from itertools import count

from crikpy.aio.clock import Deadline
from crikpy.errors import DeadlineError

Rank = tuple[float, ...]
"""The lowest comes first; among equals the one that was made first."""

_numbers = count()


class Ticket:
    """A place among those that wait; it may become more pressing at any time.

    Attributes:
        rank: how pressing.
    """

    def __init__(self, rank: Rank) -> None:
        self.rank = rank
        self._number = next(_numbers)
        self._called: asyncio.Future[None] | None = None

    def __lt__(self, other: Ticket) -> bool:
        return (self.rank, self._number) < (other.rank, other._number)

    def call(self) -> bool:
        """Say that it is its turn; return False when its owner waits no more."""
        if self._called is None or self._called.done():
            return False
        self._called.set_result(None)
        return True

    async def wait(self) -> None:
        """Wait to be called."""
        self._called = asyncio.get_running_loop().create_future()
        await self._called

    @property
    def called(self) -> bool:
        """Whether it was called."""
        return self._called is not None and self._called.done() and not self._called.cancelled()


class Turns:
    """So many turns at once."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: list[Ticket] = []

    @contextlib.asynccontextmanager
    async def turn(self, ticket: Ticket, deadline: Deadline) -> AsyncIterator[None]:
        """Have a turn for as long as the context lasts; each ticket is good for one.

        Raises:
            DeadlineError: it did not come in time.
        """
        await self._take(ticket, deadline)
        try:
            yield
        finally:
            self._give()

    def hurry(self, ticket: Ticket, rank: Rank) -> None:
        """Let a ticket come earlier, should it still wait."""
        ticket.rank = min(ticket.rank, rank)
        heapq.heapify(self._waiting)

    async def _take(self, ticket: Ticket, deadline: Deadline) -> None:
        if self._free:
            self._free -= 1
            return
        heapq.heappush(self._waiting, ticket)
        try:
            async with asyncio.timeout(deadline.remaining()):
                await ticket.wait()
        except BaseException as end:
            self._leave(ticket)
            if isinstance(end, TimeoutError):
                raise DeadlineError("out of time while others were saved first") from end
            raise

    def _leave(self, ticket: Ticket) -> None:
        """Wait no more; a turn that was given in this very moment goes on to the next."""
        if ticket.called:
            self._give()
        elif ticket in self._waiting:  # else it was passed over in this very moment
            self._waiting.remove(ticket)
            heapq.heapify(self._waiting)

    def _give(self) -> None:
        while self._waiting:
            if heapq.heappop(self._waiting).call():
                return
        self._free += 1
