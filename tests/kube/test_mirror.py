"""A mirror shows what there is, keeps it through outages, and tells its subscribers each change once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from crikpy import errors
from crikpy.aio.clock import Deadline
from crikpy.aio.tasks import stop
from crikpy.kube.backoff import Backoff
from crikpy.kube.changes import Change
from crikpy.kube.client import KubeClient
from crikpy.kube.raw import Json
from crikpy.kube.resources import PODS
from crikpy.kube.watching import Mirror
from crikpy.metrics import Metrics
from tests.fakes.kube import FakeKube

PATIENCE_S = 20.0


def thing(name: str, **more: object) -> Json:
    return {"metadata": {"name": name, "namespace": "ns"}, **more}


def node_of(raw: Json) -> str:
    return str(raw["spec"]["nodeName"])


@contextlib.asynccontextmanager
async def mirroring(api: KubeClient) -> AsyncIterator[Mirror[str]]:
    mirror = Mirror(api, PODS, node_of, metrics=Metrics(), backoff=Backoff(first_s=0.01, longest_s=0.05))
    task = asyncio.create_task(mirror.run())
    try:
        yield mirror
        assert not task.done(), "the mirror ended by itself"
    finally:
        await stop(task)


async def test_a_mirror_shows_what_there_is(kube: FakeKube, api: KubeClient) -> None:
    kube.put(PODS, thing("a", spec={"nodeName": "n1"}))
    async with mirroring(api) as mirror:
        before = (mirror.synced, mirror.reachable)
        await mirror.wait_synced(Deadline.after(PATIENCE_S))
        assert (before, mirror.synced, mirror.reachable) == ((False, False), True, True)
        assert dict(mirror.items) == {"ns/a": "n1"}
        kube.remove(PODS, "a", namespace="ns")
        await kube.until(lambda: not mirror.items)


async def test_a_mirror_keeps_what_it_knows_while_the_server_is_away(kube: FakeKube, api: KubeClient) -> None:
    kube.put(PODS, thing("a", spec={"nodeName": "n1"}))
    async with mirroring(api) as mirror:
        await mirror.wait_synced(Deadline.after(PATIENCE_S))
        await kube.stop()
        await kube.until(lambda: not mirror.reachable)
        assert dict(mirror.items) == {"ns/a": "n1"}
        assert mirror.synced
        await kube.start()
        await kube.until(lambda: mirror.reachable)


async def test_whoever_waits_in_vain_for_a_mirror_learns_why(kube: FakeKube, api: KubeClient) -> None:
    kube.trouble("403")
    async with mirroring(api) as mirror:
        await kube.until(lambda: len(kube.requests) >= 2)
        with pytest.raises(errors.KubeUnavailableError, match=r"pods could not be listed in time: .*403"):
            await mirror.wait_synced(Deadline.after(0.05))


async def test_a_subscriber_hears_of_everything_once(kube: FakeKube, api: KubeClient) -> None:
    kube.put(PODS, thing("a", spec={"nodeName": "n1"}))
    async with mirroring(api) as mirror, asyncio.timeout(PATIENCE_S):
        await mirror.wait_synced(Deadline.after(PATIENCE_S))
        with mirror.subscribe() as changes, mirror.subscribe() as others:
            assert await anext(changes) == (Change.ADDED, "n1")
            kube.update(PODS, "a", {"spec": {"nodeName": "n2"}}, namespace="ns")
            assert await anext(changes) == (Change.MODIFIED, "n2")
            kube.remove(PODS, "a", namespace="ns")
            kube.put(PODS, thing("a", spec={"nodeName": "n3"}))
            assert await anext(changes) == (Change.DELETED, "n2")
            assert await anext(changes) == (Change.ADDED, "n3")
            heard = [await anext(others) for _ in range(4)]
            assert heard[-1] == (Change.ADDED, "n3")
        with mirror.subscribe() as changes:
            assert await anext(changes) == (Change.ADDED, "n3")


async def test_what_went_while_nobody_watched_is_told_as_it_was_last_known(
    kube: FakeKube, api: KubeClient, caplog: pytest.LogCaptureFixture
) -> None:
    kube.put(PODS, thing("gone", spec={"nodeName": "n1"}))
    kube.put(PODS, thing("replaced", spec={"nodeName": "n2"}))
    async with mirroring(api) as mirror, asyncio.timeout(PATIENCE_S):
        await mirror.wait_synced(Deadline.after(PATIENCE_S))
        with mirror.subscribe() as changes:
            assert [await anext(changes), await anext(changes)] == [(Change.ADDED, "n1"), (Change.ADDED, "n2")]
            await kube.stop()
            await kube.until(lambda: not mirror.reachable)
            kube.remove(PODS, "gone", namespace="ns")
            kube.remove(PODS, "replaced", namespace="ns")
            kube.put(PODS, thing("replaced", spec={"nodeName": "n3"}))
            kube.expire()
            await kube.start()
            heard = [await anext(changes) for _ in range(3)]
        assert heard == [(Change.DELETED, "n2"), (Change.ADDED, "n3"), (Change.DELETED, "n1")]
        assert dict(mirror.items) == {"ns/replaced": "n3"}
    assert "cannot be read" not in caplog.text


async def test_an_object_that_cannot_be_read_hides_no_other(
    kube: FakeKube, api: KubeClient, caplog: pytest.LogCaptureFixture
) -> None:
    kube.put(PODS, thing("odd"))
    kube.put(PODS, thing("fine", spec={"nodeName": "n1"}))
    async with mirroring(api) as mirror, asyncio.timeout(PATIENCE_S):
        await mirror.wait_synced(Deadline.after(PATIENCE_S))
        assert dict(mirror.items) == {"ns/fine": "n1"}
        with mirror.subscribe() as changes:
            await anext(changes)
            kube.update(PODS, "fine", {"spec": None}, namespace="ns")
            assert await anext(changes) == (Change.DELETED, "n1")
            kube.update(PODS, "odd", {"spec": {"nodeName": "n2"}}, namespace="ns")
            assert await anext(changes) == (Change.ADDED, "n2")
        assert dict(mirror.items) == {"ns/odd": "n2"}
    assert "Pod ns/odd cannot be read" in caplog.text
