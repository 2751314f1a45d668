"""A pod on a machine that lacks what its checkpoint needs: told, moved once, and started where nobody moves it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from crikpy import names
from crikpy.kube.client import KubeClient
from crikpy.kube.orders import parse_order, render_order
from crikpy.kube.resources import CHECKPOINTS, PODS
from crikpy.model.capsule import JobPhase
from crikpy.model.notices import Trigger
from crikpy.model.orders import Order, OrderPhase, OrderSpec
from crikpy.store.base import ObjectStore
from crikpy.store.manifests import decode_manifest, encode_manifest
from tests.agent.agents import StartingAgent, ends, events_of, hears, move_away, prove_afresh, records
from tests.agent.conftest import MakeNode
from tests.agent.node import NAMESPACE, FakeNode
from tests.fakes.kube import FakeKube
from tests.integration.capsules import JobCapsule

pytestmark = pytest.mark.criu

OWNER = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "train", "uid": "11111111-2222"}


def ask_for_more(folder: Path, what: str = "avx9000") -> None:
    """Have the one checkpoint of a store need a CPU feature that no machine has, or another image."""
    (path,) = records(folder, "manifest.json")
    manifest = decode_manifest(path.read_bytes())
    fit = manifest.compatibility
    changed = replace(fit, cpu_features=(*fit.cpu_features, what))
    path.write_bytes(encode_manifest(replace(manifest, compatibility=changed)))


@dataclass
class Stranded:
    """A node, its agent, and a checkpoint that does not fit it."""

    node: FakeNode
    agent: StartingAgent
    kube: FakeKube
    folder: Path

    def order(self) -> Order:
        raw = self.kube.get(CHECKPOINTS, "order-1", namespace=NAMESPACE)
        assert raw is not None
        return parse_order(raw)

    async def come(self, **pod: Any) -> tuple[Any, JobCapsule]:
        """Have the successor come to the node."""
        chosen = self.node.pod("train-0", **{"owner": OWNER, **pod})
        return chosen, await chosen.run()


@pytest.fixture
async def stranded(
    make_node: MakeNode, api: KubeClient, kube: FakeKube, store: ObjectStore, folder: Path
) -> AsyncIterator[Stranded]:
    here, there = make_node("node-a"), make_node("node-b")
    old = here.pod("train-0", owner=OWNER)
    async with StartingAgent(api, store, here.settings).at_work() as first:
        checkpoint = await move_away(first, old, kube, store)
    ask_for_more(folder)
    spec = OrderSpec(
        pod=old.name,
        pod_uid=old.uid,
        node=here.name,
        containers=("main",),
        workload="sts-train-0",
        trigger=Trigger.SPOT_INTERRUPTION,
    )
    body = render_order(Order(namespace=NAMESPACE, name="order-1", spec=spec))
    kube.put(CHECKPOINTS, {**body, "status": {"phase": "Complete", "checkpoint": checkpoint}})
    settings = replace(there.settings, agent=replace(there.settings.agent, move_wait_s=2.0))
    async with StartingAgent(api, store, settings).at_work() as second:
        yield Stranded(there, second, kube, folder)


async def test_a_pod_that_came_to_the_wrong_node_asks_to_be_moved_and_begins_nothing(stranded: Stranded) -> None:
    pod, job = await stranded.come()
    assert "avx9000" in await hears(stranded.kube, pod, "DoesNotFit")
    await FakeKube.until(lambda: stranded.order().status.misfit)
    assert stranded.order().status.misfit == f"{NAMESPACE}/train-0/{pod.uid}"
    assert stranded.order().status.phase is OrderPhase.COMPLETE
    assert job.phase() is JobPhase.WAITING
    job.signal(signal.SIGTERM)  # it is evicted
    assert await ends(job) == 128 + signal.SIGTERM
    assert not job.stdout.whole()
    assert "ColdStart" not in events_of(stranded.kube, pod)
    assert not records(stranded.folder, "claim.json")
    assert not records(stranded.folder, "quarantine.json")


async def test_a_pod_that_nobody_moves_starts_from_its_beginning(stranded: Stranded) -> None:
    pod, job = await stranded.come()
    await prove_afresh(job)
    assert "nobody has moved the pod" in await hears(stranded.kube, pod, "ColdStart")
    await FakeKube.until(lambda: stranded.order().status.phase is OrderPhase.FAILED)  # so nobody moves it later
    assert not records(stranded.folder, "quarantine.json")


async def test_no_move_is_asked_for_by_an_order_in_a_phase_of_a_later_release(stranded: Stranded) -> None:
    changes = {"status": {"phase": "Melting"}}
    stranded.kube.update(CHECKPOINTS, "order-1", changes, namespace=NAMESPACE)
    pod, job = await stranded.come()
    await prove_afresh(job)
    await hears(stranded.kube, pod, "ColdStart")
    assert (stranded.order().status.phase, stranded.order().status.misfit) == ("Melting", "")


async def test_a_pod_that_is_being_ended_when_nobody_has_moved_it_begins_nothing(stranded: Stranded) -> None:
    pod, job = await stranded.come()
    await FakeKube.until(lambda: stranded.order().status.misfit)
    stranded.kube.update(
        PODS, pod.name, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, namespace=NAMESPACE
    )
    asked = len(stranded.kube.seen("get", "pods"))
    await FakeKube.until(lambda: len(stranded.kube.seen("get", "pods")) > asked)  # a preStop hook runs meanwhile
    assert job.phase() is JobPhase.WAITING
    job.signal(signal.SIGTERM)
    assert await ends(job) == 128 + signal.SIGTERM
    assert "ColdStart" not in events_of(stranded.kube, pod)


async def test_a_pod_whose_predecessor_was_moved_is_not_moved_again(stranded: Stranded) -> None:
    raw = stranded.kube.get(CHECKPOINTS, "order-1", namespace=NAMESPACE)
    assert raw is not None
    stranded.kube.update(
        CHECKPOINTS, "order-1", {"status": {"misfit": f"{NAMESPACE}/train-0/another"}}, namespace=NAMESPACE
    )
    pod, job = await stranded.come()
    await prove_afresh(job)
    assert "avx9000" in await hears(stranded.kube, pod, "DoesNotFit")
    await hears(stranded.kube, pod, "RestoreFailed")
    assert stranded.order().status.misfit == f"{NAMESPACE}/train-0/another"


async def test_a_pod_that_is_to_start_where_it_is_does_so_at_once(stranded: Stranded) -> None:
    pod, job = await stranded.come(annotations={names.MISFIT: "start"})
    await prove_afresh(job)
    await hears(stranded.kube, pod, "DoesNotFit")
    assert not stranded.order().status.misfit


async def test_a_pod_that_is_not_to_start_afresh_fails_when_nobody_moves_it(stranded: Stranded) -> None:
    pod, job = await stranded.come(annotations={names.RESTORE_FAILURE: "fail"})
    assert await ends(job) == 128 + signal.SIGTERM
    await hears(stranded.kube, pod, "RestoreFailed")
    assert not job.stdout.whole()
