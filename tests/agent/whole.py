"""The whole agent in the test process, on a node of the tests; only the cluster and the metadata are false."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crikpy.agent.process import run_agent
from crikpy.kube.orders import parse_order, render_order
from crikpy.kube.resources import CHECKPOINTS, EVENTS, NODES, PODS
from crikpy.model.notices import Trigger
from crikpy.model.orders import Order, OrderPhase, OrderSpec, OrderStatus
from crikpy.settings import NoticeSettings, Settings
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints, list_workloads
from tests.agent.node import NAMESPACE, FakeNode, NodePod
from tests.fakes.imds import FakeImds
from tests.fakes.kube import FakeKube
from tests.integration.capsules import JobCapsule

PATIENCE_S = 60.0


async def until(holds: Callable[[], object], what: str) -> None:
    """Wait until something holds; AssertionError when it never does."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():  # noqa: ASYNC110 - nobody tells us of changes
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never saw: {what}") from None


def settings_of(node: FakeNode, imds: FakeImds | None = None, **agent: Any) -> Settings:
    """Return a node's settings for a whole agent; without a metadata service it is no machine of EC2."""
    notices = NoticeSettings(imds_enabled=False)
    if imds is not None:
        notices = NoticeSettings(imds_endpoint=imds.endpoint, poll_interval_s=0.05, request_timeout_s=0.5)
    own = replace(node.settings.agent, address="127.0.0.1", port=0, **agent)
    return replace(node.settings, notices=notices, agent=own)


@contextlib.asynccontextmanager
async def at_work(settings: Settings, store: ObjectStore) -> AsyncIterator[None]:
    """Have an agent work until the context ends, and see it end in order."""
    end = asyncio.Event()
    task = asyncio.create_task(run_agent(settings, store.url, end))
    try:
        yield
        assert not task.done(), "the agent ended by itself"
    finally:
        end.set()
        async with asyncio.timeout(PATIENCE_S):
            assert await task, "the agent left work behind"


def signal_all(pod: NodePod) -> None:
    """Send SIGTERM to the first process of each container, as a container runtime does for kubelet."""
    for job in pod.jobs.values():
        job.signal(signal.SIGTERM)


async def runs(pod: NodePod) -> None:
    """Begin a pod's containers and wait until their jobs are ready."""
    for container in pod.containers:
        await pod.run(container)
    for job in pod.jobs.values():
        await asyncio.to_thread(job.expect, "ready")


async def proves(job: JobCapsule) -> None:
    """Have a job prove its state."""
    await asyncio.to_thread(job.prove)


async def ends(job: JobCapsule) -> int:
    """Wait for a container's end and return its exit status."""
    return await asyncio.to_thread(job.wait)


def checkpoints_of(store: ObjectStore) -> list[str]:
    """Return the ids of all complete checkpoints in a store."""
    found = [Checkpoints(store, workload).list() for workload in list_workloads(store)]
    return sorted(summary.id for summaries in found for summary in summaries if summary.complete)


def stands_still(job: JobCapsule) -> bool:
    """Say whether all processes of a job are stopped."""
    try:
        states = {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in job.members()}
    except OSError:  # something in there has just ended: a CRIU, or a helper of ours
        return False
    return bool(states) and states <= {"T", "t"}


@dataclass
class Desk:
    """What a controller, and a person with kubectl, would see and do."""

    kube: FakeKube

    def order(
        self,
        pod: NodePod,
        name: str = "order-1",
        *,
        namespace: str = NAMESPACE,
        status: dict[str, Any] | None = None,
        **spec: Any,
    ) -> str:
        """Make an order for a pod, perhaps one with a past, and return its name."""
        chosen = {
            "pod": pod.name,
            "pod_uid": pod.uid,
            "node": pod.node.name,
            "workload": f"pod-{pod.name}",
            "trigger": Trigger.MANUAL,
            "containers": tuple(pod.containers),
            **spec,
        }
        made = OrderSpec(**chosen)
        body = render_order(Order(namespace=namespace, name=name, spec=made))
        self.kube.put(CHECKPOINTS, {**body, "status": status or {}})
        return name

    def status(self, name: str, *, namespace: str = NAMESPACE) -> OrderStatus:
        """Return an order's status."""
        raw = self.kube.get(CHECKPOINTS, name, namespace=namespace)
        assert raw is not None, f"there is no order {name}"
        return parse_order(raw).status

    async def reaches(self, name: str, phase: OrderPhase, *, namespace: str = NAMESPACE) -> OrderStatus:
        """Wait until an order is in a phase, and return its status."""
        await until(
            lambda: self.status(name, namespace=namespace).phase is phase, f"order {name} in phase {phase}"
        )
        return self.status(name, namespace=namespace)

    def terminate(self, pod: NodePod, *, disruption: str = "", grace_s: int = 60) -> None:
        """Do to a pod what its deletion means: the API server marks it, kubelet sends SIGTERM."""
        if disruption:
            condition = {"type": "DisruptionTarget", "status": "True", "reason": disruption}
            self.kube.update(PODS, pod.name, {"status": {"conditions": [condition]}}, namespace=NAMESPACE)
        self.kube.objects.delete(PODS, pod.name, NAMESPACE, {"gracePeriodSeconds": grace_s})
        signal_all(pod)

    def events(self, name: str) -> list[str]:
        """Return the reasons of the events on an object, oldest first."""
        found = [event for event in self.kube.all(EVENTS) if event["involvedObject"]["name"] == name]
        found.sort(key=lambda event: int(event["metadata"]["resourceVersion"]))
        return [event["reason"] for event in found]

    def condition(self, node: FakeNode, kind: str) -> dict[str, Any]:
        """Return a condition of a node, empty when there is none."""
        raw = self.kube.get(NODES, node.name)
        assert raw is not None
        return next((found for found in raw["status"]["conditions"] if found["type"] == kind), {})
