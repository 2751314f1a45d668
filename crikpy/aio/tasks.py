"""Tasks that must not end unnoticed.

An eternal task that ends is a defect of the program, not a quiet event: the one who waits for the group learns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

_log = logging.getLogger(__name__)


async def stop(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has really ended; its own failure is logged, not raised."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and (fault := task.exception()) is not None:
        _log.warning("a stopped task had failed: %s", fault)


async def first_of(*acts: Coroutine[Any, Any, Any]) -> int:
    """Run several and return the index of the one that ended first; the others are stopped.

    When several ended at once, the lowest index wins. The winner's error is raised.
    """
    tasks = [asyncio.ensure_future(act) for act in acts]
    winner: asyncio.Task[Any] | None = None
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        winner = next(task for task in tasks if task.done())
        winner.result()
        return tasks.index(winner)
    finally:
        for task in tasks:
            if task is not winner:
                await stop(task)
