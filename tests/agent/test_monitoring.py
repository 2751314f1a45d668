"""A real rescue under the eyes of a real Prometheus: what is served, and what the panels show of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from crikpy.controller.process import run_controller
from crikpy.kube.resources import PODS
from crikpy.model.orders import OrderPhase
from crikpy.settings import ControllerSettings, Settings
from crikpy.store.base import ObjectStore
from tests.agent.conftest import MakeNode
from tests.agent.node import NAMESPACE
from tests.agent.whole import Desk, at_work, ends, proves, runs, settings_of
from tests.fakes.kube import FakeKube
from tests.monitoring.promtool import DASHBOARD, PROGRAMS, RULES, promtool

pytestmark = pytest.mark.criu

_EMPTY = frozenset(
    {
        "Throughput that nodes have shown",  # needs more memory than this job has
        "Failed saves of the last day",
        "Reviews of the webhook",
        "Faults of the store and the API server",
        "Sources",  # all are off
        "From a notice to an order (95 of 100)",  # the order is made by hand
        "Duration of reviews (99 of 100)",
    }
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def controller(kube: FakeKube, folder: Path, port: int) -> AsyncIterator[None]:
    own = ControllerSettings(
        identity="c", address="127.0.0.1", port=port, webhook_port=free_port(), namespace="crikpy-system"
    )
    end = asyncio.Event()
    task = asyncio.create_task(run_controller(Settings(kube=kube.settings(folder), controller=own), end))
    try:
        yield
    finally:
        end.set()
        async with asyncio.timeout(20):
            await task


@contextlib.contextmanager
def prometheus(folder: Path, targets: dict[str, list[int]]) -> Any:
    """Have a server scrape ports of this machine; the URL of its API."""
    jobs = [
        {
            "job_name": name,
            "static_configs": [
                {
                    "targets": [f"127.0.0.1:{port}"],
                    "labels": {"namespace": "crikpy-system", "node": f"node-{port}"},
                }
                for port in ports
            ],
        }
        for name, ports in targets.items()
    ]
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    listen = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        server = subprocess.Popen(
            [
                PROGRAMS / "prometheus",
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={listen}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://{listen}"
    finally:
        server.kill()
        server.wait()


async def ask(client: aiohttp.ClientSession, url: str, query: str) -> list[dict[str, Any]]:
    """Return the samples that a query has now, those without a number left out."""
    async with client.get(f"{url}/api/v1/query", params={"query": query}) as answer:
        said = await answer.json()
    assert said["status"] == "success", (query, said)
    found: list[dict[str, Any]] = said["data"]["result"]
    return [sample for sample in found if sample["value"][1] != "NaN"]


async def becomes(client: aiohttp.ClientSession, url: str, query: str) -> None:
    """Wait until a query has an answer."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                if await ask(client, url, query):
                    return
            await asyncio.sleep(0.2)


async def test_every_panel_shows_a_real_rescue_and_promtool_accepts_what_is_served(
    make_node: MakeNode, store: ObjectStore, kube: FakeKube, tmp_path: Path
) -> None:
    desk, here, there = Desk(kube), make_node("node-a"), make_node("node-b")
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": "train",
        "uid": "0d9e7c2e-0000-4000-8000-000000000000",
    }
    ports = [free_port() for _ in range(3)]
    one, two = settings_of(here, spare_s=600.0), settings_of(there)
    one = replace(one, agent=replace(one.agent, port=ports[0]))
    two = replace(two, agent=replace(two.agent, port=ports[1]))
    async with (
        at_work(one, store),
        at_work(two, store),
        controller(kube, tmp_path, ports[2]),
        aiohttp.ClientSession() as client,
    ):
        with prometheus(tmp_path, {"crikpy-agent": ports[:2], "crikpy-controller": ports[2:]}) as url:
            old = here.pod("train-1", owner=owner)
            await runs(old)
            await proves(old.jobs["main"])
            await becomes(client, url, "count(crikpy_node_ready == 1) == 2 and sum(crikpy_leading) == 1")
            name = desk.order(old)
            await desk.reaches(name, OrderPhase.COMPLETE)
            desk.terminate(old, disruption="EvictionByEvictionAPI")
            assert await ends(old.jobs["main"]) == 75
            desk.kube.remove(PODS, old.name, namespace=NAMESPACE)
            new = there.pod("train-2", owner=owner)
            await new.run("main")
            await desk.reaches(name, OrderPhase.RESTORED)
            await becomes(client, url, 'crikpy_restores_total{outcome="resumed"} == 1')
            await becomes(client, url, "sum(increase(crikpy_checkpoint_margin_seconds_count[1m])) > 0")
            await becomes(client, url, "sum(increase(crikpy_restore_duration_seconds_count[1m])) > 0")
            for port in ports:
                async with client.get(f"http://127.0.0.1:{port}/metrics") as served:
                    assert promtool("check", "metrics", given=await served.text()) == ""
            await all_show_something(client, url)
            assert not await ask(client, url, 'ALERTS{alertstate="firing",alertname!="CrikpyMarginShort"}')


async def all_show_something(client: aiohttp.ClientSession, url: str) -> None:
    """Wait until no panel is blank that has anything to show: on a busy machine scrapes come late."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    for panel in panels:
        queries = [filled(target["expr"]) for target in panel.get("targets", [])]
        for query in queries:
            await ask(client, url, query)
        if queries and panel["title"] not in _EMPTY:
            await becomes(client, url, " or ".join(f"({query})" for query in queries))


def filled(query: str) -> str:
    """Return a panel's query with its variables."""
    for name in ("$cluster", "$namespace", "$node"):
        query = query.replace(name, ".*")
    return query.replace("$__range", "1h")
