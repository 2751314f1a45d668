"""The controller as a process: replicas, their leader, probes, the webhook, and an end in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from crikpy.aio.tasks import stop
from crikpy.controller.process import LEASE, run_controller
from crikpy.kube.resources import CHECKPOINTS, LEASES, NODES, PODS, SECRETS
from crikpy.model.orders import OrderPhase
from crikpy.settings import ControllerSettings, Settings
from tests.controller.objects import announce, answer, notice_in, raw_node, raw_pod
from tests.fakes.kube import FakeKube
from tests.fakes.kube_people import Somebody

NAMESPACE = "crikpy-system"


class Replica:
    """One replica."""

    def __init__(self, settings: Settings) -> None:
        self._end = asyncio.Event()
        self.settings = settings
        self.task = asyncio.create_task(run_controller(settings, self._end))

    async def end(self) -> None:
        self._end.set()
        async with asyncio.timeout(10):
            await self.task


Begin = Callable[[str], Replica]


@pytest.fixture
async def kube() -> AsyncIterator[FakeKube]:
    async with FakeKube().serving() as kube:
        kube.put(NODES, raw_node("n1"))
        yield kube


@pytest.fixture
async def begin(kube: FakeKube, tmp_path: Path) -> AsyncIterator[Begin]:
    replicas: list[Replica] = []

    def begin(identity: str) -> Replica:
        controller = ControllerSettings(
            identity=identity,
            address="127.0.0.1",
            port=free_port(),
            webhook_port=free_port(),
            page_port=free_port(),
            namespace=NAMESPACE,
        )
        replicas.append(Replica(Settings(kube=kube.settings(tmp_path), controller=controller)))
        return replicas[-1]

    yield begin
    for replica in replicas:
        if not replica.task.done():
            await stop(replica.task)


def free_port() -> int:
    """Return a port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def holder(kube: FakeKube) -> str:
    """Return who leads, or nothing."""
    lease = kube.get(LEASES, LEASE, namespace=NAMESPACE)
    return str(lease["spec"]["holderIdentity"]).partition("_")[0] if lease else ""


async def test_of_two_replicas_one_acts_and_the_other_takes_over(kube: FakeKube, begin: Begin) -> None:
    first = begin("first")
    await kube.until(lambda: holder(kube) == "first")
    second = begin("second")
    kube.put(PODS, raw_pod())
    announce(kube, "n1", notice_in(120))
    await kube.until(lambda: kube.all(CHECKPOINTS))
    await first.end()
    await kube.until(lambda: holder(kube) == "second")
    answer(kube, kube.all(CHECKPOINTS)[0], OrderPhase.COMPLETE)
    await kube.until(lambda: "deletionTimestamp" in kube.all(PODS)[0]["metadata"])
    await second.end()
    assert holder(kube) == ""


async def test_every_replica_serves_probes_and_the_webhook(kube: FakeKube, begin: Begin) -> None:
    replicas = [begin("first"), begin("second")]
    await kube.until(lambda: kube.all(SECRETS))
    async with aiohttp.ClientSession() as client:
        for replica in replicas:
            settings = replica.settings.controller
            url = f"http://127.0.0.1:{settings.port}"
            await becomes_ready(client, f"{url}/readyz")
            assert await status_of(client, f"{url}/healthz") == 200
            async with client.get(f"{url}/metrics") as metrics:
                shown = await metrics.text()
                assert "crikpy_leading" in shown
                assert "crikpy_node_ready" not in shown
                assert "crikpy_webhook_certificate_expiry_timestamp_seconds 1." in shown
            webhook = f"https://127.0.0.1:{settings.webhook_port}/mutate-pods"
            async with client.post(webhook, data=b"{}", ssl=unverified()) as review:
                assert review.status == 400


async def test_every_replica_serves_the_status_page(kube: FakeKube, begin: Begin) -> None:
    kube.people["t"] = Somebody(name="somebody")
    kube.put(PODS, raw_pod())
    replicas = [begin("first"), begin("second")]
    await kube.until(lambda: holder(kube))
    async with aiohttp.ClientSession() as client:
        for replica in replicas:
            settings = replica.settings.controller
            await becomes_ready(client, f"http://127.0.0.1:{settings.port}/readyz")
            page = f"https://127.0.0.1:{settings.page_port}/"
            async with client.get(page, ssl=unverified()) as unknown:
                assert unknown.status == 401
            shown = await becomes_shown(client, page)
            assert "default/a" in shown


async def becomes_shown(client: aiohttp.ClientSession, page: str) -> str:
    """Wait until a replica has seen the cluster; returns what it shows."""
    bearer = {"Authorization": "Bearer t"}
    async with asyncio.timeout(10):
        while True:
            async with client.get(page, headers=bearer, ssl=unverified()) as answer:
                if answer.status == 200:
                    return await answer.text()
            await asyncio.sleep(0.02)


async def becomes_ready(client: aiohttp.ClientSession, url: str) -> None:
    """Wait until a probe is answered with yes."""
    async with asyncio.timeout(10):
        while await status_of(client, url) != 200:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


async def status_of(client: aiohttp.ClientSession, url: str) -> int:
    """Return the status of a page; 0 while nobody answers."""
    try:
        async with client.get(url) as page:
            return page.status
    except aiohttp.ClientConnectionError:
        return 0


def unverified() -> ssl.SSLContext:
    """Return a context for a server whose name is another."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def test_it_begins_while_the_api_server_is_away_and_acts_when_it_comes(kube: FakeKube, begin: Begin) -> None:
    await kube.stop()
    begin("first")
    await asyncio.sleep(0.1)
    await kube.start()
    announce(kube, "n1", notice_in(120))
    await kube.until(lambda: kube.all(NODES)[0]["spec"].get("unschedulable"))


def program(tmp_path: Path, kubeconfig: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command line of a controller and its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CRIKPY_")}
    environment |= {
        "CRIKPY_KUBE_KUBECONFIG": str(kubeconfig),
        "CRIKPY_KUBE_LEASE_S": "2",
        "CRIKPY_CONTROLLER_IDENTITY": "program",
        "CRIKPY_CONTROLLER_ADDRESS": "127.0.0.1",
        "CRIKPY_CONTROLLER_PORT": str(free_port()),
        "CRIKPY_CONTROLLER_WEBHOOK_PORT": str(free_port()),
        "HOME": str(tmp_path),
    }
    return [str(Path(sys.executable).with_name("crikpy")), "controller"], environment


async def test_the_command_ends_in_order_on_sigterm(kube: FakeKube, tmp_path: Path) -> None:
    argv, environment = program(tmp_path, kube.kubeconfig(tmp_path))
    child = await asyncio.create_subprocess_exec(
        *argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        await kube.until(lambda: holder(kube) == "program")
        child.terminate()
        async with asyncio.timeout(15):
            _, log = await child.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
    assert child.returncode == 0, log
    assert holder(kube) == ""
    assert b'"message": "the controller ends"' in log


async def test_without_a_configuration_the_command_says_what_to_do(tmp_path: Path) -> None:
    argv, environment = program(tmp_path, tmp_path / "nowhere")
    done = await asyncio.to_thread(
        subprocess.run, argv, env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 3
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
