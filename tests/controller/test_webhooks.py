"""The webhook as the API server meets it: HTTPS, its own certificate, reviews in and verdicts out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from crikpy import names
from crikpy.aio import tasks
from crikpy.controller.sighting import Sight
from crikpy.controller.webhooks import MUTATE_PODS, VALIDATE_TEMPLATES, listening
from crikpy.kube.certificates import ServingCertificate, parse_secret
from crikpy.kube.client import KubeClient
from crikpy.kube.resources import SECRETS
from crikpy.metrics import Metrics
from tests.controller.admitting import SETTINGS, patched, pod_of, review_of
from tests.controller.test_admission_templates import HINT, job_of
from tests.fakes.kube import FakeKube

HOST = "crikpy-webhook.crikpy-system.svc"


class Caller:
    """An API server that trusts an authority and calls the webhook by its Service's name."""

    def __init__(self, client: aiohttp.ClientSession, port: int, serving: ServingCertificate) -> None:
        self._client = client
        self._port = port
        self._trust = ssl.create_default_context(cadata=serving.authorities.decode())

    async def post(self, path: str, body: bytes) -> tuple[int, str]:
        url = f"https://127.0.0.1:{self._port}{path}?timeout=10s"
        async with self._client.post(url, data=body, ssl=self._trust, server_hostname=HOST) as answer:
            return answer.status, await answer.text()

    async def review(self, path: str, body: bytes) -> dict[str, Any]:
        status, text = await self.post(path, body)
        assert status == 200
        answer: dict[str, Any] = json.loads(text)
        return answer


@pytest.fixture
async def caller(tmp_path: Path) -> AsyncIterator[Caller]:
    settings = replace(SETTINGS, address="127.0.0.1", webhook_port=0)
    async with contextlib.AsyncExitStack() as stack:
        kube = await stack.enter_async_context(FakeKube().serving())
        api = await stack.enter_async_context(await KubeClient.connect(kube.settings(tmp_path)))
        sight = Sight(api, Metrics())
        webhook = await stack.enter_async_context(listening(api, settings, sight, metrics=Metrics()))
        following = asyncio.create_task(webhook.certifier.follow())
        stack.push_async_callback(tasks.stop, following)
        await kube.until(lambda: webhook.certifier.complaint() is None)
        secret = kube.get(SECRETS, "crikpy-webhook-tls", namespace="crikpy-system")
        serving = parse_secret(secret or {})
        assert serving is not None
        client = await stack.enter_async_context(aiohttp.ClientSession())
        yield Caller(client, webhook.port, serving)


async def test_a_pod_comes_back_with_the_launcher(caller: Caller) -> None:
    answer = await caller.review(MUTATE_PODS, review_of(pod_of()))
    assert answer["response"]["allowed"] is True
    pod = patched(pod_of(), answer)
    assert pod["metadata"]["annotations"][names.INJECTED] == "main"
    assert pod["spec"]["containers"][0]["command"][0] == "/.crikpy/launch"


async def test_a_bad_annotation_is_refused(caller: Caller) -> None:
    answer = await caller.review(MUTATE_PODS, review_of(pod_of(annotations={names.PRIORITY: "high"})))
    assert answer["response"]["allowed"] is False
    assert names.PRIORITY in answer["response"]["status"]["message"]


async def test_a_job_gets_advice(caller: Caller) -> None:
    answer = await caller.review(VALIDATE_TEMPLATES, review_of(job_of(), kind="Job"))
    assert answer["response"]["allowed"] is True
    assert HINT in answer["response"]["warnings"][-1]


@pytest.mark.parametrize("body", [b"", b"not json", b"{}"])
async def test_what_is_no_review_is_a_bad_request(caller: Caller, body: bytes) -> None:
    status, text = await caller.post(MUTATE_PODS, body)
    assert status == 400
    assert text


async def test_there_is_nothing_else(caller: Caller) -> None:
    assert (await caller.post("/metrics", b""))[0] == 404
