"""The watch yields each notice once and outlives whatever the service does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from crikpy.ec2.imds import MetadataClient
from crikpy.ec2.watching import watch_notices
from crikpy.metrics import Metrics
from crikpy.model.notices import InterruptionNotice, Trigger, Withdrawn
from crikpy.settings import NoticeSettings
from tests.fakes.imds import LIFECYCLE, REBALANCE, SCHEDULED, SPOT, FakeImds

PATIENCE_S = 20.0


class Watch:
    """A watch under way, and what it has yielded so far."""

    def __init__(self, imds: FakeImds, settings: NoticeSettings) -> None:
        self.imds = imds
        self.metrics = Metrics()
        self.notices: list[InterruptionNotice] = []
        self.withdrawn: list[InterruptionNotice] = []
        self._settings = settings

    async def run(self) -> None:
        async with MetadataClient(self._settings) as client:
            async for news in watch_notices(client, self._settings, metrics=self.metrics):
                if isinstance(news, Withdrawn):
                    self.withdrawn.append(news.notice)
                else:
                    self.notices.append(news)

    async def sees(self, count: int) -> InterruptionNotice:
        """Wait until so many notices were yielded and return the last."""
        await until(lambda: len(self.notices) >= count)
        assert len(self.notices) == count
        return self.notices[-1]

    async def looks_again(self) -> None:
        """Wait until every source was certainly asked once more."""
        enough = self.imds.seen["answers"] + 12
        await until(lambda: self.imds.seen["answers"] >= enough)

    def reachable(self) -> float | None:
        return self.metrics.registry.get_sample_value("crikpy_metadata_reachable")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - counters and gauges tell nobody that they changed
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def watching(imds: FakeImds, *, enabled: bool = True) -> AsyncIterator[Watch]:
    settings = NoticeSettings(
        imds_endpoint=imds.endpoint, imds_enabled=enabled, poll_interval_s=0.02, request_timeout_s=0.3
    )
    watch = Watch(imds, settings)
    task = asyncio.create_task(watch.run())
    try:
        yield watch
        assert not task.done(), "the watch ended by itself"
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def imds() -> AsyncIterator[FakeImds]:
    async with FakeImds().serving() as service:
        yield service


async def test_a_spot_notice_is_yielded_once_though_it_stays(imds: FakeImds) -> None:
    async with watching(imds) as watch:
        await watch.looks_again()
        assert watch.notices == []
        imds.spot("terminate", at="2030-01-02T03:04:05Z")
        notice = await watch.sees(1)
        assert (notice.instance, notice.action) == ("i-0123456789abcdef0", "terminate")
        await watch.looks_again()
        assert len(watch.notices) == 1
        counted = watch.metrics.registry.get_sample_value(
            "crikpy_notices_total", {"trigger": Trigger.SPOT_INTERRUPTION.value, "strength": "final"}
        )
        assert counted == 1


async def test_all_sources_are_watched_and_the_pressing_ones_come_first(imds: FakeImds) -> None:
    imds.rebalance()
    imds.lifecycle("Terminated")
    imds.scheduled({"Code": "instance-stop", "State": "active", "NotBefore": "21 Jan 2030 09:00:43 GMT"})
    imds.spot()
    async with watching(imds) as watch:
        await watch.sees(4)
        assert [notice.source for notice in watch.notices] == [
            "imds:spot/instance-action",
            "imds:autoscaling/target-lifecycle-state",
            "imds:events/maintenance/scheduled",
            "imds:events/recommendations/rebalance",
        ]


async def test_a_withdrawn_notice_is_told_once_and_is_new_when_it_comes_back(imds: FakeImds) -> None:
    async with watching(imds) as watch:
        imds.spot(at="2030-01-02T03:04:05Z")
        notice = await watch.sees(1)
        imds.rebalance()
        await watch.sees(2)
        imds.put(SPOT, None)
        await until(lambda: bool(watch.withdrawn))
        await watch.looks_again()
        assert watch.withdrawn == [notice], "the rebalance recommendation still stands"
        imds.spot(at="2030-01-02T03:04:05Z")
        assert (await watch.sees(3)).id == notice.id


async def test_one_of_several_scheduled_events_is_withdrawn(imds: FakeImds) -> None:
    event = {"Code": "instance-stop", "State": "active", "NotBefore": "21 Jan 2030 09:00:43 GMT"}
    imds.scheduled({**event, "EventId": "a"}, {**event, "EventId": "b"})
    async with watching(imds) as watch:
        await watch.sees(2)
        imds.scheduled({**event, "EventId": "a", "State": "canceled"}, {**event, "EventId": "b"})
        await until(lambda: bool(watch.withdrawn))
        await watch.looks_again()
        assert watch.withdrawn == [watch.notices[0]]


class Forgetful(FakeImds):
    """A service that finds the interruption notice only at every third look."""

    def _give_page(self, path: str, request: web.BaseRequest) -> web.StreamResponse:
        if path == SPOT:
            self.seen["looks"] += 1
            if self.seen["looks"] % 3:
                return web.Response(status=404)
        return super()._give_page(path, request)


async def test_two_odd_answers_in_succession_withdraw_nothing() -> None:
    async with Forgetful().serving() as imds, watching(imds) as watch:
        imds.spot(at="2030-01-02T03:04:05Z")
        await watch.sees(1)
        for _ in range(4):
            await watch.looks_again()
        assert (watch.withdrawn, len(watch.notices)) == ([], 1)


@pytest.mark.parametrize("trouble", ["reset", "503", "garbage"])
async def test_a_source_that_does_not_answer_withdraws_nothing(imds: FakeImds, trouble: str) -> None:
    imds.spot(at="2030-01-02T03:04:05Z")
    async with watching(imds) as watch:
        await watch.sees(1)
        if trouble == "garbage":
            imds.put(SPOT, "<html>")
        else:
            imds.trouble(trouble, SPOT)
        for _ in range(5):
            await watch.looks_again()
        assert (watch.withdrawn, len(watch.notices)) == ([], 1)


async def test_a_second_interruption_of_the_same_machine_is_a_new_notice(imds: FakeImds) -> None:
    async with watching(imds) as watch:
        imds.spot("stop", at="2030-01-02T03:04:05Z")
        first = await watch.sees(1)
        imds.spot("stop", at="2030-01-09T03:04:05Z")
        assert (await watch.sees(2)).id != first.id


async def test_a_forgotten_token_repeats_nothing(imds: FakeImds) -> None:
    imds.spot(at="2030-01-02T03:04:05Z")
    async with watching(imds) as watch:
        await watch.sees(1)
        imds.expire_tokens()
        await watch.looks_again()
        assert len(watch.notices) == 1
        assert imds.seen["tokens"] == 2


@pytest.mark.parametrize("trouble", ["reset", "503", "403", "stall"])
async def test_an_outage_is_outlived_told_once_and_repeats_nothing(
    imds: FakeImds, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="crikpy")
    imds.spot(at="2030-01-02T03:04:05Z")
    async with watching(imds) as watch:
        await watch.sees(1)
        assert watch.reachable() == 1
        imds.trouble(trouble)
        await until(lambda: watch.reachable() == 0)
        await asyncio.sleep(0.5)  # several looks go by, each of which fails
        imds.rebalance()
        imds.heal()
        assert (await watch.sees(2)).trigger is Trigger.REBALANCE_RECOMMENDATION
        assert watch.reachable() == 1
    told = [record.levelname for record in caplog.records if record.name == "crikpy.ec2.watching"]
    assert told == ["INFO", "WARNING", "INFO"]


async def test_a_service_that_is_not_there_at_the_start_is_waited_for() -> None:
    imds = FakeImds()
    async with imds.serving():
        port = int(imds.endpoint.rsplit(":", 1)[1])
    async with watching(imds) as watch:
        await until(lambda: watch.reachable() == 0)
        imds.spot()
        async with imds.serving(port=port):
            await watch.sees(1)


@pytest.mark.parametrize("broken", [SPOT, REBALANCE, SCHEDULED, LIFECYCLE])
@pytest.mark.parametrize("how", ["garbage", "500", "stall", "reset"])
async def test_a_source_that_fails_hides_no_other(imds: FakeImds, broken: str, how: str) -> None:
    if how == "garbage":
        imds.put(broken, "<html>")
    else:
        imds.trouble(how, broken)
    if broken == SPOT:
        imds.rebalance()
    else:
        imds.spot()
    async with watching(imds) as watch:
        await watch.sees(1)
        assert watch.reachable() == 1


async def test_a_source_that_fails_is_told_once_and_again_when_it_heals(
    imds: FakeImds, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="crikpy")
    imds.put(SPOT, "<html>")
    async with watching(imds) as watch:
        await watch.looks_again()
        await watch.looks_again()
        imds.put(SPOT, None)
        await until(lambda: "can be read again" in caplog.text)
    told = [record.getMessage() for record in caplog.records if "spot/instance-action" in record.getMessage()]
    assert len(told) == 2
    assert "cannot be understood" in told[0]


async def test_a_machine_outside_ec2_asks_nothing(imds: FakeImds) -> None:
    imds.spot()
    async with watching(imds, enabled=False) as watch:
        await asyncio.sleep(0.2)
        assert watch.notices == []
    assert imds.seen == {}


async def test_the_watch_never_speaks_version_1(imds: FakeImds) -> None:
    async with watching(imds) as watch:
        for trouble in ("403", "reset", "503"):
            imds.trouble(trouble, "api/token")
            imds.expire_tokens()
            await until(lambda: watch.reachable() == 0)
            imds.heal()
            await until(lambda: watch.reachable() == 1)
    assert imds.seen["no-token"] == 0
