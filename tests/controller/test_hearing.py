"""News from outside of the cluster against an API server: what is written on the node, and what is answered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crikpy.aio.tasks import stop
from crikpy.controller.hearing import NewsDesk
from crikpy.controller.rounds import Rounds
from crikpy.controller.sighting import Sight
from crikpy.ec2.sources import Taken
from crikpy.errors import KubeUnavailableError
from crikpy.kube.client import KubeClient
from crikpy.kube.events import EventRecorder
from crikpy.kube.nodes import parse_node
from crikpy.kube.resources import CHECKPOINTS, EVENTS, NODES, PODS
from crikpy.metrics import Metrics
from crikpy.model.nodes import Node
from crikpy.model.notices import InterruptionNotice, Trigger, Withdrawn
from crikpy.model.orders import OrderPhase
from crikpy.settings import Settings
from tests.controller.objects import announce, answer, notice_in, raw_node, raw_pod
from tests.fakes.kube import FakeKube

INSTANCE = "i-0123456789abcdef0"


def heard(id: str = "queue-1", *, seconds: float | None = 120, **changes: Any) -> InterruptionNotice:  # noqa: A002
    """Return what a queue tells of the node."""
    return replace(notice_in(seconds), id=id, source="queue:spot", instance=INSTANCE, **changes)


class Office:
    """A leader's desk and the API server behind it."""

    def __init__(self, kube: FakeKube, api: KubeClient, settings: Settings) -> None:
        self.kube = kube
        self.metrics = Metrics()
        self.sight = Sight(api, self.metrics)
        self.recorder = EventRecorder(api, component="crikpy-controller", host="test")
        self.rounds = Rounds(api, settings, self.recorder, self.metrics, sight=self.sight)
        self.desk = NewsDesk(api, self.sight, self.rounds.view, self.recorder, self.metrics)

    def node(self, name: str = "n1") -> Node:
        found = self.kube.get(NODES, name)
        assert found is not None
        return parse_node(found)

    def seen(self) -> Node:
        """Return the node as our own mirror shows it."""
        found = self.sight.node_of(INSTANCE)
        assert found is not None
        return found

    async def until_clear(self) -> None:
        """Wait until nothing waits on the machine."""
        async with asyncio.timeout(10):
            while not await self.desk.is_clear(INSTANCE):  # noqa: ASYNC110 - a desk tells nobody
                await asyncio.sleep(0.02)

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until something that our own mirrors show is true."""
        async with asyncio.timeout(10):
            while not true():  # noqa: ASYNC110 - a mirror tells nobody
                await asyncio.sleep(0.01)

    async def begin(self, stack: contextlib.AsyncExitStack) -> None:
        for act in (self.recorder.run(), self.sight.run(), self.rounds.run()):
            stack.push_async_callback(stop, asyncio.create_task(act))
        await self.until(lambda: self.rounds.view() is not None)


def a_machine(name: str = "n1", instance: str = INSTANCE) -> dict[str, Any]:
    """Return a node that is an EC2 instance."""
    raw = raw_node(name)
    raw["spec"]["providerID"] = f"aws:///eu-test-1a/{instance}"
    return raw


@pytest.fixture
async def quiet_office(tmp_path: Path) -> AsyncIterator[Office]:
    async with contextlib.AsyncExitStack() as stack:
        kube = await stack.enter_async_context(FakeKube().serving())
        kube.put(NODES, a_machine())
        kube.put(NODES, a_machine("n2", "i-0fedcba9876543210"))
        settings = Settings(kube=kube.settings(tmp_path))
        api = await stack.enter_async_context(await KubeClient.connect(settings.kube))
        yield Office(kube, api, settings)


@pytest.fixture
async def office(quiet_office: Office) -> AsyncIterator[Office]:
    async with contextlib.AsyncExitStack() as stack:
        await quiet_office.begin(stack)
        yield quiet_office


async def test_news_are_written_on_the_node_and_lead_to_orders(office: Office) -> None:
    office.kube.put(PODS, raw_pod())
    notice = heard()
    assert await office.desk.take(notice) is Taken.ACTED
    (kept,) = office.node().reported
    assert (kept.id, kept.trigger, kept.source) == ("queue-1", Trigger.SPOT_INTERRUPTION, "queue:spot")
    assert office.node("n2").reported == ()
    await office.kube.until(lambda: office.kube.all(CHECKPOINTS))
    (order,) = office.kube.all(CHECKPOINTS)
    assert order["spec"]["notice"] == "queue-1"
    await office.kube.until(lambda: "InterruptionNotice" in {event["reason"] for event in office.kube.all(EVENTS)})
    await office.kube.until(lambda: office.node().unschedulable)
    assert 'crikpy_source_notices_total{outcome="acted",source="queue"} 1.0' in office.metrics.render()
    assert "crikpy_notice_to_order_seconds_count 1.0" in office.metrics.render()


async def test_the_same_news_again_change_nothing(office: Office) -> None:
    assert await office.desk.take(heard()) is Taken.ACTED
    assert await office.desk.take(heard()) is Taken.KNOWN
    assert await office.desk.take(heard("another-id", seconds=125)) is Taken.KNOWN
    assert len(office.node().reported) == 1


async def test_what_the_agent_has_published_is_known(office: Office) -> None:
    announce(office.kube, "n1", notice_in(120))
    assert await office.desk.take(heard()) is Taken.KNOWN
    assert office.node().reported == ()


async def test_an_agent_that_hears_it_later_causes_no_second_order(office: Office) -> None:
    office.kube.put(PODS, raw_pod())
    await office.desk.take(heard())
    await office.kube.until(lambda: office.kube.all(CHECKPOINTS))
    announce(office.kube, "n1", notice_in(119))
    await office.until(lambda: office.seen().notice)
    await office.kube.until(lambda: office.node().unschedulable)
    await asyncio.sleep(0.5)
    assert len(office.kube.all(CHECKPOINTS)) == 1
    assert dict(office.node().annotations) == {"crikpy.io/cordoned-for": "queue-1"}


async def test_a_time_that_becomes_known_joins_the_event_under_its_first_name(office: Office) -> None:
    hook = heard("hook", seconds=None, trigger=Trigger.NODE_SHUTDOWN)
    assert await office.desk.take(hook) is Taken.ACTED
    ended = heard("state", seconds=-1, trigger=Trigger.NODE_SHUTDOWN)
    assert await office.desk.take(ended) is Taken.ACTED
    (kept,) = office.node().reported
    assert kept.id == "hook"
    assert kept.deadline is not None


async def test_events_of_several_kinds_stand_side_by_side(office: Office) -> None:
    maintenance = heard("health", seconds=86400, trigger=Trigger.SCHEDULED_EVENT)
    await office.desk.take(maintenance)
    await office.desk.take(heard())
    assert [notice.id for notice in office.node().reported] == ["health", "queue-1"]
    assert await office.desk.take(Withdrawn(notice=maintenance)) is Taken.ACTED
    assert await office.desk.take(Withdrawn(notice=maintenance)) is Taken.KNOWN
    assert [notice.id for notice in office.node().reported] == ["queue-1"]


async def test_a_machine_of_somebody_else_is_foreign(office: Office) -> None:
    assert await office.desk.take(replace(heard(), instance="i-00000000000000000")) is Taken.FOREIGN
    assert await office.desk.is_clear("i-00000000000000000")


async def test_before_the_cluster_is_in_sight_nobody_is_foreign(quiet_office: Office) -> None:
    with pytest.raises(KubeUnavailableError):
        await quiet_office.desk.take(heard())
    with pytest.raises(KubeUnavailableError):
        await quiet_office.desk.is_clear(INSTANCE)
    assert 'crikpy_source_notices_total{outcome="failed",source="queue"} 1.0' in quiet_office.metrics.render()


async def test_a_machine_is_clear_once_its_pods_are_saved_and_gone(office: Office) -> None:
    office.kube.put(PODS, raw_pod())
    office.kube.put(PODS, raw_pod("bystander", injected=""))
    await office.until(lambda: office.sight.complete and (view := office.rounds.view()) and len(view.pods) == 2)
    assert await office.desk.is_clear(INSTANCE)
    await office.desk.take(heard("hook", seconds=None, trigger=Trigger.NODE_SHUTDOWN))
    assert not await office.desk.is_clear(INSTANCE)
    await office.kube.until(lambda: office.kube.all(CHECKPOINTS))
    assert not await office.desk.is_clear(INSTANCE)
    answer(office.kube, office.kube.all(CHECKPOINTS)[0], OrderPhase.COMPLETE)
    assert not await office.desk.is_clear(INSTANCE)
    await office.kube.until(lambda: "deletionTimestamp" in (office.kube.get(PODS, "a") or {})["metadata"])
    ended = office.kube.get(PODS, "a")
    assert ended is not None
    office.kube.put(PODS, {**ended, "status": {**ended["status"], "phase": "Failed"}})
    await office.until(lambda: (view := office.rounds.view()) and any(pod.over for pod in view.pods.values()))
    assert not await office.desk.is_clear(INSTANCE)
    office.kube.remove(PODS, "a")
    await office.until_clear()


async def test_a_pod_that_could_not_be_saved_holds_no_machine(office: Office) -> None:
    office.kube.put(PODS, raw_pod())
    await office.desk.take(heard("hook", seconds=None, trigger=Trigger.NODE_SHUTDOWN))
    await office.kube.until(lambda: office.kube.all(CHECKPOINTS))
    answer(office.kube, office.kube.all(CHECKPOINTS)[0], OrderPhase.FAILED, reason="DumpFailed")
    await office.until_clear()
