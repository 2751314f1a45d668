"""A job beside `crikpy run`: what is stored of it while it runs on never keeps it from being saved for good."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest

from crikpy.aio.clock import Deadline
from crikpy.ec2.imds import MetadataClient
from crikpy.errors import CapsuleError
from crikpy.flows.attending import News, attend
from crikpy.flows.fate import Fate
from crikpy.flows.reporting import Reporter, Silent
from crikpy.metrics import Metrics
from crikpy.model.notices import Trigger
from crikpy.settings import NoticeSettings, RunSettings, Settings
from tests.fakes.imds import FakeImds

_PATIENCE_S = 30.0


@dataclass
class SlowJob:
    """A job of which storing takes for ever while it runs on, and which ends once it is saved for good."""

    child: subprocess.Popen[bytes]
    reporter: Reporter = field(default_factory=Silent)
    storing: threading.Event = field(default_factory=threading.Event)
    saved: list[str] = field(default_factory=list)
    left_s: float = 0.0
    signals: list[int] = field(default_factory=list)
    given_up: threading.Event = field(default_factory=threading.Event)

    @property
    def process(self) -> int:
        return self.child.pid

    def save(self, trigger: Trigger, deadline: Deadline, *, notice: str = "", fate: Fate | None = None) -> bool:
        if fate is None:
            self.saved.append(trigger)
            self.left_s = deadline.remaining()
            self.child.kill()
            return True
        try:
            fate.begin()
        except CapsuleError:
            return False
        assert fate.opens(lambda _: self.given_up.set())
        self.storing.set()
        return not self.given_up.wait(_PATIENCE_S)

    def pass_on(self, number: int) -> None:
        self.signals.append(number)

    def wait(self, deadline: Deadline) -> int:
        self.child.wait()
        return 75


@pytest.fixture
def job() -> Iterator[SlowJob]:
    with subprocess.Popen(["sleep", "3600"]) as child:
        yield SlowJob(child)
        child.kill()


@pytest.fixture
async def imds() -> AsyncIterator[FakeImds]:
    async with FakeImds().serving() as service:
        yield service


async def attended(job: SlowJob, imds: FakeImds, news: News) -> int:
    notices = NoticeSettings(imds_endpoint=imds.endpoint, poll_interval_s=0.05)
    settings = Settings(notices=notices, run=RunSettings(manual_deadline_s=4.0))
    async with asyncio.timeout(_PATIENCE_S), MetadataClient(notices) as client:
        return await attend(job, client, settings, Metrics(), news)


async def stored_early(job: SlowJob, imds: FakeImds) -> None:
    imds.rebalance()
    assert await asyncio.to_thread(job.storing.wait, _PATIENCE_S)


async def test_a_final_notice_overtakes_what_is_still_being_stored(job: SlowJob, imds: FakeImds) -> None:
    attending = asyncio.create_task(attended(job, imds, asyncio.Queue()))
    await stored_early(job, imds)
    imds.spot(in_s=10)
    assert await attending == 75
    assert job.given_up.is_set()
    assert job.saved == [Trigger.SPOT_INTERRUPTION]


async def test_a_clock_that_is_hours_ahead_leaves_time_for_the_save(job: SlowJob, imds: FakeImds) -> None:
    imds.spot(in_s=-2 * 3600)
    assert await attended(job, imds, asyncio.Queue()) == 75
    assert job.saved == [Trigger.SPOT_INTERRUPTION]
    assert job.left_s > 10


async def test_a_sigterm_overtakes_it_too(job: SlowJob, imds: FakeImds) -> None:
    news: News = asyncio.Queue()
    attending = asyncio.create_task(attended(job, imds, news))
    await stored_early(job, imds)
    news.put_nowait(signal.SIGTERM)
    assert await attending == 75
    assert job.saved == [Trigger.NODE_SHUTDOWN]


async def test_other_signals_reach_the_job_while_it_is_stored(job: SlowJob, imds: FakeImds) -> None:
    news: News = asyncio.Queue()
    attending = asyncio.create_task(attended(job, imds, news))
    await stored_early(job, imds)
    news.put_nowait(signal.SIGUSR1)
    news.put_nowait(signal.SIGTERM)
    assert await attending == 75
    assert job.signals == [signal.SIGUSR1]


async def test_what_is_still_stored_of_a_job_that_ends_is_given_up(job: SlowJob, imds: FakeImds) -> None:
    attending = asyncio.create_task(attended(job, imds, asyncio.Queue()))
    await stored_early(job, imds)
    job.child.kill()
    assert await attending == 75
    assert job.given_up.is_set()
