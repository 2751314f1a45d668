"""What the status page is made of: notices of every source, pods that have opted in, what agents said last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crikpy import names
from crikpy.aio.tasks import stop
from crikpy.controller.paging import Outlook
from crikpy.controller.sighting import Sight
from crikpy.kube.client import KubeClient
from crikpy.kube.resources import CHECKPOINTS, EVENTS, NODES, PODS
from crikpy.metrics import Metrics
from crikpy.model.notices import Trigger
from crikpy.model.orders import OrderPhase
from crikpy.page.facts import Facts
from crikpy.settings import Settings
from tests.controller.objects import notice_in, now_and, raw_node, raw_pod
from tests.fakes.kube import FakeKube
from tests.page.story import Teller


@pytest.fixture
async def kube() -> AsyncIterator[FakeKube]:
    async with FakeKube().serving() as kube:
        yield kube


@pytest.fixture
async def outlook(kube: FakeKube, tmp_path: Path) -> AsyncIterator[Outlook]:
    """An outlook that is kept current."""
    settings = Settings(kube=kube.settings(tmp_path))
    metrics = Metrics()
    async with await KubeClient.connect(settings.kube) as api:
        sight = Sight(api, metrics)
        outlook = Outlook(api, settings, sight, metrics)
        assert outlook.facts() is None, "an empty mirror means nothing"
        tasks = [asyncio.create_task(sight.run()), asyncio.create_task(outlook.run())]
        yield outlook
        for task in tasks:
            await stop(task)


async def seen(kube: FakeKube, outlook: Outlook) -> Facts:
    """Return the facts once there are any."""
    await kube.until(outlook.facts)
    facts = outlook.facts()
    assert facts is not None
    return facts


async def test_every_notice_is_shown_also_what_lies_ahead_but_not_what_was_outlived(
    kube: FakeKube, outlook: Outlook
) -> None:
    kube.put(NODES, raw_node("spot", notice_in(90)))
    kube.put(NODES, raw_node("ahead", notice_in(6 * 86400, trigger=Trigger.SCHEDULED_EVENT)))
    past = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    kube.put(NODES, raw_node("outlived", notice_in(-3600), lastTransitionTime=past))
    tainted = raw_node("karpenter")
    tainted["spec"]["taints"] = [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]
    kube.put(NODES, tainted)
    kube.put(NODES, raw_node("quiet"))
    await kube.until(lambda: (facts := outlook.facts()) is not None and len(facts.nodes) == 5)
    facts = await seen(kube, outlook)
    assert {name: notice.trigger for name, notice in facts.notices.items()} == {
        "spot": Trigger.SPOT_INTERRUPTION,
        "ahead": Trigger.SCHEDULED_EVENT,
        "karpenter": Trigger.DRAIN,
    }


async def test_pods_that_have_not_opted_in_are_left_out(kube: FakeKube, outlook: Outlook) -> None:
    kube.put(PODS, raw_pod("ours"))
    for name, notes in (("stranger", {}), ("neighbour", {names.GROUP: "g"})):
        other = raw_pod(name)
        other["metadata"]["annotations"] = notes
        kube.put(PODS, other)
    await kube.until(lambda: (facts := outlook.facts()) is not None and facts.pods)
    assert [pod.name for pod in (await seen(kube, outlook)).pods] == ["ours"]


async def test_the_newest_word_of_an_agent_counts(kube: FakeKube, outlook: Outlook) -> None:
    for reason, ago_s in (("CannotBeSaved", -60.0), ("CanBeSaved", -30.0)):
        for uid in ("cured", *(("ill",) if reason == "CannotBeSaved" else ())):
            event = {
                "metadata": {"name": f"{uid}.{reason.lower()}", "namespace": "default"},
                "involvedObject": {"kind": "Pod", "name": uid, "namespace": "default", "uid": uid},
                "reason": reason,
                "message": f"{uid} is odd",
                "lastTimestamp": now_and(ago_s).isoformat(),
            }
            kube.put(EVENTS, event)
    await kube.until(lambda: (facts := outlook.facts()) is not None and facts.refusals == {"ill": "ill is odd"})


async def test_what_is_being_deleted_orders_nothing_and_is_not_shown(kube: FakeKube, outlook: Outlook) -> None:
    story = Teller(kube=kube)
    kept = story.order("default/a-0", "n1", OrderPhase.COMPLETE, when=story.now)
    gone = story.order("default/b-0", "n1", OrderPhase.COMPLETE, when=story.now)
    kube.update(
        CHECKPOINTS,
        gone.name,
        {"metadata": {"deletionTimestamp": story.now.isoformat()}},
        namespace="default",
    )
    await kube.until(lambda: (facts := outlook.facts()) is not None and facts.orders)
    assert [order.name for order in (await seen(kube, outlook)).orders] == [kept.name]
