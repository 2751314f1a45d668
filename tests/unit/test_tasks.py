"""Tasks: stopped ones have really ended, and how they failed is not lost."""

from __future__ import annotations

import asyncio
import logging

import pytest

from crikpy.aio import tasks


class Sleeper:
    """Sleeps for ever, and needs some time to end when it is cancelled.

    Attributes:
        ended: it is over.
    """

    def __init__(self) -> None:
        self.ended = False

    async def __call__(self) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            self.ended = True


async def _fail_when_cancelled() -> None:
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        raise ValueError("on the way out") from None


async def _nothing() -> None:
    pass


async def test_a_stopped_task_has_really_ended() -> None:
    sleeper = Sleeper()
    task = asyncio.create_task(sleeper())
    await asyncio.sleep(0)
    await tasks.stop(task)
    assert sleeper.ended
    assert task.cancelled()


async def test_the_failure_of_a_stopped_task_is_logged_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    task = asyncio.create_task(_fail_when_cancelled())
    await asyncio.sleep(0)
    with caplog.at_level(logging.WARNING):
        await tasks.stop(task)
    assert "on the way out" in caplog.text


async def test_stopping_a_task_that_has_ended_is_harmless() -> None:
    task = asyncio.create_task(_nothing())
    await task
    await tasks.stop(task)
