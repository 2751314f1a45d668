"""Raw objects for tests.fakes.kube, as kubelets, agents and users would have made them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from crikpy import names
from crikpy.kube.nodes import notice_condition
from crikpy.kube.orders import render_status
from crikpy.kube.resources import CHECKPOINTS, NODES
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.model.orders import OrderPhase, OrderStatus
from tests.fakes.kube import FakeKube


def now_and(seconds: float) -> datetime:
    """Return the time so many seconds from now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


def notice_in(
    seconds: float | None,
    *,
    trigger: Trigger = Trigger.SPOT_INTERRUPTION,
) -> InterruptionNotice:
    """Return a notice whose deadline lies so many seconds ahead."""
    return InterruptionNotice(
        id="spot-1",
        trigger=trigger,
        source="imds:test",
        instance="",
        deadline=None if seconds is None else now_and(seconds),
        action="" if seconds is None else "terminate",
        seen=datetime.now(UTC),
    )


def raw_node(name: str = "n1", notice: InterruptionNotice | None = None, **ready: Any) -> dict[str, Any]:
    """Return a healthy node."""
    healthy = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "lastHeartbeatTime": datetime.now(UTC).isoformat(),
    }
    return {
        "metadata": {"name": name},
        "spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]},
        "status": {"conditions": [healthy | ready, notice_condition(notice, datetime.now(UTC))]},
    }


def announce(kube: FakeKube, node: str, notice: InterruptionNotice | None) -> None:
    """Have a node's agent publish a notice, or its withdrawal."""
    kube.update(NODES, node, {"status": {"conditions": raw_node(node, notice)["status"]["conditions"]}})


def raw_pod(
    name: str = "a",
    *,
    node: str = "n1",
    injected: str = "main",
    bare: bool = False,
    started_s: float = -3600,
    **annotations: str,
) -> dict[str, Any]:
    """Return an opted-in, injected, running pod of a Job; annotations by their names without the prefix."""
    notes = {names.OPT_IN: "true"} | ({names.INJECTED: injected} if injected else {})
    notes |= {f"{names.DOMAIN}/{key.replace('_', '-')}": value for key, value in annotations.items()}
    metadata: dict[str, Any] = {"name": name, "namespace": "default", "annotations": notes}
    if not bare:
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "job", "uid": "job-uid", "controller": True}
        metadata["ownerReferences"] = [owner]
    return {
        "metadata": metadata,
        "spec": {
            "nodeName": node,
            "containers": [{"name": "main", "image": "job:1", "command": ["/.crikpy/launch", "--", "run"]}],
        },
        "status": {"phase": "Running", "startTime": now_and(started_s).isoformat()},
    }


def answer(kube: FakeKube, order: dict[str, Any], phase: OrderPhase, **status: Any) -> None:
    """Have a node's agent write the status of an order."""
    now = datetime.now(UTC)
    given = OrderStatus(phase=phase, completed=now if phase.final else None, checkpoint="c-1", **status)
    name, namespace = order["metadata"]["name"], order["metadata"]["namespace"]
    kube.update(CHECKPOINTS, name, {"status": render_status(given, [], now)}, namespace=namespace)
