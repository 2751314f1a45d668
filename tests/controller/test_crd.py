"""The CRD on a real API server: what it accepts, what it refuses and why, and how agents find their orders.

An agent or a controller may be at work on the cluster: the orders are for pods and nodes that are nobody's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from crikpy import names
from crikpy.aio.clock import Deadline
from crikpy.errors import KubeError, KubeInvalidError, KubeNotFoundError
from crikpy.kube.api import KubeApi, PatchKind
from crikpy.kube.client import KubeClient
from crikpy.kube.orders import parse_order, render_order, render_status
from crikpy.kube.resources import CHECKPOINTS, NAMESPACES, Resource
from crikpy.model.notices import Trigger
from crikpy.model.orders import Order, OrderBytes, OrderPhase, OrderSpec, OrderStatus
from crikpy.settings import KubeSettings

pytestmark = pytest.mark.e2e

CRD: Final = Path(__file__).resolve().parents[2] / "controller/crd/checkpoints.yaml"
CRDS: Final = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
NODE: Final = "crd-test-node"
NOW: Final = datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=UTC)
COMPLETE: Final = OrderStatus(
    phase=OrderPhase.COMPLETE,
    started=NOW,
    completed=NOW + timedelta(seconds=20),
    bytes=OrderBytes(memory=5 * 2**30, stored=3 * 2**30, reused=2 * 2**30),
    frozen_s=12.25,
    total_s=20.0,
    checkpoint="20261124T100000Z-abcdef",
    location="s3://bucket/prefix/cluster/default/pod-a",
    reason="CheckpointComplete",
    message="5.0 GiB in 20 s",
)


class Orders:
    """The Checkpoint objects of a namespace of our own."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    async def make(self, **changes: Any) -> dict[str, Any]:
        """Make an object with a specification that is good but for the changes."""
        name = f"a-{secrets.token_hex(4)}"
        spec = replace(SPEC, pod_uid=f"{SPEC.pod_uid}-{name}")
        raw = render_order(Order(namespace=self.namespace, name=name, spec=spec))
        raw["spec"] = {field: value for field, value in (raw["spec"] | changes).items() if value is not None}
        return await self.api.create(CHECKPOINTS, raw)

    async def write(self, raw: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        """Patch an object's status."""
        name = raw["metadata"]["name"]
        return await self.api.patch(
            CHECKPOINTS, name, {"status": status}, namespace=self.namespace, subresource="status"
        )

    async def put(self, raw: dict[str, Any], status: OrderStatus) -> dict[str, Any]:
        """Write a status as an agent does."""
        return await self.write(raw, render_status(status, raw["status"].get("conditions", ()), NOW))


SPEC: Final = OrderSpec(
    pod="a",
    pod_uid="1c3e5f7a",
    node=NODE,
    containers=("main", "side"),
    workload="job-train-1c3e5f7a-0",
    trigger=Trigger.SPOT_INTERRUPTION,
    notice="spot-0123456789abcdef",
    deadline=NOW + timedelta(days=36500),
)


@pytest.fixture(scope="module")
def kubeconfig() -> Iterator[str]:
    """Return the way to a cluster that knows the kind as it stands here; an unknown one is forgotten again."""
    path = os.environ.get("KUBECONFIG") or os.environ.get("CRIKPY_TEST_KUBECONFIG")
    if not path:
        pytest.skip("needs a cluster: hack/test starts one, or set KUBECONFIG")
    body = yaml.safe_load(CRD.read_text())
    was_known = asyncio.run(install(path, body))
    yield path
    if not was_known:
        asyncio.run(uninstall(path, body))


async def install(path: str, body: dict[str, Any]) -> bool:
    """Apply the CRD and wait until it is served; return whether the cluster knew one before."""
    name = body["metadata"]["name"]
    async with await KubeClient.connect(KubeSettings(kubeconfig=path)) as api:
        before = [item["metadata"]["name"] for item in (await api.list(CRDS)).items]
        await api.patch(CRDS, name, body, kind=PatchKind.APPLY, field_manager="crikpy-tests")
        limit = Deadline.after(20)
        while True:
            try:
                await api.list(CHECKPOINTS, field_selector="spec.nodeName=nowhere")
            except KubeError:
                limit.check("waiting for the kind to be served")
                await asyncio.sleep(0.1)
            else:
                return name in before


async def uninstall(path: str, body: dict[str, Any]) -> None:
    """Take the CRD away, and wait until it is gone: until then it can be neither used nor made anew."""
    name = body["metadata"]["name"]
    async with await KubeClient.connect(KubeSettings(kubeconfig=path)) as api:
        await let_go(api)
        await api.delete(CRDS, name)
        limit = Deadline.after(20)
        while any(item["metadata"]["name"] == name for item in (await api.list(CRDS)).items):
            limit.check("waiting for the kind to be gone")
            await asyncio.sleep(0.1)


async def let_go(api: KubeApi) -> None:
    """Take the finalizers off all objects: no controller is left that would, and the kind goes after them."""
    for raw in (await api.list(CHECKPOINTS)).items:
        with contextlib.suppress(KubeNotFoundError):
            metadata = raw["metadata"]
            free = {"metadata": {"finalizers": None}}
            await api.patch(CHECKPOINTS, metadata["name"], free, namespace=metadata["namespace"])


@pytest.fixture
async def orders(kubeconfig: str) -> AsyncIterator[Orders]:
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(await KubeClient.connect(KubeSettings(kubeconfig=kubeconfig)))
        namespace = f"crd-{secrets.token_hex(4)}"
        await api.create(NAMESPACES, {"metadata": {"name": namespace}})
        stack.push_async_callback(api.delete, NAMESPACES, namespace)
        yield Orders(api, namespace)


async def test_a_new_order_is_pending_and_says_what_was_asked(orders: Orders) -> None:
    raw = await orders.make()
    order = parse_order(raw)
    assert (order.spec, order.status) == (replace(SPEC, pod_uid=order.spec.pod_uid), OrderStatus())
    assert raw["status"] == {"phase": "Pending"}
    assert raw["metadata"]["labels"] == {names.LABEL_POD_UID: order.spec.pod_uid, names.LABEL_NODE: NODE}


async def test_a_status_survives_with_every_field_and_both_conditions(orders: Orders) -> None:
    raw = await orders.put(await orders.make(), COMPLETE)
    assert parse_order(raw).status == COMPLETE
    assert raw["status"]["size"] == "5.0 GiB"
    conditions = {condition["type"]: condition["status"] for condition in raw["status"]["conditions"]}
    assert conditions == {"Complete": "True", "Restored": "False"}


async def test_agents_find_the_orders_of_their_node_by_field(orders: Orders) -> None:
    await orders.make()
    other = f"{NODE}-2"
    await orders.make(nodeName=other)
    found = await orders.api.list(CHECKPOINTS, namespace=orders.namespace, field_selector=f"spec.nodeName={other}")
    assert [item["spec"]["nodeName"] for item in found.items] == [other]


@pytest.mark.parametrize(
    "changes",
    [
        {"podName": None},
        {"podName": "Not_A_Name"},
        {"podUID": None},
        {"podUID": ""},
        {"nodeName": "n 1"},
        {"containers": []},
        {"containers": ["main", "main"]},
        {"containers": ["Main"]},
        {"workload": "../other"},
        {"workload": "x" * 254},
        {"trigger": "Whim"},
        {"notice": "two words"},
        {"deadline": "noon"},
        {"leaveRunning": "yes"},
        {"trigger": "Interval", "leaveRunning": False},
    ],
    ids=str,
)
async def test_a_specification_that_cannot_be_meant_is_refused(orders: Orders, changes: dict[str, Any]) -> None:
    with pytest.raises(KubeInvalidError):
        await orders.make(**changes)


@pytest.mark.parametrize(("pod", "good"), [("a", True), ("b", False)])
async def test_a_pod_is_a_member_of_its_group(orders: Orders, pod: str, *, good: bool) -> None:
    member = {"podName": pod, "podUID": "u1", "nodeName": NODE, "workload": SPEC.workload}
    group = {"name": "ring", "set": "s1", "members": [member]}
    if good:
        raw = await orders.make(podUID="u1", group=group)
        assert parse_order(raw).spec.group is not None
        return
    with pytest.raises(KubeInvalidError, match="member of its group"):
        await orders.make(podUID="u1", group=group)


async def test_optional_parts_may_be_left_out(orders: Orders) -> None:
    raw = await orders.make(notice=None, deadline=None, leaveRunning=None)
    assert raw["spec"]["leaveRunning"] is False
    assert (parse_order(raw).spec.notice, parse_order(raw).spec.deadline) == ("", None)


@pytest.mark.parametrize(
    "change", [{"podUID": "other"}, {"nodeName": "n2"}, {"deadline": None}, {"leaveRunning": True}], ids=str
)
async def test_a_specification_never_changes(orders: Orders, change: dict[str, Any]) -> None:
    raw = await orders.make()
    with pytest.raises(KubeInvalidError, match="immutable"):
        await orders.api.patch(CHECKPOINTS, raw["metadata"]["name"], {"spec": change}, namespace=orders.namespace)


async def test_annotations_may_change_though(orders: Orders) -> None:
    raw = await orders.make()
    patch = {"metadata": {"annotations": {names.RECREATE_FROM: "{}"}}}
    changed = await orders.api.patch(CHECKPOINTS, raw["metadata"]["name"], patch, namespace=orders.namespace)
    assert changed["metadata"]["annotations"] == {names.RECREATE_FROM: "{}"}


FORWARD = {
    "Pending": {"Pending", "Dumping", "Complete", "Restoring", "Restored", "Failed", "Expired"},
    "Dumping": {"Dumping", "Complete", "Restoring", "Restored", "Failed", "Expired"},
    "Complete": {"Dumping", "Complete", "Restoring", "Restored", "Failed"},
    "Restoring": {"Complete", "Restoring", "Restored", "Failed"},
    "Restored": {"Restored"},
    "Failed": {"Failed"},
    "Expired": {"Complete", "Restoring", "Restored", "Failed", "Expired"},
}
"""What may follow what: an agent's word may arrive late or leave steps out, but nothing begins anew."""


@pytest.mark.parametrize("before", FORWARD)
async def test_phases_only_go_forward(orders: Orders, before: str) -> None:
    facts = {"checkpoint": "c-1", "restoredBy": "default/b/uid"}
    for after in FORWARD:
        raw = await orders.make()
        await orders.write(raw, facts | {"phase": before})
        try:
            await orders.write(raw, {"phase": after})
            went = True
        except KubeInvalidError:
            went = False
        assert went == (after in FORWARD[before]), f"{before} → {after}"


async def test_who_restored_it_is_written_once(orders: Orders) -> None:
    raw = await orders.put(await orders.make(), COMPLETE)
    restored = replace(COMPLETE, phase=OrderPhase.RESTORED, restored_by="default/b/uid-b")
    await orders.put(raw, restored)
    with pytest.raises(KubeInvalidError, match="restoredBy is written once"):
        await orders.put(raw, replace(restored, restored_by="default/c/uid-c"))
    with pytest.raises(KubeInvalidError, match="restoredBy is written once"):
        await orders.write(raw, {"restoredBy": None})


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({"phase": "Complete"}, "has an id"),
        ({"phase": "Restored", "checkpoint": "c-1"}, "says by whom"),
        ({"phase": "Melting"}, "Unsupported value"),
        ({"phase": None}, "Required value"),
        ({"phase": "Dumping", "frozenDuration": "soon"}, "frozenDuration"),
        ({"phase": "Dumping", "bytes": {"memory": -1}}, "bytes.memory"),
        ({"phase": "Dumping", "message": "x" * 1025}, "message"),
        ({"phase": "Dumping", "conditions": [{"type": "Complete", "status": "True"}]}, "conditions"),
    ],
    ids=str,
)
async def test_a_status_that_cannot_be_is_refused(orders: Orders, status: dict[str, Any], why: str) -> None:
    raw = await orders.make()
    with pytest.raises(KubeInvalidError, match=why):
        await orders.write(raw, status)


async def test_a_status_is_not_written_through_the_object_itself(orders: Orders) -> None:
    raw = await orders.make()
    patch = {"status": {"phase": "Failed"}}
    after = await orders.api.patch(CHECKPOINTS, raw["metadata"]["name"], patch, namespace=orders.namespace)
    assert after["status"] == {"phase": "Pending"}


def test_people_see_the_columns_that_tell_the_story() -> None:
    version = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]
    columns = version["additionalPrinterColumns"]
    shown = [column["name"] for column in columns if not column.get("priority")]
    assert shown == ["Pod", "Node", "Trigger", "Phase", "Size", "Frozen", "Mode", "Age"]
    assert [column["name"] for column in columns if column.get("priority")] == [
        "Restored By",
        "Message",
        "Group",
        "Location",
    ]


def test_the_kinds_words_are_those_of_the_program() -> None:
    spec = yaml.safe_load(CRD.read_text())["spec"]
    schema = spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    assert schema["spec"]["properties"]["trigger"]["enum"] == [trigger.value for trigger in Trigger]
    assert schema["status"]["properties"]["phase"]["enum"] == [phase.value for phase in OrderPhase]
    version = spec["versions"][0]["name"]
    assert f"{spec['group']}/{version}" == names.API_VERSION
    assert (spec["names"]["kind"], spec["names"]["plural"]) == (CHECKPOINTS.kind, CHECKPOINTS.plural)
