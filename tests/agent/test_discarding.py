"""What the store holds for a Checkpoint object that is being deleted goes, by whichever agent is asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from crikpy import names
from crikpy.agent.discarding import Discarder
from crikpy.agent.reporting import Teller
from crikpy.aio.clock import Deadline
from crikpy.errors import StoreUnavailableError
from crikpy.kube.client import KubeClient
from crikpy.kube.events import EventRecorder
from crikpy.kube.orders import parse_order
from crikpy.kube.resources import CHECKPOINTS
from crikpy.metrics import Metrics
from crikpy.model.orders import Order, OrderPhase
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.records import Claim
from tests.agent.cluster import running
from tests.agent.node import NAMESPACE, FakeNode, NodePod
from tests.agent.whole import Desk, at_work, checkpoints_of, proves, runs, settings_of, until
from tests.fakes.kube import FakeKube
from tests.integration.stores import WatchedStore


class Asking:
    """A controller and a person with kubectl."""

    def __init__(self, kube: FakeKube) -> None:
        self.kube = kube
        self.desk = Desk(kube)

    def delete(self, name: str) -> None:
        """Ask for the deletion of an object."""
        self.kube.objects.delete(CHECKPOINTS, name, NAMESPACE, {})

    def discard_on(self, name: str, node: str) -> None:
        """Name a node for it, as the controller does."""
        labels = {"metadata": {"labels": {names.LABEL_DISCARD_ON: node}}}
        self.kube.update(CHECKPOINTS, name, labels, namespace=NAMESPACE)

    def discard(self, name: str, node: str) -> None:
        """Ask for its deletion and name a node for it."""
        self.delete(name)
        self.discard_on(name, node)

    def order(self, name: str) -> Order:
        """Return the object."""
        raw = self.kube.get(CHECKPOINTS, name, namespace=NAMESPACE)
        assert raw is not None
        return parse_order(raw)

    async def cleared(self, name: str) -> None:
        """Wait until the object may go."""
        await until(lambda: self.order(name).status.discarded is not None, f"{name} is discarded")


@pytest.fixture
def asking(kube: FakeKube) -> Asking:
    return Asking(kube)


async def saved(asking: Asking, pod: NodePod, name: str) -> str:
    """Save a pod that runs on and return the checkpoint's id."""
    asking.desk.order(pod, name, leave_running=True)
    return (await asking.desk.reaches(name, OrderPhase.COMPLETE)).checkpoint


@pytest.mark.criu
async def test_the_one_checkpoint_goes_with_its_chunks_and_the_others_stay(
    node: FakeNode, store: ObjectStore, asking: Asking
) -> None:
    pod = node.pod(annotations={names.KEEP: "5"})
    async with at_work(settings_of(node), store):
        await runs(pod)
        first, second = await saved(asking, pod, "first"), await saved(asking, pod, "second")
        asking.discard("second", node.name)
        await asking.cleared("second")
        assert checkpoints_of(store) == [first]
        assert not [info.key for info in store.list("") if second in info.key]
        asking.discard("first", node.name)
        await asking.cleared("first")
        assert not [info.key for info in store.list("") if "/chunks/" in info.key]
        await proves(pod.jobs["main"])


@pytest.mark.criu
async def test_a_job_that_stands_still_for_an_object_runs_on_when_that_is_deleted(
    node: FakeNode, store: ObjectStore, asking: Asking
) -> None:
    pod = node.pod()
    async with at_work(settings_of(node), store):
        await runs(pod)
        name = asking.desk.order(pod, "only")
        await asking.desk.reaches(name, OrderPhase.COMPLETE)
        asking.delete(name)
        await proves(pod.jobs["main"])


class Stored:
    """Something that lies in a store as a checkpoint does, without a job behind it."""

    def __init__(self, store: ObjectStore, asking: Asking, pod: NodePod, *, namespace: str = NAMESPACE) -> None:
        self.store = store
        self.workload = Workload(cluster="kubernetes", namespace=namespace, name=f"pod-{pod.name}.main")
        self.key = f"{self.workload}/checkpoints/{self.checkpoint}/manifest.json"
        store.put(self.key, b"{}")
        status = {"phase": "Complete", "checkpoint": self.checkpoint, "location": f"{store.url}/{self.workload}"}
        self.name = asking.desk.order(pod, "elsewhere", node="another", status=status)

    checkpoint = "20260101T000000Z-00000000"

    @property
    def there(self) -> bool:
        """Whether it is in the store."""
        return any(info.key == self.key for info in self.store.list(""))


class Away(WatchedStore):
    """A store that refuses every deletion until it is back."""

    back = False

    def delete(self, key: str) -> None:
        if not self.back:
            raise StoreUnavailableError("away for a while")
        super().delete(key)


@contextlib.asynccontextmanager
async def discarding(kube: KubeClient, store: ObjectStore, node: FakeNode) -> AsyncIterator[None]:
    """Have a discarder work, and what it tells be delivered."""
    events = EventRecorder(kube, component="crikpy-agent", host=node.name)
    teller = Teller(kube, events, Metrics(), node=node.name)
    discarder = Discarder(kube, store, teller, Metrics(), node.settings, within_s=0.2)
    async with running(discarder.run()), running(teller.run()), running(events.run()):
        yield
        await teller.flush(Deadline.after(1))


async def test_any_node_can_be_asked_since_that_of_the_save_is_often_gone(
    node: FakeNode, api: KubeClient, store: ObjectStore, asking: Asking
) -> None:
    stored = Stored(store, asking, node.pod())
    async with discarding(api, store, node):
        asking.discard(stored.name, node.name)
        await asking.cleared(stored.name)
    assert not stored.there


async def test_nothing_is_removed_for_a_label_alone_or_on_a_node_that_was_not_asked(
    node: FakeNode, api: KubeClient, store: ObjectStore, asking: Asking
) -> None:
    stored = Stored(store, asking, node.pod())
    async with discarding(api, store, node):
        asking.discard_on(stored.name, node.name)
        await asyncio.sleep(0.3)
        assert stored.there
        asking.discard_on(stored.name, "another")
        asking.delete(stored.name)
        await asyncio.sleep(0.3)
        assert stored.there


async def test_nothing_is_removed_from_under_a_job_that_is_resumed_from_it(
    node: FakeNode, api: KubeClient, store: ObjectStore, asking: Asking
) -> None:
    stored = Stored(store, asking, node.pod())
    status = {"status": {"phase": "Restoring"}}
    asking.kube.update(CHECKPOINTS, stored.name, status, namespace=NAMESPACE)
    async with discarding(api, store, node):
        asking.discard(stored.name, node.name)
        await asyncio.sleep(0.3)
        assert stored.there
        status = {"status": {"phase": "Restored", "restoredBy": "a/b/c"}}
        asking.kube.update(CHECKPOINTS, stored.name, status, namespace=NAMESPACE)
        await asking.cleared(stored.name)
    assert not stored.there


async def test_what_somebody_has_claimed_is_left_until_the_object_tells_how_that_ended(
    node: FakeNode, api: KubeClient, store: ObjectStore, asking: Asking
) -> None:
    stored = Stored(store, asking, node.pod())
    Checkpoints(store, stored.workload).claim(stored.checkpoint, Claim.ours())
    async with discarding(api, store, node):
        asking.discard(stored.name, node.name)
        await asyncio.sleep(0.3)
        assert stored.there
        status = {"status": {"phase": "Restored", "restoredBy": "a/b/c"}}
        asking.kube.update(CHECKPOINTS, stored.name, status, namespace=NAMESPACE)
        await asking.cleared(stored.name)
    assert not stored.there


async def test_an_object_that_points_into_another_namespace_removes_nothing_there(
    node: FakeNode, api: KubeClient, store: ObjectStore, asking: Asking
) -> None:
    stored = Stored(store, asking, node.pod(), namespace="another")
    async with discarding(api, store, node):
        asking.discard(stored.name, node.name)
        await until(lambda: "DiscardFailed" in asking.desk.events(stored.name), "an event that says so")
    assert stored.there


async def test_a_store_that_is_away_is_asked_until_it_is_back_and_people_hear_of_it(
    node: FakeNode, api: KubeClient, store: ObjectStore, asking: Asking
) -> None:
    stored, away = Stored(store, asking, node.pod()), Away(store)
    async with discarding(api, away, node):
        asking.discard(stored.name, node.name)
        await until(lambda: "DiscardFailed" in asking.desk.events(stored.name), "an event that says so")
        assert asking.order(stored.name).status.discarded is None
        away.back = True
        await asking.cleared(stored.name)
    assert not stored.there


async def test_an_order_is_not_obeyed_once_its_deletion_was_asked_for(
    node: FakeNode, store: ObjectStore, asking: Asking
) -> None:
    pod = node.pod()
    name = asking.desk.order(pod, "late")
    asking.delete(name)
    async with at_work(settings_of(node), store):
        await runs(pod)
        await proves(pod.jobs["main"])
        assert asking.order(name).status.phase is OrderPhase.PENDING
    assert checkpoints_of(store) == []
