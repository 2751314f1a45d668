"""Nodes and pods for a benchmark, as kubelets and the webhook would have left them, and storms over them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy import names
from crikpy.kube.api import KubeApi, PatchKind
from crikpy.kube.nodes import notice_condition
from crikpy.kube.resources import CHECKPOINTS, NAMESPACES, NODES, PODS, Resource
from crikpy.model.notices import InterruptionNotice, Trigger

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "default"
PODS_PER_NODE = 10
_AT_ONCE = 16
_CRDS = Resource(
    group="apiextensions.k8s.io",
    version="v1",
    plural="customresourcedefinitions",
    kind="CustomResourceDefinition",
    namespaced=False,
)
_PADDING = "x" * 200
"""Of each of twenty variables: a pod of a training job has about six kilobytes."""


def node_name(number: int) -> str:
    """Return a node's name."""
    return f"node-{number:04}"


def instance_of(number: int) -> str:
    """Return the id of the EC2 instance that a node is."""
    return f"i-{number:017x}"


def pods_of(numbers: Iterable[int]) -> dict[str, str]:
    """Return the nodes of all pods on some nodes, by the pods' names."""
    return {
        f"train-{number:04}-{index}": node_name(number) for number in numbers for index in range(PODS_PER_NODE)
    }


async def prepare(api: KubeApi) -> None:
    """Make the namespace of the controller, and Checkpoint objects known."""
    await api.create(NAMESPACES, {"metadata": {"name": "crikpy-system"}})
    definition = yaml.safe_load((ROOT / "controller/crd/checkpoints.yaml").read_text())
    await api.create(_CRDS, definition)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = await api.get(_CRDS, definition["metadata"]["name"])
        conditions = {one["type"]: one["status"] for one in (found.get("status") or {}).get("conditions") or ()}
        if conditions.get("Established") == "True":
            return
        await asyncio.sleep(0.2)
    raise SystemExit("the API server does not take the definition of Checkpoint objects")


async def populate(api: KubeApi, numbers: Sequence[int]) -> None:
    """Add nodes with their pods."""
    await _together(lambda number=number: _add_node(api, number) for number in numbers)
    await _together(
        lambda number=number, index=index: _add_pod(api, number, index)
        for number in numbers
        for index in range(PODS_PER_NODE)
    )


async def _add_node(api: KubeApi, number: int) -> None:
    name = node_name(number)
    body: dict[str, Any] = {
        "metadata": {
            "name": name,
            "labels": {names.LABEL_WELL_KNOWN_TYPE: "m7i.4xlarge", names.LABEL_READY: "true"},
        },
        "spec": {"providerID": f"aws:///eu-west-1a/{instance_of(number)}"},
    }
    await api.create(NODES, body)
    now = datetime.now(UTC).isoformat()
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    conditions = [ready, notice_condition(None, datetime.now(UTC))]
    await _patch_status(api, NODES, name, {"conditions": conditions})


async def _add_pod(api: KubeApi, number: int, index: int) -> None:
    name = f"train-{number:04}-{index}"
    container = {
        "name": "main",
        "image": "train:1",
        "command": ["/.crikpy/launch", "--", "python", "train.py"],
        "env": [{"name": f"VARIABLE_{one}", "value": _PADDING} for one in range(20)],
        "volumeMounts": [{"name": names.LAUNCHER_VOLUME, "mountPath": "/.crikpy"}],
    }
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": f"{name}-uid", "controller": True}
    body: dict[str, Any] = {
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "annotations": {names.OPT_IN: "true", names.INJECTED: "main"},
            "ownerReferences": [owner],
        },
        "spec": {
            "nodeName": node_name(number),
            "containers": [container],
            "volumes": [{"name": names.LAUNCHER_VOLUME, "emptyDir": {}}],
        },
    }
    await api.create(PODS, body)
    now = datetime.now(UTC).isoformat()
    state = {"running": {"startedAt": now}}
    running = {"name": "main", "ready": True, "restartCount": 0, "image": "train:1", "imageID": "", "state": state}
    status = {"phase": "Running", "startTime": now, "containerStatuses": [running]}
    await _patch_status(api, PODS, name, status, namespace=NAMESPACE)


async def announce(api: KubeApi, number: int, notice: InterruptionNotice | None) -> None:
    """Have a node's agent publish a notice, or that there is none."""
    condition = notice_condition(notice, datetime.now(UTC))
    await _patch_status(api, NODES, node_name(number), {"conditions": [condition]})


def spot_notice(number: int) -> InterruptionNotice:
    """Return a spot interruption in two minutes."""
    now = datetime.now(UTC)
    return InterruptionNotice(
        id=f"spot-{number:04}-{now:%H%M%S}",
        trigger=Trigger.SPOT_INTERRUPTION,
        source="imds:spot/instance-action",
        instance=instance_of(number),
        deadline=now + timedelta(minutes=2),
        action="terminate",
        seen=now,
    )


async def clear(api: KubeApi, numbers: Sequence[int]) -> None:
    """Take notices, marks and orders away again."""
    await _together(lambda number=number: announce(api, number, None) for number in numbers)
    plain = {"metadata": {"annotations": None}, "spec": {"taints": None, "unschedulable": None}}
    await _together(lambda number=number: api.patch(NODES, node_name(number), plain) for number in numbers)
    orders = await api.list(CHECKPOINTS, namespace=NAMESPACE)
    await _together(
        lambda name=order["metadata"]["name"]: api.delete(CHECKPOINTS, name, namespace=NAMESPACE)
        for order in orders.items
    )


async def _patch_status(
    api: KubeApi, resource: Resource, name: str, status: dict[str, Any], *, namespace: str = ""
) -> None:
    await api.patch(
        resource,
        name,
        {"status": status},
        namespace=namespace,
        subresource="status",
        kind=PatchKind.STRATEGIC,
        field_manager="bench",
    )


async def _together(acts: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Do many things, a few at once."""
    waiting = iter(list(acts))

    async def work() -> None:
        for act in waiting:
            await act()

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(work())
