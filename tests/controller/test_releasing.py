"""The end of Checkpoint objects at the API server: each act is done to the very object that was meant."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crikpy import names
from crikpy.controller.releasing import Releases
from crikpy.errors import KubeConflictError
from crikpy.kube.client import KubeClient
from crikpy.kube.events import EventRecorder
from crikpy.kube.orders import parse_order, render_order
from crikpy.kube.resources import CHECKPOINTS, EVENTS
from crikpy.model.orders import Order
from tests.agent.cluster import running
from tests.controller.clusters import an_order
from tests.fakes.kube import FakeKube


class Stage:
    """The acts, and the API server on which they are done."""

    def __init__(self, kube: FakeKube, api: KubeClient, recorder: EventRecorder) -> None:
        self.kube = kube
        self.api = api
        self.recorder = recorder
        self.acts = Releases(api, recorder)

    def order(self, *finalizers: str) -> Order:
        """Put an object on the stage, with our finalizer and perhaps others."""
        raw = render_order(an_order().order)
        raw["metadata"]["finalizers"] += finalizers
        return parse_order(self.kube.put(CHECKPOINTS, raw | {"status": {"phase": "Pending"}}))

    async def delete(self, order: Order) -> None:
        """Ask for its deletion, as kubectl does."""
        await self.api.delete(CHECKPOINTS, order.name, namespace=order.namespace)

    def found(self, order: Order) -> dict[str, Any] | None:
        """Return the object as it is now."""
        return self.kube.get(CHECKPOINTS, order.name, namespace=order.namespace)

    def finalizers(self, order: Order) -> list[str]:
        """Return what keeps it."""
        found = self.found(order)
        assert found is not None
        return list(found["metadata"].get("finalizers", []))


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with contextlib.AsyncExitStack() as stack:
        kube = await stack.enter_async_context(FakeKube().serving())
        api = await stack.enter_async_context(await KubeClient.connect(kube.settings(tmp_path)))
        yield Stage(kube, api, EventRecorder(api, component="crikpy-controller", host=""))


async def test_a_deleted_object_stays_until_it_is_released(stage: Stage) -> None:
    order = stage.order()
    await stage.delete(order)
    found = stage.found(order)
    assert found is not None
    assert parse_order(found).deleted is not None
    await stage.acts.release(order)
    assert stage.found(order) is None


async def test_finalizers_of_others_stay(stage: Stage) -> None:
    order = stage.order("example.org/theirs")
    await stage.delete(order)
    await stage.acts.release(order)
    assert stage.finalizers(order) == ["example.org/theirs"]


async def test_the_node_that_is_to_clear_the_store_is_named(stage: Stage) -> None:
    order = stage.order()
    await stage.acts.discard_on(order, "n7")
    found = stage.found(order)
    assert found is not None
    assert found["metadata"]["labels"][names.LABEL_DISCARD_ON] == "n7"


async def test_an_object_that_was_made_anew_is_another(stage: Stage) -> None:
    order = replace(stage.order(), uid="of the one before")
    await stage.acts.release(order)
    assert stage.finalizers(order) == [names.FINALIZER]
    with pytest.raises(KubeConflictError):
        await stage.acts.discard_on(order, "n7")


async def test_one_without_our_finalizer_gets_it_once(stage: Stage) -> None:
    order = stage.order("example.org/theirs")
    await stage.acts.release(order)
    await stage.acts.keep(order)
    await stage.acts.keep(order)
    assert sorted(stage.finalizers(order)) == [names.FINALIZER, "example.org/theirs"]


async def test_an_object_that_has_served_its_time_is_deleted_at_once(stage: Stage) -> None:
    order = stage.order()
    await stage.acts.delete(order)
    assert stage.found(order) is None


async def test_what_is_gone_is_gone(stage: Stage) -> None:
    order = stage.order()
    await stage.acts.delete(order)
    await stage.acts.release(order)
    await stage.acts.keep(order)
    await stage.acts.discard_on(order, "n7")
    await stage.acts.delete(order)


async def test_people_are_told_when_something_may_be_left_in_the_store(stage: Stage) -> None:
    order = stage.order()
    await stage.acts.release(order, "no agent has removed it")
    async with running(stage.recorder.run()):
        await stage.kube.until(lambda: stage.kube.all(EVENTS))
    assert [event["reason"] for event in stage.kube.all(EVENTS)] == ["CheckpointLeft"]
