"""The agent knows the pods of its node, also when it starts while the API server is away."""

from __future__ import annotations

import asyncio
import contextlib
import stat
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from crikpy import names
from crikpy.agent.nodepods import NodePods
from crikpy.aio.clock import Deadline
from crikpy.errors import KubeUnavailableError
from crikpy.kube.client import KubeClient
from crikpy.kube.resources import PODS
from crikpy.metrics import Metrics
from crikpy.settings import AgentSettings
from tests.fakes.kube import FakeKube

NAMESPACE = "ns"
OPTED_IN = {names.OPT_IN: "true", names.INJECTED: "main"}


@contextlib.asynccontextmanager
async def knowing(api: KubeClient, state: Path) -> AsyncIterator[NodePods]:
    pods = NodePods(api, AgentSettings(node="node-a", state_dir=state), Metrics())
    task = asyncio.create_task(pods.run())
    try:
        yield pods
    finally:
        task.cancel()
        await asyncio.wait([task])


def _put(kube: FakeKube, name: str, *, node: str = "node-a", notes: dict[str, str] | None = None) -> str:
    uid = str(uuid.uuid4())
    metadata: dict[str, Any] = {"name": name, "namespace": NAMESPACE, "uid": uid}
    metadata["annotations"] = OPTED_IN if notes is None else notes
    spec = {"nodeName": node, "containers": [{"name": "main", "command": ["run"]}]}
    kube.put(PODS, {"metadata": metadata, "spec": spec, "status": {"phase": "Running"}})
    return uid


def _kept(state: Path) -> set[str]:
    return {path.stem for path in (state / "pods").iterdir()}


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_pod_is_found_when_the_server_tells_of_it(kube: FakeKube, api: KubeClient, folder: Path) -> None:
    async with knowing(api, folder / "state") as pods:
        await kube.until(lambda: pods.reachable)
        searching = asyncio.create_task(pods.find("not yet there", Deadline.after(0.2)))
        assert await searching is None
        uid = _put(kube, "job-0")
        found = await pods.find(uid, Deadline.after(10))
        assert found is not None
        assert (found.name, found.injected) == ("job-0", ("main",))
        kube.remove(PODS, "job-0", namespace=NAMESPACE)
        await kube.until(lambda: uid not in pods)


async def test_only_the_nodes_own_pods_are_known(kube: FakeKube, api: KubeClient, folder: Path) -> None:
    other, own = _put(kube, "job-0", node="node-b"), _put(kube, "job-1")
    async with knowing(api, folder / "state") as pods:
        await kube.until(lambda: own in pods)
        assert list(pods) == [own]
        assert other not in pods


async def test_opted_in_pods_are_remembered_while_the_server_is_away(
    kube: FakeKube, api: KubeClient, folder: Path
) -> None:
    state = folder / "state"
    uid, plain = _put(kube, "job-0"), _put(kube, "job-1", notes={})
    async with knowing(api, state) as pods:
        await kube.until(lambda: {uid, plain} <= pods.keys() and _kept(state) == {uid})
        before = pods[uid]
    assert _mode(state / "pods") == 0o700
    assert _mode(state / "pods" / f"{uid}.json") == 0o600
    await kube.stop()
    async with knowing(api, state) as pods:
        found = await pods.find(uid, Deadline.after(10))
        assert found is not None
        assert (found.name, found.options, found.workload) == (before.name, before.options, before.workload)
        assert await pods.find(plain, Deadline.after(0.1)) is None
        assert not pods.reachable


async def test_what_is_gone_is_forgotten(kube: FakeKube, api: KubeClient, folder: Path) -> None:
    state = folder / "state"
    first, second = _put(kube, "job-0"), _put(kube, "job-1")
    async with knowing(api, state) as pods:
        await kube.until(lambda: _kept(state) == {first, second} <= pods.keys())
        kube.remove(PODS, "job-0", namespace=NAMESPACE)
        await kube.until(lambda: _kept(state) == {second})
    kube.remove(PODS, "job-1", namespace=NAMESPACE)
    async with knowing(api, state) as pods:
        await kube.until(lambda: not pods and not _kept(state))


async def test_a_damaged_record_is_dropped_and_the_others_count(
    kube: FakeKube, api: KubeClient, folder: Path
) -> None:
    state = folder / "state"
    uid = _put(kube, "job-0")
    async with knowing(api, state):
        await kube.until((state / "pods" / f"{uid}.json").exists)
    whole = (state / "pods" / f"{uid}.json").read_bytes()
    (state / "pods" / f"{uuid.uuid4()}.json").write_bytes(whole)
    (state / "pods" / f"{uuid.uuid4()}.json").write_bytes(whole[:20])
    (state / "pods" / f"{uuid.uuid4()}.json").write_bytes(b"\xff\xfe")
    await kube.stop()
    async with knowing(api, state) as pods:
        assert list(pods) == [uid]
        assert _kept(state) == {uid}


async def test_a_place_that_cannot_be_written_costs_only_the_memory(
    kube: FakeKube, api: KubeClient, folder: Path
) -> None:
    (folder / "state").write_text("no directory")
    uid = _put(kube, "job-0")
    async with knowing(api, folder / "state") as pods:
        await kube.until(lambda: uid in pods)


async def test_a_pod_is_asked_for_afresh(kube: FakeKube, api: KubeClient, folder: Path) -> None:
    uid = _put(kube, "job-0")
    async with knowing(api, folder / "state") as pods:
        known = await pods.find(uid, Deadline.after(10))
        assert known is not None
        assert (await pods.fresh(known)) == known
        kube.stall_watches()
        condition = {"type": names.DISRUPTION_TARGET, "status": "True", "reason": "EvictionByEvictionAPI"}
        kube.update(PODS, "job-0", {"status": {"conditions": [condition]}}, namespace=NAMESPACE)
        fresh = await pods.fresh(known)
        assert fresh is not None
        assert fresh.disruption == "EvictionByEvictionAPI"
        kube.remove(PODS, "job-0", namespace=NAMESPACE)
        assert await pods.fresh(known) is None
        _put(kube, "job-0")
        assert await pods.fresh(known) is None, "another pod of that name is not this one"
        kube.trouble("stall", verb="get", plural="pods")
        with pytest.raises(KubeUnavailableError):
            await pods.fresh(known)
