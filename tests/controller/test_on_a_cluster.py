"""The leader against a real API server, with a node and pods that are objects only: nothing runs, nothing is hurt.

What a fake may get wrong is tried here: conditional patches of nodes, strategic ones of pods, evictions against a
real budget, and the CRD's rules for what the controller writes. Another controller may be at work besides; it
would do the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest

from crikpy import names
from crikpy.aio.tasks import stop
from crikpy.controller.rounds import Rounds
from crikpy.controller.sighting import Sight
from crikpy.errors import KubeNotFoundError
from crikpy.kube.api import KubeApi, PatchKind
from crikpy.kube.client import KubeClient
from crikpy.kube.events import EventRecorder
from crikpy.kube.orders import render_status
from crikpy.kube.resources import CHECKPOINTS, EVENTS, NAMESPACES, NODES, PODS, Resource
from crikpy.metrics import Metrics
from crikpy.model.notices import InterruptionNotice
from crikpy.model.orders import OrderPhase, OrderStatus
from crikpy.settings import KubeSettings, Settings
from tests.controller.objects import notice_in, now_and, raw_node, raw_pod
from tests.controller.test_crd import kubeconfig  # noqa: F401 - a fixture

pytestmark = pytest.mark.e2e

BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
OURS = {"key": names.TAINT, "value": "SpotInterruption", "effect": "NoSchedule"}
NOBODY = {"key": "crikpy.io/test", "effect": "NoSchedule"}
_PATIENCE_S = 30.0
_T = TypeVar("_T")


class Stage:
    """A node that no machine stands behind, and a namespace of our own."""

    def __init__(self, api: KubeApi, name: str) -> None:
        self.api = api
        self.name = name

    async def put_node(self) -> None:
        """Make the node."""
        body = raw_node(self.name)
        await self.api.create(NODES, {"metadata": body["metadata"], "spec": {"taints": [NOBODY]}})
        await self.announce(None)

    async def announce(self, notice: InterruptionNotice | None) -> None:
        """Publish a notice, and that the node is healthy."""
        conditions = raw_node(self.name, notice)["status"]["conditions"]
        patch = {"status": {"conditions": conditions}}
        await self.api.patch(NODES, self.name, patch, subresource="status", kind=PatchKind.STRATEGIC)

    async def put_pod(self, name: str, **annotations: Any) -> None:
        """Make a pod that looks as if it ran."""
        body = raw_pod(name, node=self.name, **annotations)
        body["metadata"] |= {"namespace": self.name, "labels": {"app": name}, "ownerReferences": []}
        status = body.pop("status") | {"startTime": now_and(-60).isoformat(timespec="seconds")}
        await self.api.create(PODS, body)
        await self.api.patch(PODS, name, {"status": status}, namespace=self.name, subresource="status")

    async def order(self) -> dict[str, Any]:
        """Wait for the only order."""

        async def find() -> dict[str, Any] | None:
            found = await self.api.list(CHECKPOINTS, namespace=self.name)
            return found.items[0] if found.items else None

        return await eventually(find)

    async def complete(self, order: dict[str, Any]) -> None:
        """Say that an order is complete."""
        status = OrderStatus(phase=OrderPhase.COMPLETE, completed=now_and(0), checkpoint="c-1")
        patch = {"status": render_status(status, (), now_and(0))}
        await self.api.patch(
            CHECKPOINTS, order["metadata"]["name"], patch, namespace=self.name, subresource="status"
        )

    async def ending(self) -> dict[str, Any]:
        """Wait until the pod ends and return it."""

        async def find() -> dict[str, Any] | None:
            pod = await self.api.get(PODS, "a", namespace=self.name)
            return pod if "deletionTimestamp" in pod["metadata"] else None

        return await eventually(find)

    async def remove(self) -> None:
        """Take away everything."""
        for pod in (await self.api.list(PODS, namespace=self.name)).items:
            with contextlib.suppress(KubeNotFoundError):
                await self.api.delete(PODS, pod["metadata"]["name"], namespace=self.name, grace_period_s=0)
        await self.api.delete(NAMESPACES, self.name)
        await self.api.delete(NODES, self.name)


async def eventually(find: Callable[[], Awaitable[_T | None]]) -> _T:
    """Ask until there is an answer."""
    async with asyncio.timeout(_PATIENCE_S):
        while (found := await find()) is None:  # noqa: ASYNC110 - objects tell nobody that they changed
            await asyncio.sleep(0.1)
    return found


@pytest.fixture
async def stage(kubeconfig: str) -> AsyncIterator[Stage]:  # noqa: F811
    settings = Settings(kube=KubeSettings(kubeconfig=kubeconfig))
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(await KubeClient.connect(settings.kube))
        stage = Stage(api, f"controller-{secrets.token_hex(4)}")
        await api.create(NAMESPACES, {"metadata": {"name": stage.name}})
        stack.push_async_callback(stage.remove)
        await stage.put_node()
        recorder = EventRecorder(api, component="crikpy-controller", host="test")
        sight = Sight(api, Metrics())
        rounds = Rounds(api, settings, recorder, Metrics(), sight=sight)
        for act in (recorder.run(), sight.run(), rounds.run()):
            stack.push_async_callback(stop, asyncio.create_task(act))
        yield stage


async def test_a_notice_is_carried_out_and_undone(stage: Stage) -> None:
    await stage.put_pod("a")
    await stage.announce(notice_in(120))
    order = await stage.order()
    assert order["spec"]["nodeName"] == stage.name

    async def marked() -> dict[str, Any] | None:
        node = await stage.api.get(NODES, stage.name)
        return node if node["spec"].get("unschedulable") else None

    node = await eventually(marked)
    assert [taint for taint in node["spec"]["taints"] if taint["key"] in (NOBODY["key"], OURS["key"])] == [
        NOBODY,
        OURS,
    ]
    await stage.complete(order)
    pod = await stage.ending()
    conditions = {condition["type"]: condition for condition in pod["status"]["conditions"]}
    assert conditions[names.DISRUPTION_TARGET]["reason"] == "EvictionByEvictionAPI"
    await stage.announce(None)

    async def clean() -> dict[str, Any] | None:
        node = await stage.api.get(NODES, stage.name)
        return None if node["spec"].get("unschedulable") or OURS in node["spec"]["taints"] else node

    node = await eventually(clean)
    assert NOBODY in node["spec"]["taints"]
    assert names.CORDONED not in node["metadata"].get("annotations", {})


async def test_a_real_budget_is_kept_until_the_last_moments(stage: Stage) -> None:
    budget = {
        "metadata": {"name": "none", "namespace": stage.name},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "a"}}},
    }
    await stage.api.create(BUDGETS, budget)
    await stage.put_pod("a")

    async def counted() -> bool | None:
        found = await stage.api.get(BUDGETS, "none", namespace=stage.name)
        return True if found.get("status", {}).get("observedGeneration") else None

    await eventually(counted)
    await stage.announce(notice_in(22))
    await stage.complete(await stage.order())

    async def told() -> str | None:
        events = (await stage.api.list(EVENTS, namespace=stage.name)).items
        return next((event["message"] for event in events if event["reason"] == "EvictionBlocked"), None)

    assert "budget" in await eventually(told)
    pod = await stage.ending()
    conditions = {condition["type"]: condition for condition in pod["status"]["conditions"]}
    assert conditions[names.DISRUPTION_TARGET]["status"] == "True"
    assert conditions[names.DISRUPTION_TARGET]["reason"] == "NodeInterruption"


async def test_a_bare_pod_is_made_again_from_what_the_server_had_made_of_it(stage: Stage) -> None:
    await stage.put_pod("a", recreate="true")
    old = await stage.api.get(PODS, "a", namespace=stage.name)
    await stage.announce(notice_in(120))
    await stage.complete(await stage.order())
    await stage.ending()
    await stage.api.delete(PODS, "a", namespace=stage.name, grace_period_s=0)

    async def again() -> dict[str, Any] | None:
        with contextlib.suppress(KubeNotFoundError):
            pod = await stage.api.get(PODS, "a", namespace=stage.name)
            return pod if pod["metadata"]["uid"] != old["metadata"]["uid"] else None
        return None

    new = await eventually(again)
    assert new["metadata"]["annotations"][names.RECREATE] == "true"
    assert new["spec"].get("nodeName") != stage.name
    assert new["spec"]["containers"][0]["image"] == "job:1"
