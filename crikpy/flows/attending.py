"""The time of `crikpy run` beside a running job: what notices and signals mean to it.

A job that the machine may have to give up is saved and runs on. One that has to go is saved for good, and waits no
more than a part of its time for what is still being stored. How a job is saved is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Protocol

from crikpy.aio.clock import Deadline
from crikpy.aio.tasks import stop
from crikpy.ec2.imds import MetadataClient
from crikpy.ec2.watching import watch_notices
from crikpy.flows.fate import Fate, patience_s
from crikpy.flows.reporting import Reporter
from crikpy.metrics import Metrics
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.settings import Settings

_MARGIN = timedelta(seconds=3)
"""Kept between our deadline and the machine's end, for the job to end and the lease to be given back."""

_LONG_PAST = timedelta(seconds=30)
"""A machine that is still there so long after its end has a clock that is wrong."""

_LEAST_S = 20.0
"""Time for a save then."""

_END_S = 30.0
_PASSED_ON = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)

News = asyncio.Queue[int | InterruptionNotice]
"""Signals by their numbers, and notices."""


class AttendedJob(Protocol):
    """A job that runs; `save` and `wait` may take their time and are called in a thread.

    Attributes:
        reporter: hears the story.
    """

    reporter: Reporter

    @property
    def process(self) -> int:
        """PID whose end is that of the capsule."""
        ...

    def save(self, trigger: Trigger, deadline: Deadline, *, notice: str = "", fate: Fate | None = None) -> bool:
        """Checkpoint the job; return whether it was saved. With a fate it runs on."""
        ...

    def pass_on(self, number: int) -> None:
        """Send a signal to the job."""
        ...

    def wait(self, deadline: Deadline) -> int:
        """Return the exit status of a capsule that has ended."""
        ...


async def attend(
    job: AttendedJob, client: MetadataClient, settings: Settings, metrics: Metrics, news: News
) -> int:
    """Watch the job, the signals and the notices until the job has ended here; return its exit status."""
    notices = asyncio.create_task(_take_notices(client, settings, metrics, news))
    ended = asyncio.create_task(_await_end(job))
    attendant = _Attendant(job, settings)
    try:
        while not ended.done():
            waiting = asyncio.create_task(news.get())
            await asyncio.wait([waiting, ended], return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                await stop(waiting)
                break
            await attendant.react(waiting.result())
        return await ended
    finally:
        await attendant.leave()
        for task in (notices, ended):
            await stop(task)


class _Attendant:
    """Does what signals and notices ask for, one after the other."""

    def __init__(self, job: AttendedJob, settings: Settings) -> None:
        self._job = job
        self._longest_s = settings.run.manual_deadline_s
        self._refused_term = False
        self._fate = Fate(leave_running=True)
        self._storing: asyncio.Task[bool] | None = None
        """A save of the job that runs on."""

    async def react(self, news: int | InterruptionNotice) -> None:
        """Return once the job is saved for good, or was told, or a save is under way by which it runs on."""
        deadline = Deadline.after(self._longest_s)
        if isinstance(news, InterruptionNotice):
            self._job.reporter.event("notice", _describe(news), notice=news.id, action=news.action)
            if news.deadline is not None:
                deadline = _deadline(news.deadline)
            if news.final:
                await self._save_for_good(news.trigger, deadline, news.id)
            elif self._storing is None or self._storing.done():
                self._fate = Fate(leave_running=True)
                save = asyncio.to_thread(self._job.save, news.trigger, deadline, notice=news.id, fate=self._fate)
                self._storing = asyncio.create_task(save)
        elif news != signal.SIGTERM or self._refused_term:
            self._job.pass_on(news)
        else:
            self._refused_term = not await self._save_for_good(Trigger.NODE_SHUTDOWN, deadline)

    async def leave(self) -> None:
        """Give up what is not stored yet."""
        if self._storing is not None:
            self._fate.overtake()
            self._fate.give_way()
            await asyncio.wait([self._storing])

    async def _save_for_good(self, trigger: Trigger, deadline: Deadline, notice: str = "") -> bool:
        """Save the job as it is now; what is stored of it by then need not be stored again."""
        if self._storing is not None and not self._storing.done():
            self._fate.overtake()
            late = asyncio.get_running_loop().call_later(patience_s(deadline), self._fate.give_way)
            await asyncio.wait([self._storing])
            late.cancel()
        return await asyncio.to_thread(self._job.save, trigger, deadline, notice=notice)


def _deadline(ends: datetime) -> Deadline:
    """Return by when a job must be saved on a machine that ends at a time."""
    if ends + _LONG_PAST < datetime.now(UTC):
        return Deadline.after(_LEAST_S)
    return Deadline.from_datetime(ends - _MARGIN)


def _describe(notice: InterruptionNotice) -> str:
    when = f" at {notice.deadline:%H:%M:%S} UTC" if notice.deadline else ""
    return f"{notice.trigger.value}: {notice.action or 'the machine may go'}{when}"


async def _take_notices(client: MetadataClient, settings: Settings, metrics: Metrics, news: News) -> None:
    loop = asyncio.get_running_loop()
    async for notice in watch_notices(client, settings.notices, metrics=metrics):
        if isinstance(notice, InterruptionNotice):  # a withdrawn one comes too late for a job that has moved
            loop.call_later(_pause_before(notice, settings), news.put_nowait, notice)


def _pause_before(notice: InterruptionNotice, settings: Settings) -> float:
    """Return how long a notice may rest: maintenance is announced weeks ahead, and a job need not lose these."""
    if notice.trigger is not Trigger.SCHEDULED_EVENT or notice.deadline is None:
        return 0.0
    return max(0.0, Deadline.from_datetime(notice.deadline).remaining() - settings.run.scheduled_lead_s)


async def _await_end(job: AttendedJob) -> int:
    """Wait for the capsule's end, however long it takes: this is the job's own time."""
    ended = asyncio.Event()
    process = os.pidfd_open(job.process)
    try:
        asyncio.get_running_loop().add_reader(process, ended.set)
        await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(process)
        os.close(process)
    return await asyncio.to_thread(job.wait, Deadline.after(_END_S))


@contextlib.contextmanager
def signals_into(news: News) -> Iterator[None]:
    """Have signals that the job or its saving concerns queue up, instead of ending this process."""
    loop = asyncio.get_running_loop()
    caught = (signal.SIGTERM, *_PASSED_ON)
    for number in caught:
        loop.add_signal_handler(number, news.put_nowait, number)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
