"""The queue against a real SQS API: what is deleted, what comes again, and what cannot stop the rest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from crikpy.aio.tasks import stop
from crikpy.ec2.queue import QueueSource
from crikpy.errors import AwsError, AwsUnavailableError, SettingsError
from crikpy.metrics import Metrics
from crikpy.model.notices import Trigger, Withdrawn
from crikpy.settings import SourceSettings
from tests.ec2.desks import Desk
from tests.ec2.test_messages import FIXTURES, INSTANCE, body
from tests.fakes.aws import REGION, FakeAws

TOKEN = "87654321-4321-4321-4321-210987654321"


def fresh(name: str) -> str:
    """Return a fixture as if it had been sent now."""

    found = json.loads(body(name))
    found["time"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return json.dumps(found)


class Listening:
    """A queue and the source that hears it."""

    def __init__(self, aws: FakeAws, queue: str, **settings: Any) -> None:
        self.aws = aws
        self.queue = queue
        self.desk = Desk()
        self.metrics = Metrics()
        self.settings = SourceSettings(queue_url=queue, region=REGION, **settings)
        self.source = QueueSource(self.settings, self.metrics, wait_s=1)

    def outcome(self, name: str) -> float:
        found = self.metrics.registry.get_sample_value("crikpy_queue_messages_total", {"outcome": name})
        return found or 0.0

    async def until_empty(self) -> None:
        await self.desk.until(lambda: self.aws.left_in(self.queue) == 0)


Begin = Callable[..., Listening]


@pytest.fixture
async def begin(aws: FakeAws) -> AsyncIterator[Begin]:
    async with AsyncExitStack() as stack:

        def begin(*, run: bool = True, **settings: Any) -> Listening:
            listening = Listening(aws, aws.make_queue(), **settings)
            stack.push_async_callback(listening.source.__aexit__, None, None, None)
            if run:
                task = asyncio.create_task(listening.source.run(listening.desk))
                stack.push_async_callback(stop, task)
            return listening

        yield begin


async def test_a_message_is_deleted_once_it_has_been_acted_upon(begin: Begin) -> None:
    listening = begin()
    listening.aws.send(listening.queue, fresh("spot-terminate"))
    await listening.until_empty()
    (notice,) = listening.desk.notices
    assert (notice.instance, notice.trigger) == (INSTANCE, Trigger.SPOT_INTERRUPTION)
    await listening.desk.until(lambda: listening.outcome("acted") == 1)


async def test_how_long_a_message_lay_in_the_queue_is_measured(begin: Begin) -> None:
    listening = begin()
    listening.aws.send(listening.queue, "x")
    await listening.until_empty()
    assert listening.metrics.registry.get_sample_value("crikpy_queue_lag_seconds_count") == 1


async def test_a_message_that_cannot_be_acted_upon_now_is_told_again(begin: Begin) -> None:
    listening = begin()
    listening.desk.failures = 2
    listening.aws.send(listening.queue, fresh("spot-terminate"))
    await listening.desk.until(lambda: len(listening.desk.news) == 1)
    assert listening.aws.left_in(listening.queue) == 1
    await listening.until_empty()
    assert len(listening.desk.news) == 3


async def test_a_message_of_a_controller_that_was_killed_comes_again(begin: Begin) -> None:
    listening = begin(run=False, queue_visibility_s=1)
    listening.desk.failures = 1000
    task = asyncio.create_task(listening.source.run(listening.desk))
    listening.aws.send(listening.queue, fresh("spot-terminate"))
    await listening.desk.until(lambda: listening.desk.news)
    await stop(task)
    assert listening.aws.left_in(listening.queue) == 1
    listening.desk.failures = 0
    task = asyncio.create_task(listening.source.run(listening.desk))
    await listening.until_empty()
    await stop(task)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("test-notification", "test"),
        ("other-event", "ignored"),
        ("wrong-instance", "unparsable"),
        ("spot-hibernate", "stale"),
    ],
)
async def test_what_is_not_for_us_is_deleted_unread(begin: Begin, name: str, outcome: str) -> None:
    listening = begin()
    listening.aws.send(listening.queue, body(name))
    await listening.until_empty()
    await listening.desk.until(lambda: listening.outcome(outcome) == 1)
    assert not listening.desk.news


async def test_an_instance_of_another_cluster_is_none_of_our_business(begin: Begin) -> None:
    listening = begin()
    listening.desk.foreign = {INSTANCE}
    listening.aws.await_action(TOKEN)
    listening.aws.send(listening.queue, fresh("spot-terminate"))
    listening.aws.send(listening.queue, body("lifecycle-direct"))
    await listening.until_empty()
    await listening.desk.until(lambda: listening.outcome("foreign") == 2)
    assert not listening.aws.completed
    assert not listening.aws.heartbeats


async def test_a_poisoned_queue_stops_nobody(begin: Begin, caplog: pytest.LogCaptureFixture) -> None:
    listening = begin(run=False)
    for number in range(25):
        listening.aws.send(listening.queue, f"<poison {number}>" * 100)
    for path in FIXTURES.glob("wrong-*.json"):
        listening.aws.send(listening.queue, path.read_text())
    listening.aws.send(listening.queue, fresh("spot-terminate"))
    task = asyncio.create_task(listening.source.run(listening.desk))
    await listening.until_empty()
    unparsable = 25 + len(list(FIXTURES.glob("wrong-*.json")))
    await listening.desk.until(lambda: listening.outcome("unparsable") == unparsable)
    await stop(task)
    assert len(listening.desk.notices) == 1
    assert all(len(record.getMessage()) < 1000 for record in caplog.records)


async def test_a_defect_of_ours_in_one_message_ends_nothing(begin: Begin) -> None:
    listening = begin(queue_visibility_s=1)
    listening.desk.defect = True
    listening.aws.send(listening.queue, fresh("spot-terminate"))
    await listening.desk.until(lambda: listening.outcome("failed") >= 1)
    listening.desk.defect = False
    await listening.until_empty()


async def test_maintenance_is_withdrawn_for_each_instance(begin: Begin) -> None:
    listening = begin()
    listening.aws.send(listening.queue, body("health-closed"))
    await listening.until_empty()
    assert [type(news) for news in listening.desk.news] == [Withdrawn, Withdrawn]


# ---- lifecycle hooks -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lifecycle-eventbridge", "lifecycle-direct", "lifecycle-sns"])
async def test_an_instance_is_kept_by_heartbeats_until_it_is_clear(begin: Begin, name: str) -> None:
    listening = begin(hook_heartbeat_s=0.1, queue_visibility_s=1)
    listening.desk.clear = False
    listening.aws.await_action(TOKEN)
    listening.aws.send(listening.queue, body(name))
    await listening.desk.until(lambda: len(listening.aws.heartbeats) >= 3)
    await asyncio.sleep(1.5)  # longer than SQS would hide it from others by itself
    assert len(listening.desk.news) == 1
    assert not listening.aws.completed
    assert listening.aws.left_in(listening.queue) == 1
    listening.desk.clear = True
    await listening.until_empty()
    assert listening.aws.completed == [(TOKEN, "CONTINUE")]
    assert set(listening.aws.heartbeats) == {TOKEN}


async def test_the_same_action_in_two_shapes_is_completed_once(begin: Begin) -> None:
    listening = begin()
    listening.aws.await_action(TOKEN)
    for name in ("lifecycle-eventbridge", "lifecycle-direct"):
        listening.aws.send(listening.queue, body(name))
    await listening.until_empty()
    assert listening.aws.completed == [(TOKEN, "CONTINUE")]


async def test_an_action_that_is_over_is_left_alone(begin: Begin) -> None:
    listening = begin(hook_heartbeat_s=0.1)
    listening.desk.clear = False
    listening.aws.send(listening.queue, body("lifecycle-direct"))
    await listening.until_empty()
    assert not listening.aws.completed


async def test_an_instance_is_not_kept_for_ever(begin: Begin) -> None:
    listening = begin(hook_heartbeat_s=0.1, hook_longest_s=0.5)
    listening.desk.clear = False
    listening.aws.await_action(TOKEN)
    listening.aws.send(listening.queue, body("lifecycle-direct"))
    await listening.until_empty()
    assert listening.aws.completed == [(TOKEN, "CONTINUE")]
    assert listening.metrics.registry.get_sample_value("crikpy_lifecycle_hooks_total", {"outcome": "expired"}) == 1


async def test_hooks_that_wait_keep_no_other_message_waiting(begin: Begin) -> None:
    listening = begin(hook_heartbeat_s=30)
    listening.desk.clear = False
    for number in range(20):
        token = f"{TOKEN[:-2]}{number:02}"
        listening.aws.await_action(token)
        listening.aws.send(
            listening.queue, json.dumps(json.loads(body("lifecycle-direct")) | {"LifecycleActionToken": token})
        )
    await listening.desk.until(lambda: len(listening.desk.notices) == 20)
    listening.aws.send(listening.queue, fresh("spot-terminate"))
    await listening.desk.until(lambda: len(listening.desk.notices) == 21)
    listening.desk.clear = True
    await listening.until_empty()
    assert len(listening.aws.completed) == 20


# ---- how it stands with the queue ------------------------------------------------------


async def test_a_check_says_how_many_messages_wait(begin: Begin) -> None:
    listening = begin(run=False)
    listening.aws.send(listening.queue, "x")
    assert await listening.source.check() == f"{listening.queue} answers, 1 messages wait"


async def test_a_queue_that_is_not_there_is_named_with_what_to_do(aws: FakeAws) -> None:
    settings = SourceSettings(queue_url=f"{aws.endpoint}/123456789012/nowhere", region=REGION)
    async with QueueSource(settings, Metrics(), wait_s=0) as source:
        with pytest.raises(AwsError, match="CRIKPY_SOURCES_QUEUE_URL"):
            await source.check()


async def test_an_outage_is_borne_and_told_once_each_way(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    queue_is_at = begin(run=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9")
    metrics = Metrics()
    async with QueueSource(queue_is_at.settings, metrics, wait_s=0) as source:
        with pytest.raises(AwsUnavailableError):
            await source.check()
        task = asyncio.create_task(source.run(queue_is_at.desk))
        await queue_is_at.desk.until(
            lambda: metrics.registry.get_sample_value("crikpy_source_working", {"source": "queue"}) == 0
        )
        await asyncio.sleep(1.5)
        await stop(task)
    assert len([record for record in caplog.records if "does not work for now" in record.getMessage()]) == 1


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"queue_url": "interruptions"}, "CRIKPY_SOURCES_QUEUE_URL"),
        ({"queue_url": "http://localhost/1/name"}, "CRIKPY_SOURCES_REGION"),
    ],
)
def test_a_queue_that_nobody_can_find_is_refused_at_once(
    settings: dict[str, str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(SettingsError) as refused:
        QueueSource(SourceSettings(**settings), Metrics())  # type: ignore[arg-type]
    assert complaint in f"{refused.value} {refused.value.remedy}"
