"""The parts of crikpy with an API server of the tests between them, and the names, times and sizes that they tell.

Nothing of what is said is made up here but these.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from crikpy import names
from crikpy.agent.reporting import Teller
from crikpy.controller.acting import Actor
from crikpy.controller.actions import MakeOrder
from crikpy.controller.ordering import make_order
from crikpy.kube.client import KubeClient
from crikpy.kube.events import EventRecorder
from crikpy.kube.nodes import parse_node
from crikpy.kube.orders import parse_order
from crikpy.kube.resources import CHECKPOINTS, NODES
from crikpy.metrics import Metrics
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.model.orders import Order, OrderPhase, OrderStatus
from crikpy.model.pods import Pod
from crikpy.settings import ControllerSettings
from tests.agent.cluster import NAMESPACE, NODE, running
from tests.fakes.kube import FakeKube

Json = dict[str, Any]

SEEN: Final = datetime(2025, 1, 31, 12, 0, 0, tzinfo=UTC)
NOTICE: Final = InterruptionNotice(
    id="spot-1f2e",
    trigger=Trigger.SPOT_INTERRUPTION,
    source="imds:spot/instance-action",
    instance="i-0123456789abcdef0",
    deadline=SEEN + timedelta(minutes=2),
    action="terminate",
    seen=SEEN,
)
REPORTED: Final = replace(NOTICE, id="rebalance-3a4b", trigger=Trigger.REBALANCE_RECOMMENDATION, source="queue")
FEATURES: Final = ("avx2", "sse2")
CLASS: Final = "0123456789abcdef"
STORE: Final = "s3://bucket/prefix/cluster/jobs/sts-train-0.main"
NEW_UID: Final = "22222222-2222-4222-8222-222222222222"
UID: Final = "11111111-1111-4111-8111-111111111111"
OWNER: Final = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "train", "uid": "u", "controller": True}
NOTES: Final = {
    names.OPT_IN: "true",
    names.INTERVAL: "30m",
    names.ON_REBALANCE: "migrate",
    names.PRIORITY: "7",
    names.EXCLUDE_VOLUMES: "cache",
    names.RESTORE_FAILURE: "fail",
    names.KEEP: "3",
    names.PLACEMENT: "require",
    names.MISFIT: "start",
}
_SETTINGS: Final = ControllerSettings(launcher_image="registry.example/launcher:1")


def raw_pod(name: str, uid: str, *, owned: bool = True, notes: dict[str, str] | None = None) -> Json:
    """Return a pod as its controller makes it, of which kubelet has already told."""
    containers = [{"name": "main", "image": "job:1", "command": ["train"], "args": ["--fast"]}]
    metadata: Json = {"name": name, "namespace": NAMESPACE, "uid": uid}
    metadata["annotations"] = {names.OPT_IN: "true", **(notes or {})}
    if owned:
        metadata["ownerReferences"] = [OWNER]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": NODE, "containers": containers, "volumes": [{"name": "cache", "emptyDir": {}}]},
        "status": {"phase": "Running", "startTime": SEEN.isoformat()},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The parts of crikpy, and the API server between them."""

    kube: FakeKube
    api: KubeClient
    actor: Actor
    teller: Teller
    metrics: Metrics

    @classmethod
    @contextlib.asynccontextmanager
    async def set_up(cls, folder: Path) -> AsyncIterator[Stage]:
        """Begin, with the one node."""
        async with FakeKube().serving() as kube, await KubeClient.connect(kube.settings(folder)) as api:
            metrics, recorder = Metrics(), EventRecorder(api, component="crikpy", host=NODE)
            teller = Teller(api, recorder, metrics, node=NODE)
            stage = cls(kube=kube, api=api, actor=Actor(api, recorder, metrics), teller=teller, metrics=metrics)
            instance = f"aws:///eu-west-1b/{NOTICE.instance}"
            labels = {names.LABEL_WELL_KNOWN_TYPE: "m7i.4xlarge", names.LABEL_WELL_KNOWN_ARCH: "amd64"}
            ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
            kube.put(
                NODES,
                {
                    "metadata": {"name": NODE, "labels": labels},
                    "spec": {"providerID": instance},
                    "status": {"conditions": [ready]},
                },
            )
            async with running(teller.run()):
                yield stage

    def node(self) -> Json:
        """Return the node as it stands."""
        found = self.kube.get(NODES, NODE)
        assert found is not None
        return json.loads(json.dumps(found))  # type: ignore[no-any-return]

    def order(self, order: Order) -> Json:
        """Return an order as it stands."""
        found = self.kube.get(CHECKPOINTS, order.name, namespace=NAMESPACE)
        assert found is not None
        return json.loads(json.dumps(found))  # type: ignore[no-any-return]

    async def make(self, pod: Pod, *, leave_running: bool = False, recreates: bool = False) -> Order:
        """Have the controller order a pod to be saved, for the notice or as a periodic checkpoint."""
        order = make_order(
            pod,
            replace(parse_node(self.node()), cpu=CLASS, instance_type="m7i.4xlarge"),
            trigger=Trigger.INTERVAL if leave_running else NOTICE.trigger,
            occasion="interval-1" if leave_running else NOTICE.id,
            notice="" if leave_running else NOTICE.id,
            deadline=NOTICE.deadline,
            leave_running=leave_running,
        )
        await self.actor.perform(MakeOrder(order=order, pod=pod, recreates=recreates))
        return parse_order(self.order(order))

    async def tell(self, order: Order, status: OrderStatus) -> None:
        """Have the agent tell how far an order is."""
        self.teller.tell_status(NAMESPACE, order.name, status)
        await self.reaches(order, status.phase)

    async def reaches(self, order: Order, phase: OrderPhase) -> None:
        """Wait until an order is in a phase."""
        await FakeKube.until(lambda: parse_order(self.order(order)).status.phase is phase)
