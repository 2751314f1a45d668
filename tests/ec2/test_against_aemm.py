"""What AWS's own mock of the metadata service says is understood like what our fake says, and like AWS's pages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from crikpy.ec2.imds import MetadataClient
from crikpy.ec2.watching import watch_notices
from crikpy.errors import MetadataError
from crikpy.metrics import Metrics
from crikpy.model.notices import InterruptionNotice, Trigger, Withdrawn
from crikpy.settings import NoticeSettings
from tests.fakes.aemm import INSTANCE, find_program, mocking
from tests.fakes.imds import FakeImds

pytestmark = pytest.mark.aemm

TIME = "2031-02-03T04:05:06Z"
DEADLINE = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
PATIENCE_S = 20.0

Mock = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def mock(tmp_path: Path) -> Mock:
    program = find_program()
    if program is None:
        pytest.skip("needs amazon-ec2-metadata-mock: hack/setup test builds it")
    return partial(mocking, program, tmp_path)


def settings_for(endpoint: str) -> NoticeSettings:
    return NoticeSettings(imds_endpoint=endpoint, poll_interval_s=0.05, request_timeout_s=2.0)


@contextlib.asynccontextmanager
async def watching(endpoint: str) -> AsyncIterator[Callable[[], asyncio.Future[InterruptionNotice]]]:
    """Watch a service; what the context gives waits for its next notice."""
    found: asyncio.Queue[InterruptionNotice | Withdrawn] = asyncio.Queue()

    async def watch() -> None:
        settings = settings_for(endpoint)
        async with MetadataClient(settings) as client:
            async for news in watch_notices(client, settings, metrics=Metrics()):
                await found.put(news)

    async def following() -> InterruptionNotice:
        async with asyncio.timeout(PATIENCE_S):
            news = await found.get()
        assert isinstance(news, InterruptionNotice), f"taken back: {news}"
        return news

    task = asyncio.create_task(watch())
    try:
        yield lambda: asyncio.ensure_future(following())
    finally:
        task.cancel()
        await asyncio.wait([task])


async def first_from(endpoint: str) -> InterruptionNotice:
    async with watching(endpoint) as following:
        return await following()


async def first_from_fake(prepare: Callable[[FakeImds], None]) -> InterruptionNotice:
    fake = FakeImds(instance=INSTANCE)
    async with fake.serving():
        prepare(fake)
        return await first_from(fake.endpoint)


def same(one: InterruptionNotice, other: InterruptionNotice) -> bool:
    """Say whether two notices differ in nothing but when they were seen."""
    return replace(one, seen=other.seen) == other


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
async def test_a_spot_interruption_is_read_as_from_our_fake(mock: Mock, action: str) -> None:
    with mock("spot", "--action", action, "--time", TIME) as endpoint:
        notice = await first_from(endpoint)
    assert (notice.trigger, notice.deadline, notice.action) == (Trigger.SPOT_INTERRUPTION, DEADLINE, action)
    assert notice.instance == INSTANCE
    assert same(notice, await first_from_fake(lambda fake: fake.spot(action, at=TIME)))


async def test_a_spot_interruption_that_comes_later_is_heard_by_the_same_watch(mock: Mock) -> None:
    words = ("--time", TIME, "--rebalance-delay-sec", "3600", "--mock-delay-sec", "4")
    with mock("spot", *words) as endpoint:
        async with MetadataClient(settings_for(endpoint)) as client:
            assert await client.get("meta-data/spot/instance-action") is None
        assert (await first_from(endpoint)).deadline == DEADLINE


async def test_a_notice_that_stands_is_told_once(mock: Mock) -> None:
    with mock("spot", "--time", TIME, "--rebalance-delay-sec", "2") as endpoint:
        async with watching(endpoint) as following:
            told = [await following(), await following()]
    # The mock's rebalance recommendation has a new time at every look, and counts as new; its spot notice has not.
    assert [notice.trigger for notice in told] == [Trigger.SPOT_INTERRUPTION, Trigger.REBALANCE_RECOMMENDATION]


async def test_a_rebalance_recommendation_is_read_as_from_our_fake(mock: Mock) -> None:
    with mock("spot", "--mock-delay-sec", "3600", "--rebalance-rec-time", TIME) as endpoint:
        notice = await first_from(endpoint)
    assert (notice.trigger, notice.deadline) == (Trigger.REBALANCE_RECOMMENDATION, None)
    assert same(notice, await first_from_fake(lambda fake: fake.rebalance(at=TIME)))


@pytest.mark.parametrize(
    ("code", "action"),
    [
        ("instance-stop", "stop"),
        ("instance-retirement", "stop"),
        ("instance-reboot", "reboot"),
        ("system-reboot", "reboot"),
        ("system-maintenance", ""),
    ],
)
async def test_a_scheduled_event_is_read_as_from_our_fake(mock: Mock, code: str, action: str) -> None:
    with mock("events", "--code", code, "--not-before", TIME) as endpoint:
        notice = await first_from(endpoint)
    assert (notice.trigger, notice.deadline, notice.action) == (Trigger.SCHEDULED_EVENT, DEADLINE, action)
    event = {
        "Code": code,
        "Description": f"The instance is scheduled for {code}",
        "EventId": "instance-event-1234567890abcdef0",
        "State": "active",
        "NotBefore": "3 Feb 2031 04:05:06 GMT",
    }
    assert same(notice, await first_from_fake(lambda fake: fake.scheduled(event)))


@pytest.mark.parametrize("state", ["completed", "canceled"])
async def test_an_event_that_is_over_is_no_notice(mock: Mock, state: str) -> None:
    with mock("events", "--state", state, "--not-before", TIME) as endpoint:
        async with MetadataClient(settings_for(endpoint)) as client:
            assert state in (await client.get("meta-data/events/maintenance/scheduled") or "")
        async with watching(endpoint) as following:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(following(), 1)


async def test_an_instance_that_its_group_wants_to_be_gone_is_read_as_from_our_fake(mock: Mock) -> None:
    with mock("asglifecycle", "--asg-termination-delay-sec", "4") as endpoint:
        async with MetadataClient(settings_for(endpoint)) as client:
            assert await client.get("meta-data/autoscaling/target-lifecycle-state") == "InService"
        notice = await first_from(endpoint)
    assert (notice.trigger, notice.deadline, notice.action) == (Trigger.NODE_SHUTDOWN, None, "terminate")
    assert same(notice, await first_from_fake(lambda fake: fake.lifecycle("Terminated")))


async def test_all_of_it_at_once_is_told_with_the_most_pressing_first(mock: Mock) -> None:
    with mock() as endpoint:
        async with watching(endpoint) as following:
            told = [(await following()).trigger for _ in range(4)]
    assert told == [
        Trigger.SPOT_INTERRUPTION,
        Trigger.NODE_SHUTDOWN,
        Trigger.SCHEDULED_EVENT,
        Trigger.REBALANCE_RECOMMENDATION,
    ]


async def test_who_and_where_the_machine_is_can_be_read(mock: Mock) -> None:
    with mock("spot", "--mock-delay-sec", "3600") as endpoint:
        async with MetadataClient(settings_for(endpoint)) as client:
            identity = await client.identity()
            assert await client.instance_id() == INSTANCE == identity.instance
            assert identity.zone.startswith(identity.region)


async def test_a_mock_that_is_gone_is_an_error_and_not_a_silence(mock: Mock) -> None:
    with mock("spot") as endpoint:
        pass
    async with MetadataClient(settings_for(endpoint)) as client:
        with pytest.raises(MetadataError):
            await client.get("meta-data/spot/instance-action")
