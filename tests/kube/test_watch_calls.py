"""One watch of the client: its events, and each way in which it can end."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from pathlib import Path

import pytest

from crikpy import errors
from crikpy.kube.asking import OPEN
from crikpy.kube.client import KubeClient
from crikpy.kube.raw import Json
from crikpy.kube.resources import PODS, SECRETS
from tests.fakes.kube import FakeKube

PATIENCE_S = 20.0


def thing(name: str, **more: object) -> Json:
    return {"metadata": {"name": name, "namespace": "ns"}, **more}


class Watch:
    """A watch under way, from now on."""

    def __init__(self, kube: FakeKube, api: KubeClient) -> None:
        self.kube = kube
        self.events: list[Json] = []
        self.task = asyncio.create_task(self._run(api, str(kube.objects.version)))

    async def _run(self, api: KubeClient, version: str) -> None:
        async with aclosing(api.watch(PODS, resource_version=version)) as watch:
            async for event in watch:
                self.events.append(event)

    async def open(self) -> None:
        await self.kube.until(lambda: self.kube.watchers("pods") and self.types == [OPEN])

    async def end(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.task

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


def keepalive_pauses(server_port: int) -> list[float]:
    """Return the seconds until the kernel next asks the server, of each idle connection on which it will."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, state, _, timer, *_ = line.split()
        kind, ticks = timer.split(":")
        if (int(remote.split(":")[1], 16), state, kind) == (server_port, "01", "02"):
            found.append(int(ticks, 16) / os.sysconf("SC_CLK_TCK"))
    return found


async def test_a_silent_watch_has_the_kernel_ask_whether_the_server_is_still_there(
    kube: FakeKube, api: KubeClient
) -> None:
    watch = Watch(kube, api)
    await watch.open()
    port = int(kube.endpoint.rpartition(":")[2])
    await kube.until(lambda: any(pause_s <= 15 for pause_s in keepalive_pauses(port)))
    kube.close_watches()
    await watch.end()


async def test_a_watch_yields_events_and_bookmarks_until_the_server_closes_it(
    kube: FakeKube, api: KubeClient
) -> None:
    watch = Watch(kube, api)
    await watch.open()
    kube.put(PODS, thing("p"))
    kube.put(SECRETS, thing("s"))
    kube.bookmark()
    await kube.until(lambda: watch.types == [OPEN, "ADDED", "BOOKMARK"])
    assert watch.events[-1]["object"]["metadata"]["resourceVersion"] == str(kube.objects.version)
    kube.close_watches()
    await watch.end()
    (request,) = kube.seen("watch")
    assert request.query["allowWatchBookmarks"] == "true"
    assert 0 < int(request.query["timeoutSeconds"]) < 1000


async def test_an_event_of_many_megabytes_passes(kube: FakeKube, api: KubeClient) -> None:
    watch = Watch(kube, api)
    await watch.open()
    kube.put(PODS, thing("p", payload="x" * 5_000_000))
    kube.put(PODS, thing("q", eventTime=None))
    await kube.until(lambda: len(watch.events) == 3)
    assert len(watch.events[1]["object"]["payload"]) == 5_000_000
    assert watch.events[2]["object"]["eventTime"] is None
    kube.close_watches()
    await watch.end()


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ("drop", errors.KubeUnavailableError),
        ("half", errors.KubeUnavailableError),
        ("stop", errors.KubeUnavailableError),
        ("410", errors.KubeExpiredError),
        ("500", errors.KubeUnavailableError),
        ("403", errors.KubeForbiddenError),
    ],
)
async def test_each_bad_end_is_an_error_of_our_own(
    kube: FakeKube, api: KubeClient, end: str, kind: type[errors.KubeError]
) -> None:
    watch = Watch(kube, api)
    await watch.open()
    if end in ("drop", "half"):
        kube.drop_watches(politely=end == "half")
    elif end == "stop":
        await kube.stop()
    else:
        kube.fail_watches(int(end))
    with pytest.raises(errors.KubeError) as caught:
        await watch.end()
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("401", errors.KubeForbiddenError),
        ("403", errors.KubeForbiddenError),
        ("404", errors.KubeNotFoundError),
        ("410", errors.KubeExpiredError),
        ("429", errors.KubeUnavailableError),
        ("503", errors.KubeUnavailableError),
        ("reset", errors.KubeUnavailableError),
        ("stall", errors.KubeUnavailableError),
    ],
)
async def test_each_refusal_of_a_watch_is_an_error_of_our_own(
    kube: FakeKube, tmp_path: Path, status: str, kind: type[errors.KubeError]
) -> None:
    kube.trouble(status)
    limit_s = 0.3 if status == "stall" else PATIENCE_S
    async with await KubeClient.connect(kube.settings(tmp_path, request_timeout_s=limit_s)) as api:
        with pytest.raises(errors.KubeError) as caught:
            await Watch(kube, api).end()
    assert type(caught.value) is kind


async def test_a_silent_watch_is_given_up(kube: FakeKube, tmp_path: Path) -> None:
    kube.stall_watches()
    async with await KubeClient.connect(kube.settings(tmp_path, watch_silence_s=0.2)) as api:
        watch = Watch(kube, api)
        with pytest.raises(errors.KubeUnavailableError, match="in time"):
            await watch.end()
    assert watch.types == [OPEN]
    await kube.until(lambda: kube.watchers("pods") == 0)


async def test_a_watch_that_nobody_wants_any_more_is_closed(kube: FakeKube, api: KubeClient) -> None:
    watch = Watch(kube, api)
    await watch.open()
    watch.task.cancel()
    await asyncio.wait([watch.task])
    await kube.until(lambda: kube.watchers("pods") == 0)
