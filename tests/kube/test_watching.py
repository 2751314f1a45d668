"""Objects are followed through every outage: nothing is lost, nothing told twice, the server not stormed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from crikpy.aio.tasks import stop
from crikpy.kube.backoff import Backoff
from crikpy.kube.changes import Contact, Seen, Selection, Synced, key_of
from crikpy.kube.client import KubeClient
from crikpy.kube.raw import Json
from crikpy.kube.resources import CHECKPOINTS, NODES, PODS, Resource
from crikpy.kube.watching import watch_objects
from crikpy.metrics import Metrics
from tests.fakes.kube import FakeKube

PATIENCE_S = 20.0


def thing(name: str, **more: object) -> Json:
    return {"metadata": {"name": name, "namespace": "ns"}, **more}


class Watch:
    """An eternal watch, what it told, and how long it meant to pause; it pauses for no time at all."""

    def __init__(self, api: KubeClient, resource: Resource = PODS, field_selector: str = "") -> None:
        self.metrics = Metrics()
        self.told: list[str] = []
        self.objects: list[Json] = []
        self.pauses: list[float] = []
        self._api = api
        self._selection = Selection(resource=resource, field_selector=field_selector)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0.001)

    async def run(self) -> None:
        backoff = Backoff(first_s=1.0, longest_s=30.0, sleep=self._sleep)
        watch = watch_objects(self._api, self._selection, metrics=self.metrics, backoff=backoff)
        async with aclosing(watch):
            async for item in watch:
                if isinstance(item, Seen):
                    self.told.append(f"{item.change} {key_of(item.object).removeprefix('ns/')}")
                    self.objects.append(item.object)
                elif isinstance(item, Contact):
                    self.told.append("lost" if item.fault else "contact")
                else:
                    assert isinstance(item, Synced)
                    self.told.append("synced")

    def restarts(self, reason: str, resource: str = "pods") -> float:
        labels = {"resource": resource, "reason": reason}
        return self.metrics.registry.get_sample_value("crikpy_watch_restarts_total", labels) or 0.0


@contextlib.asynccontextmanager
async def watching(api: KubeClient, resource: Resource = PODS, field_selector: str = "") -> AsyncIterator[Watch]:
    watch = Watch(api, resource, field_selector)
    task = asyncio.create_task(watch.run())
    try:
        yield watch
        assert not task.done(), "the watch ended by itself"
    finally:
        await stop(task)


async def test_the_first_list_is_told_and_then_each_change(kube: FakeKube, api: KubeClient) -> None:
    kube.put(PODS, thing("a", spec={"nodeName": "n1"}))
    kube.put(PODS, thing("b", spec={"nodeName": "n2"}))
    async with watching(api, field_selector="spec.nodeName=n1") as watch:
        await kube.until(lambda: kube.watchers("pods"))
        assert watch.told == ["contact", "ADDED a", "synced"]
        kube.put(PODS, thing("c", spec={"nodeName": "n1"}))
        kube.update(PODS, "c", {"status": {"phase": "Running"}}, namespace="ns")
        kube.update(PODS, "b", {"status": {"phase": "Running"}}, namespace="ns")
        kube.remove(PODS, "a", namespace="ns")
        await kube.until(lambda: len(watch.told) == 6)
        assert watch.told[3:] == ["ADDED c", "MODIFIED c", "DELETED a"]
    await kube.until(lambda: kube.watchers("pods") == 0)


async def test_what_went_while_the_watch_was_away_is_told(kube: FakeKube, api: KubeClient) -> None:
    for name in ("kept", "gone", "changed", "replaced"):
        kube.put(PODS, thing(name))
    async with watching(api) as watch:
        await kube.until(lambda: kube.watchers("pods"))
        await kube.stop()
        await kube.until(lambda: "lost" in watch.told)
        kube.remove(PODS, "gone", namespace="ns")
        kube.update(PODS, "changed", {"status": {"phase": "Running"}}, namespace="ns")
        kube.remove(PODS, "replaced", namespace="ns")
        kube.put(PODS, thing("replaced"))
        kube.put(PODS, thing("new"))
        kube.expire()
        await kube.start()
        await kube.until(lambda: watch.told.count("synced") == 2)
        after = watch.told[watch.told.index("lost") + 1 :]
        assert after == [
            "contact",
            "MODIFIED changed",
            "ADDED new",
            "DELETED replaced",
            "ADDED replaced",
            "DELETED gone",
            "synced",
        ]
        kube.put(PODS, thing("later"))
        await kube.until(lambda: watch.told[-1] == "ADDED later")
        assert watch.restarts("expired") == 1


async def test_an_expired_version_is_not_asked_for_again(kube: FakeKube, api: KubeClient) -> None:
    async with watching(api) as watch:
        await kube.until(lambda: kube.watchers("pods"))
        kube.expire()
        await kube.until(lambda: watch.restarts("expired") == 1 and kube.watchers("pods"))
        first, second = kube.seen("watch")
        assert int(second.query["resourceVersion"]) > int(first.query["resourceVersion"])
        assert len(kube.seen("list")) == 2
        assert watch.told == ["contact", "synced", "synced"]


async def test_a_watch_that_always_expires_is_not_begun_in_a_hurry(kube: FakeKube, api: KubeClient) -> None:
    kube.trouble("410", verb="watch")
    async with watching(api) as watch:
        await kube.until(lambda: watch.restarts("expired") >= 8)
        assert len(kube.seen("watch")) <= len(watch.pauses) + 1
        assert_grows(watch.pauses)


async def test_a_server_that_closes_each_watch_at_once_is_not_stormed(kube: FakeKube, api: KubeClient) -> None:
    kube.close_watches(always=True)
    async with watching(api) as watch:
        await kube.until(lambda: watch.restarts("closed") >= 8)
        assert len(kube.seen("watch")) <= len(watch.pauses) + 1
        assert_grows(watch.pauses)
        assert len(kube.seen("list")) == 1
        kube.heal()
        kube.put(PODS, thing("p"))
        await kube.until(lambda: "ADDED p" in watch.told)
        assert "lost" not in watch.told


def assert_grows(pauses: list[float]) -> None:
    """Check for 1, 2, 4… 30 seconds, of which a part up to a half is left to chance."""
    wholes = [min(2.0**number, 30.0) for number in range(len(pauses))]
    assert all(whole / 2 <= pause <= whole for whole, pause in zip(wholes, pauses, strict=True))


async def restarted(kube: FakeKube, watch: Watch, times: int) -> None:
    await kube.until(lambda: watch.restarts("closed") == times)


async def test_a_watch_that_went_well_is_begun_again_soon(kube: FakeKube, api: KubeClient) -> None:
    async with watching(api) as watch:
        for closed in range(5):
            await kube.until(lambda: kube.watchers("pods"))
            kube.bookmark()
            kube.close_watches()
            await restarted(kube, watch, closed + 1)
        assert max(watch.pauses) <= 1.0
        assert len(kube.seen("list")) == 1


async def test_a_torn_connection_goes_on_where_it_was(kube: FakeKube, api: KubeClient) -> None:
    async with watching(api) as watch:
        await kube.until(lambda: kube.watchers("pods"))
        kube.put(PODS, thing("a"))
        kube.drop_watches()
        await kube.until(lambda: "lost" in watch.told)
        kube.put(PODS, thing("b"))
        await kube.until(lambda: "ADDED b" in watch.told)
        assert watch.told == ["contact", "synced", "ADDED a", "lost", "contact", "ADDED b"]
        assert len(kube.seen("list")) == 1
        assert watch.restarts("broken") == 1


async def test_a_bookmark_moves_the_place_to_go_on_from(kube: FakeKube, api: KubeClient) -> None:
    async with watching(api) as watch:
        await kube.until(lambda: kube.watchers("pods"))
        for number in range(5):
            kube.put(NODES, {"metadata": {"name": f"n{number}"}})
        version = str(kube.objects.version)
        kube.bookmark()
        kube.close_watches()
        await kube.until(lambda: watch.restarts("closed") == 1 and kube.watchers("pods"))
        assert kube.seen("watch")[-1].query["resourceVersion"] == version


async def test_a_silent_watch_is_begun_anew(kube: FakeKube, tmp_path: Path) -> None:
    async with await KubeClient.connect(kube.settings(tmp_path, watch_silence_s=0.2)) as api:
        kube.stall_watches()
        async with watching(api) as watch:
            await kube.until(lambda: watch.restarts("silent") >= 3)
            kube.put(PODS, thing("p"))
            kube.heal()
            await kube.until(lambda: "ADDED p" in watch.told)
            assert watch.told == ["contact", "synced", "ADDED p"]
            assert len(kube.seen("list")) == 1


async def test_a_quiet_watch_that_stood_long_is_begun_again_soon(kube: FakeKube, api: KubeClient) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    backoff = Backoff(first_s=0.01, longest_s=0.1, sleep=sleep)
    watch = watch_objects(api, Selection(resource=PODS), metrics=Metrics(), backoff=backoff)
    async with aclosing(watch):
        following = asyncio.create_task(drain(watch))
        try:
            for closed in range(6):
                await kube.until(lambda: kube.watchers("pods"))
                await asyncio.sleep(0.15)
                kube.close_watches()
                await paused(kube, pauses, closed + 1)
        finally:
            await stop(following)
    assert max(pauses) <= 0.01


async def drain(watch: AsyncIterator[object]) -> None:
    async for _ in watch:
        pass


async def paused(kube: FakeKube, pauses: list[float], times: int) -> None:
    await kube.until(lambda: len(pauses) == times)


@pytest.mark.parametrize("status", ["403", "500", "401", "reset"])
async def test_trouble_is_told_once_and_outlived(
    kube: FakeKube, api: KubeClient, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="crikpy")
    kube.trouble(status)
    kube.put(PODS, thing("p"))
    async with watching(api) as watch:
        await kube.until(lambda: len(watch.pauses) >= 5)
        assert watch.told == ["lost"]
        kube.heal()
        await kube.until(lambda: watch.told == ["lost", "contact", "ADDED p", "synced"])
    logged = [record.levelname for record in caplog.records if record.name == "crikpy.kube.watching"]
    assert logged == ["WARNING", "INFO"]


async def test_a_kind_that_is_installed_later_is_followed_then(kube: FakeKube, api: KubeClient) -> None:
    kube.unknown.add("checkpoints")
    async with watching(api, CHECKPOINTS) as watch:
        await kube.until(lambda: len(watch.pauses) >= 2)
        kube.unknown.clear()
        kube.put(CHECKPOINTS, thing("o"))
        await kube.until(lambda: "ADDED o" in watch.told)


async def test_nulls_and_unknown_fields_come_through(kube: FakeKube, api: KubeClient) -> None:
    odd = {"containers": None, "fieldOfTomorrow": {"x": [None]}}
    kube.put(PODS, thing("a", spec=odd))
    async with watching(api) as watch:
        await kube.until(lambda: kube.watchers("pods"))
        kube.put(PODS, thing("b", spec=odd))
        await kube.until(lambda: len(watch.objects) == 2)
        assert [each["spec"] for each in watch.objects] == [odd, odd]
