"""Whether a node can save is found out, told where people look, and told again only when it changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from crikpy import names
from crikpy.agent.readiness import Readiness, look
from crikpy.agent.reporting import Teller
from crikpy.aio.clock import Deadline
from crikpy.kube.client import KubeClient
from crikpy.kube.events import EventRecorder
from crikpy.kube.resources import EVENTS, NODES
from crikpy.metrics import Metrics
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.local import LocalStore
from tests.agent.cluster import NODE, condition, events, put_node, running
from tests.fakes.kube import FakeKube


@pytest.fixture
def able(machine: Settings) -> Settings:
    """Settings of a machine on which jobs can be saved."""
    return machine


@pytest.mark.criu
def test_a_machine_with_everything_can_save(able: Settings, store: ObjectStore) -> None:
    found = look(able, store, Deadline.after(30))
    assert (found.able, found.reason) == (True, "CanSave"), found.message
    assert store.url in found.message


@pytest.mark.criu
def test_a_machine_without_criu_says_what_is_missing_and_what_to_do(able: Settings, store: ObjectStore) -> None:
    without = replace(able, criu=replace(able.criu, bundle=Path("/nowhere")))
    found = look(without, store, Deadline.after(30))
    assert (found.able, found.reason) == (False, "NodeNotReady")
    assert "criu" in found.message
    assert "(" in found.message


@pytest.mark.criu
def test_a_store_that_is_not_there_is_the_first_thing_said(able: Settings, folder: Path) -> None:
    (folder / "file").touch()
    found = look(able, LocalStore(folder / "file"), Deadline.after(30))
    assert (found.able, found.reason) == (False, "NoSuchBucket")
    assert str(folder / "file") in found.message


@pytest.fixture
async def telling(kube: FakeKube, api: KubeClient) -> AsyncIterator[tuple[Teller, Metrics]]:
    put_node(kube)
    metrics = Metrics()
    recorder = EventRecorder(api, component="crikpy-agent", host=NODE)
    teller = Teller(api, recorder, metrics, node=NODE)
    async with running(teller.run(), recorder.run()):
        yield teller, metrics


@pytest.mark.criu
async def test_condition_label_probe_and_metric_say_the_same_and_change_together(
    able: Settings, folder: Path, kube: FakeKube, telling: tuple[Teller, Metrics]
) -> None:
    teller, metrics = telling
    (folder / "store").touch()
    readiness = Readiness(LocalStore(folder / "store"), teller, metrics, able, again_s=0.1)
    assert readiness.complaint() == "this node has not been looked at yet"
    async with running(readiness.run()):
        await kube.until(lambda: condition(kube, names.CONDITION_READY))
        found = condition(kube, names.CONDITION_READY)
        assert found is not None
        assert (found["status"], found["reason"]) == ("False", "NoSuchBucket")
        assert readiness.complaint() == found["message"]
        assert metrics.registry.get_sample_value("crikpy_node_ready") == 0
        await kube.until(lambda: events(kube, NODE))
        looks = len(kube.seen("patch", "nodes", subresource="status"))
        await kube.until(lambda: len(kube.seen("patch", "nodes", subresource="status")) > looks + 2)
        (folder / "store").unlink()
        (folder / "store").mkdir()
        await kube.until(lambda: (condition(kube, names.CONDITION_READY) or {})["status"] == "True")
        await kube.until(lambda: len(events(kube, NODE)) == 2)
    node = kube.get(NODES, NODE)
    assert node is not None
    assert node["metadata"]["labels"] == {names.LABEL_READY: "true"}
    assert readiness.complaint() is None
    assert metrics.registry.get_sample_value("crikpy_node_ready") == 1
    assert {event["count"] for event in kube.all(EVENTS)} == {1}
    assert events(kube, NODE) == [("Warning", "NodeCannotSave"), ("Normal", "NodeCanSave")]
