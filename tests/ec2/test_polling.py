"""Asking EC2 itself: spot requests about to end, planned events, pages, refusals."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from crikpy.aio.tasks import stop
from crikpy.ec2.polling import PollSource
from crikpy.errors import AwsForbiddenError, SettingsError
from crikpy.metrics import Metrics
from crikpy.model.notices import Trigger, Withdrawn
from crikpy.settings import SourceSettings
from tests.ec2.desks import Desk
from tests.fakes.aws import REGION, FakeAws


def instance(number: int) -> str:
    return f"i-{number:017x}"


class Polling:
    """A source that asks, and the desk that it tells."""

    def __init__(self, aws: FakeAws) -> None:
        self.aws = aws
        self.desk = Desk()
        self.metrics = Metrics()
        self.source = PollSource(
            SourceSettings(poll_enabled=True, poll_interval_s=0.1, region=REGION), self.metrics
        )

    async def look(self) -> None:
        """Wait until EC2 was asked twice more."""
        asked = len(self.aws.asked)
        await self.desk.until(lambda: len(self.aws.asked) >= asked + 6)


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
async def polling(aws: FakeAws) -> AsyncIterator[Polling]:
    polling = Polling(aws)
    async with polling.source:
        task = asyncio.create_task(polling.source.run(polling.desk))
        yield polling
        await stop(task)


@pytest.mark.parametrize(
    ("code", "action"),
    [
        ("marked-for-termination", "terminate"),
        ("instance-terminated-no-capacity", "terminate"),
        ("marked-for-stop", "stop"),
        ("marked-for-stop-by-experiment", "stop"),
    ],
)
async def test_a_spot_request_that_is_about_to_end_is_told_once(
    polling: Polling, now: datetime, code: str, action: str
) -> None:
    polling.aws.request_spot(instance(1), code, now)
    await polling.look()
    await polling.look()
    (notice,) = polling.desk.notices
    assert (notice.trigger, notice.action, notice.instance) == (Trigger.SPOT_INTERRUPTION, action, instance(1))
    assert notice.deadline == now + timedelta(minutes=2)


async def test_requests_that_are_fulfilled_or_ended_long_ago_are_not_told(polling: Polling, now: datetime) -> None:
    polling.aws.request_spot(instance(1), "fulfilled", now)
    polling.aws.request_spot(instance(2), "instance-terminated-by-price", now - timedelta(hours=1))
    await polling.look()
    assert not polling.desk.news


async def test_every_page_is_turned(polling: Polling, now: datetime) -> None:
    for number in range(5):
        polling.aws.request_spot(instance(number), "marked-for-termination", now, request=f"sir-{number}")
        polling.aws.plan_event(instance(number), "system-reboot", now + timedelta(days=1))
    await polling.desk.until(lambda: len(polling.desk.notices) == 10)
    assert len({notice.id for notice in polling.desk.notices}) == 10


async def test_a_planned_event_is_told_with_its_time(polling: Polling, now: datetime) -> None:
    polling.aws.plan_event(instance(1), "instance-retirement", now + timedelta(days=3))
    await polling.look()
    (notice,) = polling.desk.notices
    assert (notice.trigger, notice.action) == (Trigger.SCHEDULED_EVENT, "stop")
    assert notice.deadline == now + timedelta(days=3)


@pytest.mark.parametrize("beginning", ["[Completed]", "[Canceled]"])
async def test_an_event_that_is_over_is_not_told(polling: Polling, now: datetime, beginning: str) -> None:
    polling.aws.plan_event(instance(1), "system-reboot", now, description=f"{beginning} The system was rebooted")
    await polling.look()
    assert not polling.desk.news


async def test_an_event_that_is_planned_no_more_is_withdrawn(polling: Polling, now: datetime) -> None:
    polling.aws.plan_event(instance(1), "system-reboot", now + timedelta(days=1))
    await polling.desk.until(lambda: polling.desk.notices)
    polling.aws.cancel_events()
    await polling.desk.until(lambda: len(polling.desk.news) == 2)
    assert polling.desk.news[1] == Withdrawn(notice=polling.desk.notices[0])
    await polling.look()
    assert len(polling.desk.news) == 2


async def test_what_could_not_be_acted_upon_is_told_at_the_next_look(polling: Polling, now: datetime) -> None:
    polling.desk.failures = 2
    polling.aws.request_spot(instance(1), "marked-for-termination", now)
    await polling.desk.until(lambda: len(polling.desk.news) == 3)
    await polling.look()
    assert len(polling.desk.news) == 3


async def test_a_missing_permission_is_borne_named_and_told_once(
    polling: Polling, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "crikpy")
    await polling.look()
    polling.aws.refuse("DescribeInstanceStatus")
    with pytest.raises(AwsForbiddenError, match=r"docs/sources\.md"):
        await polling.source.check()

    def works() -> float | None:
        return polling.metrics.registry.get_sample_value("crikpy_source_working", {"source": "poll"})

    await polling.desk.until(lambda: works() == 0)
    polling.aws.refuse()
    polling.aws.request_spot(instance(1), "marked-for-termination", now)
    await polling.desk.until(lambda: works() == 1)
    await polling.desk.until(lambda: polling.desk.notices)
    said = [record.getMessage() for record in caplog.records if "source poll" in record.getMessage()]
    assert len(said) == 2


async def test_a_check_says_where_and_how_often_it_asks(polling: Polling) -> None:
    assert await polling.source.check() == f"EC2 of {REGION} is asked every 0.1 s"


def test_a_region_must_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(SettingsError):
        PollSource(SourceSettings(poll_enabled=True), Metrics())
