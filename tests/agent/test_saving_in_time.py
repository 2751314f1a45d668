"""More to be saved than there is time for: what matters most is saved, the rest runs on and its owner knows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from crikpy import names
from crikpy.kube.resources import EVENTS
from crikpy.model.notices import Trigger
from crikpy.model.orders import OrderPhase
from crikpy.settings import MIB
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints, list_workloads
from tests.agent.node import FakeNode, NodePod
from tests.agent.whole import Desk, at_work, checkpoints_of, ends, proves, runs, settings_of, stands_still, until
from tests.fakes.imds import SPOT, FakeImds
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu


@pytest.fixture
def desk(kube: FakeKube) -> Desk:
    return Desk(kube)


@pytest.fixture
async def imds() -> AsyncIterator[FakeImds]:
    async with FakeImds().serving() as service:
        yield service


def told(desk: Desk, about: str, reason: str) -> str:
    """Return the message of an event, or nothing as long as there is none."""
    found = [
        event["message"]
        for event in desk.kube.all(EVENTS)
        if (event["involvedObject"]["name"], event["reason"]) == (about, reason)
    ]
    return str(found[0]) if found else ""


def a_pod(node: FakeNode, name: str, mib: int, priority: int) -> NodePod:
    """Return a pod whose job holds so much memory."""
    return node.pod(name, job=("memory", mib, 1), annotations={names.PRIORITY: str(priority)})


async def test_what_does_not_fit_into_the_time_runs_on_and_nothing_of_it_is_dumped(
    node: FakeNode, store: ObjectStore, desk: Desk, imds: FakeImds
) -> None:
    dear, large = a_pod(node, "dear", 8, 1), a_pod(node, "large", 256, 9)
    # At best eight times as fast: 256 MiB take longer than the 24 s that the notice leaves.
    async with at_work(settings_of(node, imds, spare_s=600.0, assumed_bytes_per_s=MIB), store):
        await asyncio.gather(runs(dear), runs(large))
        imds.spot(at=f"{datetime.now(UTC) + timedelta(seconds=27):%Y-%m-%dT%H:%M:%SZ}")
        await until(lambda: stands_still(dear.jobs["main"]), "the saved job")
        await until(lambda: told(desk, "large", "NotSavedInTime"), "that the other is not saved")
        assert "runs on; no checkpoint of it is known here" in told(desk, "large", "NotSavedInTime")
        await until(lambda: "MiB in about" in told(desk, "dear", "SavePlanned"), "what was planned")
        await until(lambda: "1 in time, 1 not in time" in told(desk, node.name, "SavePlan"), "the node's plan")
        await proves(large.jobs["main"])
        imds.put(SPOT, None)
        await proves(dear.jobs["main"])
        await proves(large.jobs["main"])
    [workload] = list_workloads(store)
    assert "dear" in str(workload)
    assert len(Checkpoints(store, workload).list()) == len(checkpoints_of(store)) == 1


async def test_a_notice_hastens_a_periodic_checkpoint_that_is_still_being_stored_and_saves_what_came_after_it(
    node: FakeNode, store: ObjectStore, desk: Desk, imds: FakeImds, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pod = a_pod(node, "job", 16, 1)
    settings = settings_of(node, imds, spare_s=600.0)
    # Within the bound it would take longer than the machine has left.
    slow = replace(settings, store=replace(settings.store, upload_bytes_per_s=512 << 10))
    async with at_work(slow, store):
        await runs(pod)
        name = desk.order(pod, "periodic", leave_running=True, trigger=Trigger.INTERVAL)
        await until(lambda: "runs on while it is stored" in caplog.text, "the job going on early")
        await proves(pod.jobs["main"])
        imds.spot(in_s=60)
        first = await desk.reaches(name, OrderPhase.COMPLETE)
        await until(lambda: told(desk, "job", "SavePlanned"), "what was planned")
        await until(lambda: stands_still(pod.jobs["main"]), "the job saved for good")
        await until(lambda: len(checkpoints_of(store)) == 2, "its last checkpoint")
        desk.terminate(pod, disruption="EvictionByEvictionAPI")
        assert await ends(pod.jobs["main"]) == 75
    assert first.checkpoint in checkpoints_of(store)
