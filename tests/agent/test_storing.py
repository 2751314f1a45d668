"""A job that runs on while what was read of it is being stored: what comes meanwhile does not wait for that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from crikpy import names
from crikpy.model.notices import Trigger
from crikpy.model.orders import OrderPhase
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from tests.agent.node import FakeNode, NodePod
from tests.agent.whole import Desk, at_work, checkpoints_of, ends, proves, runs, settings_of, stands_still, until
from tests.fakes.imds import FakeImds
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu

TERMINATED = 143


@pytest.fixture
def desk(kube: FakeKube) -> Desk:
    return Desk(kube)


@pytest.fixture
async def imds() -> AsyncIterator[FakeImds]:
    async with FakeImds().serving() as service:
        yield service


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def slow(settings: Settings) -> Settings:
    """Return settings by which storing a few MiB takes longer than any test."""
    return replace(settings, store=replace(settings.store, upload_bytes_per_s=64 << 10))


def in_time() -> datetime:
    """Return a deadline that storing meets even so."""
    return datetime.now(UTC) + timedelta(hours=1)


async def is_stored(desk: Desk, pod: NodePod, caplog: pytest.LogCaptureFixture) -> str:
    """Order a checkpoint and wait until the job runs on; return the order's name."""
    name = desk.order(pod, "periodic", leave_running=True, trigger=Trigger.INTERVAL, deadline=in_time())
    await until(lambda: "runs on while it is stored" in caplog.text, "the job going on early")
    await proves(pod.jobs["main"])
    return name


async def test_a_pod_that_somebody_deletes_meanwhile_gets_its_sigterm(
    node: FakeNode, store: ObjectStore, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    pod = node.pod(job=("memory", 16, 1))
    async with at_work(slow(settings_of(node)), store):
        await runs(pod)
        await is_stored(desk, pod, caplog)
        desk.terminate(pod)
        assert await ends(pod.jobs["main"]) == TERMINATED


async def test_a_notice_overtakes_it_also_when_another_checkpoint_waits_already(
    node: FakeNode, store: ObjectStore, desk: Desk, imds: FakeImds, caplog: pytest.LogCaptureFixture
) -> None:
    pod = node.pod(job=("memory", 16, 1), annotations={names.ON_REBALANCE: "checkpoint"})
    async with at_work(slow(settings_of(node, imds, spare_s=600.0)), store):
        await runs(pod)
        name = await is_stored(desk, pod, caplog)
        desk.order(
            pod, "another", leave_running=True, trigger=Trigger.REBALANCE_RECOMMENDATION, deadline=in_time()
        )
        await asyncio.sleep(1)  # nobody tells that it waits
        imds.spot(in_s=60)
        first = await desk.reaches(name, OrderPhase.COMPLETE)
        await until(lambda: stands_still(pod.jobs["main"]), "the job saved for good")
        await until(lambda: len(checkpoints_of(store)) == 2, "its last checkpoint")
        desk.terminate(pod, disruption="EvictionByEvictionAPI")
        assert await ends(pod.jobs["main"]) == 75
    assert first.checkpoint in checkpoints_of(store)
