"""Tasks: stopped ones have really ended, and the first to end is the one that counts."""

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


async def _fail(text: str) -> None:
    raise ValueError(text)


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


async def test_the_first_to_end_is_named_and_the_others_are_stopped() -> None:
    sleepers = [Sleeper(), Sleeper()]
    assert await tasks.first_of(sleepers[0](), _nothing(), sleepers[1]()) == 1
    assert all(sleeper.ended for sleeper in sleepers)


async def test_of_several_that_end_at_once_the_first_named_wins() -> None:
    assert await tasks.first_of(_nothing(), _nothing()) == 0


async def test_the_winners_error_is_raised_and_the_others_are_stopped() -> None:
    sleeper = Sleeper()
    with pytest.raises(ValueError, match="broken"):
        await tasks.first_of(sleeper(), _fail("broken"))
    assert sleeper.ended


async def test_a_loser_that_failed_at_the_same_time_is_not_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert await tasks.first_of(_nothing(), _fail("also broken")) == 0
    assert [record.name for record in caplog.records if "also broken" in record.getMessage()] == [tasks.__name__]


async def test_whoever_stops_waiting_stops_them_all() -> None:
    sleepers = [Sleeper(), Sleeper()]
    waiting = asyncio.create_task(tasks.first_of(*(sleeper() for sleeper in sleepers)))
    await asyncio.sleep(0.01)
    await tasks.stop(waiting)
    assert all(sleeper.ended for sleeper in sleepers)
