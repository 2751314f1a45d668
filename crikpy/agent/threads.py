"""Work that is never left behind: whoever is cancelled while it is done waits for its end first.

What nobody waits for any more would go on using connections and descriptors that its starter has closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def in_thread(executor: Executor | None, act: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run something that blocks in a thread of an executor, None for the loop's own; it knows its own deadline.

    A cancellation takes effect when the work is over, whose result or failure is lost then.
    """
    work = asyncio.get_running_loop().run_in_executor(executor, lambda: act(*args, **kwargs))
    return await _outlast(work, lambda _: None)


async def made_in_thread(executor: Executor | None, make: Callable[[], _T], undo: Callable[[_T], object]) -> _T:
    """Make something that has to be given back, as in_thread; what is made for a cancelled taker is undone."""
    return await _outlast(asyncio.get_running_loop().run_in_executor(executor, make), undo)


async def to_its_end(act: Coroutine[Any, Any, _T]) -> _T:
    """Do something that must not be left half done: a cancellation takes effect when it is over."""
    return await _outlast(asyncio.ensure_future(act), lambda _: None)


async def _outlast(work: asyncio.Future[_T], undo: Callable[[_T], object]) -> _T:
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        # A failure is looked at too, so that nobody complains that nobody did.
        if not work.cancelled() and work.exception() is None:
            undo(work.result())
        raise
