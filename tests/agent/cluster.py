"""What the agent's tests put on the API server of tests.fakes.kube, as webhook and controller would."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

from crikpy import names
from crikpy.kube.api import Json
from crikpy.kube.orders import parse_order, render_order
from crikpy.kube.resources import CHECKPOINTS, EVENTS, NODES, PODS
from crikpy.model.notices import Trigger
from crikpy.model.orders import Order, OrderSpec
from tests.fakes.kube import FakeKube

NODE = "n1"
NAMESPACE = "jobs"
PATIENCE_S = 60.0


async def until(holds: Callable[[], object], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Wait until something holds; AssertionError when it never does."""
    try:
        async with asyncio.timeout(patience_s):
            while not holds():  # noqa: ASYNC110 - nobody tells us of changes
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never saw: {what}") from None


@contextlib.asynccontextmanager
async def running(*acts: Any) -> AsyncIterator[None]:
    """Run coroutines that never end by themselves, until the context ends; one that fails fails the test."""
    tasks = [asyncio.create_task(act) for act in acts]
    try:
        yield
        for task in tasks:
            assert not task.done(), task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def put_node(kube: FakeKube, **changes: Any) -> Json:
    """Make our node."""
    return kube.put(
        NODES,
        {"metadata": {"name": NODE}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}} | changes,
    )


def put_pod(
    kube: FakeKube,
    name: str,
    *,
    uid: str = "",
    containers: tuple[str, ...] = ("main",),
    notes: dict[str, str] | None = None,
) -> Json:
    """Make a running pod on our node that has opted in, injected by the webhook."""
    metadata: Json = {
        "name": name,
        "namespace": NAMESPACE,
        "annotations": {names.OPT_IN: "true", names.INJECTED: ",".join(containers), **(notes or {})},
    }
    if uid:
        metadata["uid"] = uid
    spec: Json = {
        "nodeName": NODE,
        "terminationGracePeriodSeconds": 60,
        "containers": [{"name": container, "image": "job", "command": ["job"]} for container in containers],
    }
    return kube.put(PODS, {"metadata": metadata, "spec": spec, "status": {"phase": "Running"}})


def put_order(
    kube: FakeKube,
    pod: Json,
    name: str,
    *,
    trigger: Trigger = Trigger.MANUAL,
    notice: str = "",
    deadline: datetime | None = None,
    leave_running: bool = False,
    containers: tuple[str, ...] = ("main",),
) -> Order:
    """Make an order for a pod, as the controller does."""
    spec = OrderSpec(
        pod=pod["metadata"]["name"],
        pod_uid=pod["metadata"]["uid"],
        node=NODE,
        containers=containers,
        workload=f"pod-{pod['metadata']['name']}",
        trigger=trigger,
        notice=notice,
        deadline=deadline,
        leave_running=leave_running,
    )
    body = render_order(Order(namespace=NAMESPACE, name=name, spec=spec))
    return parse_order(kube.put(CHECKPOINTS, body))


def order(kube: FakeKube, name: str) -> Order:
    """Return an order as it stands."""
    raw = kube.get(CHECKPOINTS, name, namespace=NAMESPACE)
    assert raw is not None, f"no order {name}"
    return parse_order(raw)


def events(kube: FakeKube, name: str) -> list[tuple[str, str]]:
    """Return type and reason of the events on an object, oldest first."""
    found = [event for event in kube.all(EVENTS) if event["involvedObject"]["name"] == name]
    found.sort(key=lambda event: int(event["metadata"]["resourceVersion"]))
    return [(event["type"], event["reason"]) for event in found]


def condition(kube: FakeKube, kind: str) -> Json | None:
    """Return a condition of our node."""
    node = kube.get(NODES, NODE)
    assert node is not None
    return next((found for found in node["status"]["conditions"] if found["type"] == kind), None)
