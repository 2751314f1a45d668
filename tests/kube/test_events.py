"""Events arrive, are counted instead of repeated, and never trouble whoever tells them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest

from crikpy.aio.tasks import stop
from crikpy.kube.backoff import Backoff
from crikpy.kube.client import KubeClient
from crikpy.kube.events import EventRecorder, Reference
from crikpy.kube.resources import EVENTS
from crikpy.model.nodes import Node
from crikpy.model.notices import Trigger
from crikpy.model.orders import Order, OrderSpec
from crikpy.model.pods import Pod
from tests.fakes.kube import FakeKube

POD = Reference.of_pod(Pod(namespace="ns", name="p", uid="u1", resource_version="7"))
NODE = Reference.of_node(Node(name="n1", uid="u2"))


@contextlib.asynccontextmanager
async def recording(api: KubeClient) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(
        api, component="crikpy-agent", host="n1", backoff=Backoff(first_s=0.01, longest_s=0.05)
    )
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
        assert not task.done(), "the recorder ended by itself"
    finally:
        await stop(task)


def written(kube: FakeKube) -> list[tuple[Any, ...]]:
    return sorted((event["reason"], event["message"], event["count"]) for event in kube.all(EVENTS))


async def test_a_long_name_makes_a_valid_one_for_its_event(kube: FakeKube, api: KubeClient) -> None:
    long = Reference(api_version="v1", kind="Pod", namespace="ns", name=f"{'a' * 199}-{'b' * 50}", uid="u1")
    async with recording(api) as recorder:
        recorder.tell(long, "Restored", "It goes on.")
        await kube.until(lambda: kube.all(EVENTS))
    (event,) = kube.all(EVENTS)
    assert re.fullmatch(r"a{199}\.[0-9a-f]{16}", event["metadata"]["name"])


async def test_an_event_says_who_saw_what_of_which_object(kube: FakeKube, api: KubeClient) -> None:
    async with recording(api) as recorder:
        recorder.tell(POD, "CheckpointFailed", "It did not work.", warning=True)
        await kube.until(lambda: kube.all(EVENTS))
    (event,) = kube.all(EVENTS)
    assert event["metadata"]["namespace"] == "ns"
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "ns",
        "name": "p",
        "uid": "u1",
        "resourceVersion": "7",
    }
    assert (event["type"], event["reason"], event["message"]) == (
        "Warning",
        "CheckpointFailed",
        "It did not work.",
    )
    assert event["source"] == {"component": "crikpy-agent", "host": "n1"}
    assert event["reportingComponent"] == "crikpy.io/agent"
    first = datetime.fromisoformat(event["firstTimestamp"])
    assert first.tzinfo is not None
    assert first.microsecond == 0


async def test_events_of_nodes_go_to_the_default_namespace(kube: FakeKube, api: KubeClient) -> None:
    async with recording(api) as recorder:
        recorder.tell(NODE, "InterruptionNotice", "It goes away.")
        await kube.until(lambda: kube.all(EVENTS))
    (event,) = kube.all(EVENTS)
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["involvedObject"]
    assert event["type"] == "Normal"


def test_an_order_is_referred_to_as_what_it_is() -> None:
    order_spec = OrderSpec(pod="p", pod_uid="u", node="n", containers=("c",), workload="w", trigger=Trigger.MANUAL)
    reference = Reference.of_order(Order(namespace="ns", name="o", uid="u3", spec=order_spec))
    assert (reference.api_version, reference.kind) == ("crikpy.io/v1alpha1", "Checkpoint")
    assert (reference.namespace, reference.name, reference.uid) == ("ns", "o", "u3")


async def test_the_same_again_is_counted_and_anything_else_is_another(kube: FakeKube, api: KubeClient) -> None:
    async with recording(api) as recorder:
        for _ in range(5):
            recorder.tell(POD, "A", "one")
        recorder.tell(POD, "A", "two")
        recorder.tell(POD, "B", "one")
        recorder.tell(NODE, "A", "one")
        await kube.until(lambda: len(kube.all(EVENTS)) == 4)
    assert written(kube) == [("A", "one", 1), ("A", "one", 5), ("A", "two", 1), ("B", "one", 1)]


async def test_an_event_that_was_deleted_is_made_anew(kube: FakeKube, api: KubeClient) -> None:
    async with recording(api) as recorder:
        recorder.tell(POD, "A", "one")
        await kube.until(lambda: kube.all(EVENTS))
        (event,) = kube.all(EVENTS)
        kube.remove(EVENTS, event["metadata"]["name"], namespace="ns")
        recorder.tell(POD, "A", "one")
        await kube.until(lambda: kube.all(EVENTS))
    assert written(kube) == [("A", "one", 1)]


@pytest.mark.parametrize("trouble", ["503", "429", "reset", "lose"])
async def test_an_outage_loses_and_repeats_nothing(
    kube: FakeKube, api: KubeClient, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="crikpy")
    kube.trouble(trouble, times=4)
    async with recording(api) as recorder:
        for number in range(3):
            recorder.tell(POD, "A", str(number))
            recorder.tell(POD, "A", str(number))
        await kube.until(lambda: [count for _, _, count in written(kube)] == [2, 2, 2])
    assert [message for _, message, _ in written(kube)] == ["0", "1", "2"]
    assert caplog.text == ""  # nothing was left to write


async def test_a_refused_event_hinders_no_other(
    kube: FakeKube, api: KubeClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="crikpy")
    kube.trouble("403", times=1)
    async with recording(api) as recorder:
        recorder.tell(POD, "A", "refused")
        recorder.tell(POD, "B", "taken")
        await kube.until(lambda: written(kube) == [("B", "taken", 1)])
    assert "event A of p is not wanted" in caplog.text


async def test_telling_goes_on_when_nobody_listens_and_the_newest_are_kept(
    kube: FakeKube, api: KubeClient, caplog: pytest.LogCaptureFixture
) -> None:
    await kube.stop()
    async with recording(api) as recorder:
        for number in range(1500):
            recorder.tell(POD, "A", f"{number:04}")
        await asyncio.sleep(0.1)
        await kube.start()
        await kube.until(lambda: len(kube.all(EVENTS)) >= 1000)
    assert {message for _, message, _ in written(kube)} == {f"{number:04}" for number in range(500, 1500)}
    assert caplog.text.count("events are lost") == 1


async def test_what_is_told_last_is_still_written(kube: FakeKube, api: KubeClient) -> None:
    async with recording(api) as recorder:
        await asyncio.sleep(0)
        for number in range(10):
            recorder.tell(POD, "A", str(number))
    assert len(kube.all(EVENTS)) == 10


async def test_the_end_waits_for_no_dead_server(kube: FakeKube, api: KubeClient) -> None:
    kube.trouble("stall")
    async with asyncio.timeout(20), recording(api) as recorder:
        recorder.tell(POD, "A", "one")
        await kube.stalling.wait()


async def test_long_words_are_cut(kube: FakeKube, api: KubeClient) -> None:
    async with recording(api) as recorder:
        long = Reference(api_version="v1", kind="Pod", namespace="ns", name="p" * 253, uid="u")
        recorder.tell(long, "A", "x" * 5000)
        await kube.until(lambda: kube.all(EVENTS))
    (event,) = kube.all(EVENTS)
    assert len(event["message"]) == 1024
    assert len(event["metadata"]["name"]) <= 253
