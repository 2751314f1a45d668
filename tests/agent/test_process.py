"""The agent as a program: how it begins, what it serves, how it ends, and what becomes of jobs when it dies."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from crikpy import names
from crikpy.agent.process import run_agent
from crikpy.errors import SettingsError, UsageError
from crikpy.kube.resources import PODS
from crikpy.model.capsule import JobPhase
from crikpy.model.orders import OrderPhase
from crikpy.settings import MIB
from crikpy.store.base import ObjectStore
from tests.agent.conftest import MakeNode
from tests.agent.node import NAMESPACE, FakeNode
from tests.agent.programs import CRIKPY, environment, program
from tests.agent.whole import Desk, at_work, checkpoints_of, ends, proves, runs, settings_of, until
from tests.fakes.imds import FakeImds
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu


@pytest.fixture
def desk(kube: FakeKube) -> Desk:
    return Desk(kube)


# As a program.


async def test_an_agent_that_is_killed_while_it_dumps_lets_the_job_run_on_and_the_next_one_obeys_the_order(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod(job=("memory", 300, 1))
    with program(node, store) as first:
        await runs(pod)
        name = desk.order(pod)
        await desk.reaches(name, OrderPhase.DUMPING)
        first.process.send_signal(signal.SIGKILL)
        await first.ends()
    await proves(pod.jobs["main"])
    assert desk.status(name).phase is OrderPhase.DUMPING
    assert checkpoints_of(store) == []
    with program(node, store):
        status = await desk.reaches(name, OrderPhase.COMPLETE)
        desk.terminate(pod, disruption="EvictionByEvictionAPI")
        assert await ends(pod.jobs["main"]) == 75
    assert checkpoints_of(store) == [status.checkpoint]


async def test_a_job_that_a_killed_agent_has_held_runs_on(node: FakeNode, store: ObjectStore, desk: Desk) -> None:
    pod = node.pod()
    with program(node, store) as agent:
        await runs(pod)
        await desk.reaches(desk.order(pod), OrderPhase.COMPLETE)
        agent.process.send_signal(signal.SIGKILL)
        await agent.ends()
    await proves(pod.jobs["main"])


async def test_it_logs_json_serves_its_probes_and_ends_in_order(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    with program(node, store) as agent:
        await until(agent.port, "the agent at work")
        await until(lambda: desk.condition(node, names.CONDITION_READY).get("status") == "True", "readiness")
        assert await _ask(agent.port(), "/healthz") == (200, "ok\n")
        assert await _ask(agent.port(), "/readyz") == (200, "ok\n")
        status, metrics = await _ask(agent.port(), "/metrics")
        assert status == 200
        assert "crikpy_node_ready 1.0" in metrics
        agent.process.send_signal(signal.SIGTERM)
        assert await agent.ends() == 0
        assert {str(line["level"]) for line in agent.lines()} == {"info"}, agent.lines()


async def _ask(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(20):
        answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split(" ")[1]), body


async def test_a_save_under_way_comes_to_its_end_before_the_agent_does(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = node.pod(job=("memory", 300, 1))
    with program(node, store) as agent:
        await runs(pod)
        name = desk.order(pod, leave_running=True)
        await desk.reaches(name, OrderPhase.DUMPING)
        agent.process.send_signal(signal.SIGTERM)
        assert await agent.ends() == 0
    assert desk.status(name).phase is OrderPhase.COMPLETE
    await proves(pod.jobs["main"])


@pytest.mark.parametrize(
    ("words", "env", "status", "said"),
    [
        (("--node", "n"), {}, 2, "--store"),
        (("--store", "/tmp"), {}, 2, "--node"),
        (("--store", "ftp://x", "--node", "n"), {}, 2, "is not the URL of a store"),
        (("--store", "/tmp", "--node", "n"), {"CRIKPY_KUBE_KUBECONFIG": "/nowhere"}, 3, "/nowhere"),
        (("--store", "/tmp", "--node", "n"), {"CRIKPY_STORE_MEMORY_BYTES": "1Mi"}, 3, "MEMORY"),
    ],
)
def test_what_is_configured_wrongly_is_said_in_one_line(
    node: FakeNode, words: tuple[str, ...], env: dict[str, str], status: int, said: str
) -> None:
    done = subprocess.run(
        (CRIKPY, "agent", *words),
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(node.settings, **env),
    )
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# In our own process.


async def test_an_agent_without_a_name_or_a_store_does_not_begin(node: FakeNode, store: ObjectStore) -> None:
    settings = settings_of(node)
    nameless = replace(settings, agent=replace(settings.agent, node=""))
    with pytest.raises(UsageError, match="CRIKPY_AGENT_NODE"):
        await run_agent(nameless, store.url, asyncio.Event())
    with pytest.raises(UsageError, match="CRIKPY_STORE"):
        await run_agent(settings, "", asyncio.Event())
    poor = replace(settings, store=replace(settings.store, memory_bytes=MIB))
    with pytest.raises(SettingsError):
        await run_agent(poor, store.url, asyncio.Event())


async def test_an_agent_begins_its_jobs_though_neither_api_server_nor_store_nor_metadata_are_there(
    node: FakeNode, store: ObjectStore, desk: Desk, folder: Path
) -> None:
    async with FakeImds().serving() as imds:
        settings = settings_of(node, imds, api_wait_s=1.0)
    (folder / "store").rename(folder / "lost")
    (folder / "store").touch()
    await desk.kube.stop()
    pod = node.pod()
    async with at_work(settings, store):
        await runs(pod)
        assert pod.jobs["main"].phase() is JobPhase.RUNNING
        await desk.kube.start()
        (folder / "store").unlink()
        (folder / "lost").rename(folder / "store")
        await desk.reaches(desk.order(pod, leave_running=True), OrderPhase.COMPLETE)
        await proves(pod.jobs["main"])


async def test_a_pod_moves_from_node_to_node_and_its_order_tells_the_whole_story(
    make_node: MakeNode, store: ObjectStore, desk: Desk
) -> None:
    here, there = make_node("node-a"), make_node("node-b")
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": "train",
        "uid": "0d9e7c2e-0000-4000-8000-000000000000",
    }
    old = here.pod("train-1", owner=owner, containers={"a": ("memory", 8, 1), "b": ("ending", 4)})
    async with at_work(settings_of(here, spare_s=600.0), store), at_work(settings_of(there), store):
        await runs(old)
        for job in old.jobs.values():
            await proves(job)
        name = desk.order(old)
        saved = await desk.reaches(name, OrderPhase.COMPLETE)
        desk.terminate(old, disruption="EvictionByEvictionAPI")
        assert [await ends(job) for job in old.jobs.values()] == [75, 75]
        desk.kube.remove(PODS, old.name, namespace=NAMESPACE)
        new = there.pod("train-2", owner=owner, containers={"a": ("memory", 8, 1), "b": ("ending", 4)})
        for container in new.containers:
            await new.run(container)
        told = await desk.reaches(name, OrderPhase.RESTORED)
        for job in new.jobs.values():
            assert (await asyncio.to_thread(job.prove)) == "proved 2"
        assert told.restored_by == f"{NAMESPACE}/{new.name}/{new.uid}"
        assert (told.bytes, told.checkpoint) == (saved.bytes, saved.checkpoint)
        await until(lambda: "Restored" in desk.events(new.name), "an event on the new pod")
        new.jobs["b"].signal(signal.SIGUSR2)
        assert await ends(new.jobs["b"]) == 4
