"""Turns go to the most pressing, never to more than there are, and none is lost; memory is shared among dumps."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.agent.dumps import shared_out
from crikpy.agent.turns import Ticket, Turns
from crikpy.aio.clock import Deadline
from crikpy.errors import DeadlineError, SettingsError
from crikpy.settings import MIB, Settings
from crikpy.store.budget import RESERVED_BYTES, write_budget

LATER = Deadline.after(86400)


async def _nothing_runs() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


class Queue:
    """Tasks that want turns, and the order in which they had them."""

    def __init__(self, at_once: int) -> None:
        self.turns = Turns(at_once)
        self.had: list[str] = []
        self.go_on = asyncio.Event()
        self.tickets: dict[str, Ticket] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def want(self, name: str, rank: float, deadline: Deadline = LATER) -> None:
        self.tickets[name] = Ticket((rank,))
        self.tasks[name] = asyncio.create_task(self._have(name, deadline))

    async def _have(self, name: str, deadline: Deadline) -> None:
        async with self.turns.turn(self.tickets[name], deadline):
            self.had.append(name)
            await self.go_on.wait()

    async def finish(self) -> list[str]:
        self.go_on.set()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        return self.had


async def test_the_most_pressing_comes_next_and_among_equals_the_first() -> None:
    queue = Queue(1)
    for name, rank in (("now", 9), ("late", 3), ("soon", 1), ("sooner", 1), ("early", 0)):
        queue.want(name, rank)
        await _nothing_runs()
    assert queue.had == ["now"]
    assert await queue.finish() == ["now", "early", "soon", "sooner", "late"]


async def test_so_many_at_once_and_no_more() -> None:
    queue = Queue(2)
    for name in "abc":
        queue.want(name, 0)
    await _nothing_runs()
    assert queue.had == ["a", "b"]
    await queue.finish()


async def test_one_that_becomes_more_pressing_comes_earlier() -> None:
    queue = Queue(1)
    for name in "abc":
        queue.want(name, 5)
    await _nothing_runs()
    queue.turns.hurry(queue.tickets["c"], (0,))
    queue.turns.hurry(queue.tickets["b"], (9,))
    assert await queue.finish() == ["a", "c", "b"]


async def test_who_waits_too_long_gets_none_and_takes_none_from_others() -> None:
    queue = Queue(1)
    queue.want("a", 0)
    queue.want("b", 0, Deadline.after(0.01))
    queue.want("c", 1)
    await _nothing_runs()
    with pytest.raises(DeadlineError, match="others were saved first"):
        await queue.tasks["b"]
    assert await queue.finish() == ["a", "c"]


async def test_who_is_cancelled_in_the_moment_of_being_called_passes_the_turn_on() -> None:
    queue = Queue(1)
    async with contextlib.AsyncExitStack() as first:
        await first.enter_async_context(queue.turns.turn(Ticket((0,)), LATER))
        for name in "bc":
            queue.want(name, 0)
        await _nothing_runs()
    # Nothing has run since: the one who was called does not know it yet.
    assert queue.tickets["b"].called
    queue.tasks["b"].cancel()
    assert await queue.finish() == ["c"]
    assert queue.tasks["b"].cancelled()


@given(
    memory=st.integers(1, 4096).map(lambda count: count * MIB),
    dumps=st.integers(1, 40),
)
def test_dumps_share_the_memory_and_each_has_enough(memory: int, dumps: int) -> None:
    given_out = Settings()
    given_out = replace(
        given_out,
        store=replace(given_out.store, memory_bytes=memory),
        agent=replace(given_out.agent, dumps=dumps),
    )
    try:
        write_budget(given_out.store)
    except SettingsError:
        with pytest.raises(SettingsError):
            shared_out(given_out)
        return
    settings, at_once = shared_out(given_out)
    write_budget(settings.store)
    assert 1 <= at_once <= dumps
    assert (settings.store.memory_bytes - RESERVED_BYTES) * at_once + RESERVED_BYTES <= memory
