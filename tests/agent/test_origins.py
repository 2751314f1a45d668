"""What has become of the pods before: asked of an API server, for a pod that may take over."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from crikpy import names
from crikpy.agent.choosing import OriginState
from crikpy.agent.origins import Origins
from crikpy.aio.clock import Deadline
from crikpy.errors import KubeUnavailableError
from crikpy.flows.gathering import Candidate
from crikpy.kube.client import KubeClient
from crikpy.kube.pods import parse_pod
from crikpy.kube.resources import NODES, PODS
from crikpy.kube.signals import read_signs
from crikpy.model.pods import Pod
from crikpy.settings import SignalSettings
from tests.fakes.kube import FakeKube

NAMESPACE = "ns"
REPLICAS = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "train", "uid": "u", "controller": True}
DELETED = {"deletionTimestamp": datetime.now(UTC).isoformat(), "deletionGracePeriodSeconds": 120}
SIGNS = read_signs(SignalSettings())
EVICTED = {"conditions": [{"type": names.DISRUPTION_TARGET, "status": "True", "reason": "Evicted"}]}


def _put(
    kube: FakeKube,
    *,
    node: str = "node-a",
    owner: Mapping[str, object] = REPLICAS,
    metadata: Mapping[str, object] | None = None,
    status: Mapping[str, object] | None = None,
    opted_in: bool = True,
) -> Pod:
    uid = str(uuid.uuid4())
    notes = {names.OPT_IN: "true", names.INJECTED: "main"} if opted_in else {}
    body: dict[str, Any] = {
        "metadata": {
            "name": f"train-{uid[:5]}",
            "namespace": NAMESPACE,
            "uid": uid,
            "annotations": notes,
            "ownerReferences": [dict(owner)],
            **(metadata or {}),
        },
        "spec": {"nodeName": node, "containers": [{"name": "main", "command": ["run"]}]},
        "status": {"phase": "Running", **(status or {})},
    }
    return parse_pod(kube.put(PODS, body))


def _node(kube: FakeKube, name: str = "node-a", *, ready: str = "True", taints: tuple[str, ...] = ()) -> None:
    conditions = [{"type": "Ready", "status": ready}]
    spec = {"taints": [{"key": key, "value": "SpotInterruption", "effect": "NoSchedule"} for key in taints]}
    kube.put(NODES, {"metadata": {"name": name}, "spec": spec, "status": {"conditions": conditions}})


def _ended(code: int) -> dict[str, object]:
    return {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [{"name": "main", "state": {"terminated": {"exitCode": code}}}],
    }


async def _state(api: KubeClient, kube: FakeKube, old: Pod, *, saved: bool) -> OriginState | None:
    """Return what a new pod learns of an old one that has, or has not, a complete checkpoint."""
    found = [Candidate(checkpoint="c1", pod=str(old), pod_uid=old.uid)] if saved else []
    origins = Origins(api, _put(kube), SIGNS)
    await origins.look(Deadline.after(5))
    return (await origins.states(found, Deadline.after(5))).get(old.uid)


@pytest.mark.parametrize(
    ("metadata", "status", "ready", "state"),
    [
        ({}, {}, "True", OriginState.ALIVE),
        ({}, EVICTED, "Unknown", OriginState.ALIVE),
        (DELETED, {}, "True", OriginState.ENDING),
        (DELETED, {}, "Unknown", OriginState.GONE),
        (DELETED, {}, "False", OriginState.GONE),
        ({}, _ended(0), "True", OriginState.OVER),
        ({}, _ended(1), "True", OriginState.OVER),
        ({}, _ended(names.EXIT_CHECKPOINTED), "True", OriginState.GONE),
        ({}, _ended(137), "True", OriginState.GONE),
        ({}, {"phase": "Failed", "reason": "Evicted"}, "True", OriginState.GONE),
        (DELETED, _ended(names.EXIT_CHECKPOINTED), "True", OriginState.GONE),
    ],
)
async def test_the_state_of_a_pod_with_a_checkpoint(
    kube: FakeKube,
    api: KubeClient,
    metadata: Mapping[str, object],
    status: Mapping[str, object],
    ready: str,
    state: OriginState,
) -> None:
    _node(kube, ready=ready)
    assert await _state(api, kube, _put(kube, metadata=metadata, status=status), saved=True) is state


async def test_a_pod_that_is_no_more_is_gone_and_so_is_one_whose_node_is(kube: FakeKube, api: KubeClient) -> None:
    old = _put(kube)
    kube.remove(PODS, old.name, namespace=NAMESPACE)
    assert await _state(api, kube, old, saved=True) is OriginState.GONE
    lost = _put(kube, node="node-z", metadata=DELETED)
    assert await _state(api, kube, lost, saved=True) is OriginState.GONE


async def test_a_pod_that_may_be_saved_in_this_moment_is_known_without_a_checkpoint(
    kube: FakeKube, api: KubeClient
) -> None:
    _node(kube)
    _node(kube, "node-t", taints=(names.TAINT,))
    _node(kube, "node-k", taints=("karpenter.sh/disrupted",))
    evicted = _put(kube, metadata=DELETED, status=EVICTED)
    assert await _state(api, kube, evicted, saved=False) is OriginState.ENDING
    tainted = _put(kube, node="node-t", metadata=DELETED)
    assert await _state(api, kube, tainted, saved=False) is OriginState.ENDING
    signed = _put(kube, node="node-k", metadata=DELETED)
    assert await _state(api, kube, signed, saved=False) is OriginState.ENDING


async def test_pods_that_nobody_saves_are_of_no_interest(kube: FakeKube, api: KubeClient) -> None:
    _node(kube)
    for pod in (
        _put(kube),
        _put(kube, metadata=DELETED),
        _put(kube, metadata=DELETED, status=EVICTED, opted_in=False),
        _put(kube, metadata=DELETED, status=EVICTED, owner={**REPLICAS, "uid": "other"}),
    ):
        assert await _state(api, kube, pod, saved=False) is None


async def test_the_end_of_a_pod_is_waited_for(kube: FakeKube, api: KubeClient) -> None:
    _node(kube)
    old = _put(kube, metadata=DELETED, status=EVICTED)
    origins = Origins(api, _put(kube), SIGNS)
    await origins.look(Deadline.after(5))
    waiting = asyncio.create_task(origins.await_end(old.uid, Deadline.after(30)))
    await kube.until(lambda: kube.seen("get", "pods"))
    assert not waiting.done()
    kube.remove(PODS, old.name, namespace=NAMESPACE)
    await asyncio.wait_for(waiting, 10)
    await origins.await_end(old.uid, Deadline.after(0))


async def test_nobody_guesses_when_the_server_does_not_answer(kube: FakeKube, api: KubeClient) -> None:
    origins = Origins(api, _put(kube), SIGNS)
    kube.trouble("503")
    with pytest.raises(KubeUnavailableError):
        await origins.look(Deadline.after(0.5))
