"""Old checkpoints of a pod are removed after new ones, later than anything that presses."""

from __future__ import annotations

import asyncio

import pytest

from crikpy import names
from crikpy.agent.retention import Retention
from crikpy.errors import StoreUnavailableError
from crikpy.model.orders import OrderPhase
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from tests.agent.cluster import running
from tests.agent.node import FakeNode
from tests.agent.whole import Desk, at_work, checkpoints_of, runs, settings_of, until
from tests.fakes.kube import FakeKube
from tests.integration.stores import WatchedStore

WORKLOAD = Workload(cluster="kubernetes", namespace="training", name="pod-p.main")


@pytest.mark.criu
async def test_as_many_checkpoints_of_a_pod_are_kept_as_it_says(
    node: FakeNode, store: ObjectStore, kube: FakeKube
) -> None:
    desk = Desk(kube)
    pod = node.pod(annotations={names.KEEP: "2"})
    made = []
    async with at_work(settings_of(node), store):
        await runs(pod)
        for number in range(4):
            name = desk.order(pod, f"order-{number}", leave_running=True)
            made.append((await desk.reaches(name, OrderPhase.COMPLETE)).checkpoint)
        await until(lambda: checkpoints_of(store) == sorted(made[-2:]), "only the last two")


class Listed(WatchedStore):
    """A store that counts how often it is listed, and refuses the first time."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.lists = 0

    def list(self, prefix: str):  # type: ignore[no-untyped-def]  # as the protocol has it
        self.lists += 1
        if self.lists == 1:
            raise StoreUnavailableError("away for a moment")
        return super().list(prefix)


async def test_it_waits_until_nothing_is_being_saved_and_outlives_a_store_that_is_away(store: ObjectStore) -> None:
    listed = Listed(store)
    busy = True
    retention = Retention(listed, lambda: busy)
    async with running(retention.run()):
        retention.thin_out("uid", [WORKLOAD], 1)
        await asyncio.sleep(0.1)
        assert listed.lists == 0
        busy = False
        await until(lambda: listed.lists > 1, "a second look at the store")
