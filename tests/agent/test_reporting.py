"""What the agent tells arrives in the end, whatever the API server does meanwhile, and overwrites nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy import names
from crikpy.agent.outbox import Outbox
from crikpy.agent.reporting import Teller, merged, resumed
from crikpy.aio.clock import Deadline
from crikpy.errors import IncompatibleError, KubeForbiddenError, KubeNotFoundError, KubeUnavailableError
from crikpy.kube.client import KubeClient
from crikpy.kube.events import EventRecorder
from crikpy.kube.nodes import notice_condition, parse_node
from crikpy.kube.pods import parse_pod
from crikpy.kube.resources import CHECKPOINTS, NODES
from crikpy.metrics import Metrics
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.model.orders import OrderBytes, OrderPhase, OrderStatus
from tests.agent.cluster import NAMESPACE, NODE, condition, events, order, put_node, put_order, put_pod, running
from tests.fakes.kube import FakeKube

COMPLETE = OrderStatus(
    phase=OrderPhase.COMPLETE,
    started=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
    completed=datetime(2030, 1, 2, 3, 4, 9, tzinfo=UTC),
    bytes=OrderBytes(memory=3 << 30, stored=1 << 30, reused=2 << 30),
    frozen_s=3.5,
    total_s=4.0,
    checkpoint="20300102T030409Z-00001234",
    location="/store/kubernetes/jobs/pod-p.main",
    reason="CheckpointComplete",
    message="saved 3.0 GiB",
)


class Cluster:
    """A fake API server and a teller that speaks with it."""

    def __init__(self, kube: FakeKube, api: KubeClient) -> None:
        self.kube = kube
        self.metrics = Metrics()
        self.recorder = EventRecorder(api, component="crikpy-agent", host=NODE)
        self.outbox = Outbox(parked_s=60.0)
        self.teller = Teller(api, self.recorder, self.metrics, node=NODE, outbox=self.outbox)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with FakeKube().serving() as kube, await KubeClient.connect(kube.settings(tmp_path)) as api:
        made = Cluster(kube, api)
        put_node(kube)
        async with running(made.teller.run(), made.recorder.run()):
            yield made


async def test_a_status_is_written_with_its_conditions_and_an_event_on_the_order(cluster: Cluster) -> None:
    made = put_order(cluster.kube, put_pod(cluster.kube, "p"), "o")
    cluster.teller.tell_status(NAMESPACE, "o", COMPLETE)
    await cluster.kube.until(lambda: events(cluster.kube, "o"))
    assert order(cluster.kube, "o").status == COMPLETE
    assert order(cluster.kube, "o").spec == made.spec
    assert events(cluster.kube, "o") == [("Normal", "CheckpointComplete")]


async def test_a_failure_is_a_warning(cluster: Cluster) -> None:
    put_order(cluster.kube, put_pod(cluster.kube, "p"), "o")
    failed = OrderStatus(phase=OrderPhase.FAILED, reason="DumpFailed", message="CRIU could not")
    cluster.teller.tell_status(NAMESPACE, "o", failed)
    await cluster.kube.until(lambda: events(cluster.kube, "o"))
    assert events(cluster.kube, "o") == [("Warning", "CheckpointFailed")]
    assert order(cluster.kube, "o").status.reason == "DumpFailed"


async def test_what_is_told_during_an_outage_arrives_after_it_and_only_the_newest(cluster: Cluster) -> None:
    pod = put_pod(cluster.kube, "p")
    put_order(cluster.kube, pod, "o")
    await cluster.kube.stop()
    for stored in range(50):
        progress = OrderStatus(phase=OrderPhase.DUMPING, bytes=OrderBytes(memory=stored, stored=stored))
        cluster.teller.tell_status(NAMESPACE, "o", progress)
        await asyncio.sleep(0.01)
    cluster.teller.tell_status(NAMESPACE, "o", COMPLETE)
    cluster.teller.tell_pod(parse_pod(pod), "CheckpointComplete", "saved")
    await cluster.kube.start()
    await cluster.kube.until(lambda: order(cluster.kube, "o").status == COMPLETE)
    await cluster.kube.until(lambda: events(cluster.kube, "p"))
    assert len(cluster.kube.seen("patch", "checkpoints", subresource="status")) == 1


async def test_the_status_of_an_order_that_is_made_later_arrives_when_it_appears(cluster: Cluster) -> None:
    pod = put_pod(cluster.kube, "p")
    cluster.teller.tell_status(NAMESPACE, "o", COMPLETE)
    await cluster.kube.until(lambda: cluster.kube.seen("get", "checkpoints"))
    put_order(cluster.kube, pod, "o")
    cluster.teller.appeared(NAMESPACE, "o")
    await cluster.kube.until(lambda: order(cluster.kube, "o").status == COMPLETE)


@pytest.mark.parametrize("kind", ["503", "429", "reset", "lose", "409"])
async def test_trouble_of_all_kinds_only_delays_a_status(cluster: Cluster, kind: str) -> None:
    put_order(cluster.kube, put_pod(cluster.kube, "p"), "o")
    cluster.kube.trouble(kind, plural="checkpoints", verb="patch", times=2)
    cluster.teller.tell_status(NAMESPACE, "o", COMPLETE)
    await cluster.kube.until(lambda: order(cluster.kube, "o").status == COMPLETE)


async def test_a_status_that_is_never_taken_does_not_keep_the_others_back(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    pod = put_pod(cluster.kube, "p")
    put_order(cluster.kube, pod, "refused")
    put_order(cluster.kube, pod, "o")
    cluster.kube.trouble("422", plural="checkpoints", verb="patch", times=1)
    cluster.teller.tell_status(NAMESPACE, "refused", COMPLETE)
    await cluster.kube.until(lambda: "does not take it" in caplog.text)
    cluster.teller.tell_status(NAMESPACE, "o", COMPLETE)
    await cluster.kube.until(lambda: order(cluster.kube, "o").status == COMPLETE)


async def test_a_late_status_does_not_undo_what_the_next_node_wrote(cluster: Cluster) -> None:
    put_order(cluster.kube, put_pod(cluster.kube, "p"), "o")
    status = {
        "phase": "Restored", "checkpoint": COMPLETE.checkpoint, "restoredBy": "jobs/q/u2", "reason": "Restored",
        "message": "goes on",
    }  # fmt: skip
    cluster.kube.update(CHECKPOINTS, "o", {"status": status}, namespace=NAMESPACE)
    cluster.teller.tell_status(NAMESPACE, "o", COMPLETE)
    await cluster.kube.until(lambda: order(cluster.kube, "o").status.bytes == COMPLETE.bytes)
    found = order(cluster.kube, "o").status
    assert (found.phase, found.restored_by, found.message) == (OrderPhase.RESTORED, "jobs/q/u2", "goes on")


async def test_a_resumption_brings_the_order_that_made_the_checkpoint_to_restored(cluster: Cluster) -> None:
    origin, new = put_pod(cluster.kube, "p", uid="u1"), parse_pod(put_pod(cluster.kube, "q", uid="u2"))
    for name in ("o", "other"):
        put_order(cluster.kube, origin, name)
    cluster.teller.tell_status(NAMESPACE, "o", COMPLETE)
    await cluster.kube.until(lambda: order(cluster.kube, "o").status == COMPLETE)
    cluster.teller.tell_restoring(new, checkpoint=COMPLETE.checkpoint, origin_uid="u1")
    await cluster.kube.until(lambda: order(cluster.kube, "o").status.phase is OrderPhase.RESTORING)
    cluster.teller.tell_restored(new, checkpoint=COMPLETE.checkpoint, origin_uid="u1", seconds=1.5)
    await cluster.kube.until(lambda: order(cluster.kube, "o").status.phase is OrderPhase.RESTORED)
    found = order(cluster.kube, "o").status
    assert found.restored_by == f"{NAMESPACE}/q/u2"
    assert (found.bytes, found.checkpoint, found.frozen_s) == (COMPLETE.bytes, COMPLETE.checkpoint, 3.5)
    assert order(cluster.kube, "other").status.phase is OrderPhase.PENDING
    await cluster.kube.until(lambda: events(cluster.kube, "q"))
    assert events(cluster.kube, "q") == [("Normal", "Restored")]
    assert cluster.metric("crikpy_restores_total", outcome="resumed") == 1


async def test_a_resumption_waits_for_the_status_of_the_order_that_is_still_on_its_way(
    cluster: Cluster,
) -> None:
    origin, new = put_pod(cluster.kube, "p", uid="u1"), parse_pod(put_pod(cluster.kube, "q", uid="u2"))
    put_order(cluster.kube, origin, "o")
    cluster.teller.tell_restored(new, checkpoint=COMPLETE.checkpoint, origin_uid="u1", seconds=1.5)
    await cluster.kube.until(lambda: cluster.kube.seen("list", "checkpoints"))
    cluster.teller.tell_status(NAMESPACE, "o", COMPLETE)
    await cluster.kube.until(lambda: order(cluster.kube, "o").status.phase is OrderPhase.COMPLETE)
    [left] = cluster.outbox.waiting()
    cluster.outbox.poke(left)
    await cluster.kube.until(lambda: order(cluster.kube, "o").status.phase is OrderPhase.RESTORED)


async def test_a_failed_resumption_is_told_to_pod_and_order(cluster: Cluster) -> None:
    origin, new = put_pod(cluster.kube, "p", uid="u1"), parse_pod(put_pod(cluster.kube, "q", uid="u2"))
    put_order(cluster.kube, origin, "o")
    cluster.teller.tell_status(NAMESPACE, "o", COMPLETE)
    await cluster.kube.until(lambda: order(cluster.kube, "o").status == COMPLETE)
    fault = IncompatibleError("another CPU")
    cluster.teller.tell_restore_failed(new, checkpoint=COMPLETE.checkpoint, origin_uid="u1", fault=fault)
    cluster.teller.tell_cold_start(new, "its checkpoint could not be resumed", after_failure=True)
    await cluster.kube.until(lambda: order(cluster.kube, "o").status.phase is OrderPhase.FAILED)
    await cluster.kube.until(lambda: len(events(cluster.kube, "q")) == 2)
    assert events(cluster.kube, "q") == [("Warning", "RestoreFailed"), ("Warning", "ColdStart")]
    assert "another CPU" in order(cluster.kube, "o").status.message
    assert cluster.metric("crikpy_restores_total", outcome="Incompatible") == 1
    assert cluster.metric("crikpy_restores_total", outcome="cold") is None


NOTICE = InterruptionNotice(
    id="spot-0123456789abcdef",
    trigger=Trigger.SPOT_INTERRUPTION,
    source="imds:spot/instance-action",
    instance="",
    deadline=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
    action="terminate",
    seen=datetime(2030, 1, 2, 3, 2, 5, tzinfo=UTC),
)


async def test_a_condition_of_the_node_stands_beside_those_of_kubelet(cluster: Cluster) -> None:
    cluster.teller.tell_condition(notice_condition(NOTICE, datetime.now(UTC)))
    await cluster.kube.until(lambda: condition(cluster.kube, names.CONDITION_NOTICE))
    node = cluster.kube.get(NODES, NODE)
    assert node is not None
    assert parse_node(node).notice == NOTICE
    assert condition(cluster.kube, "Ready") is not None


async def test_a_condition_keeps_the_time_of_its_last_change(cluster: Cluster) -> None:
    def is_told(message: str) -> bool:
        return message in str(condition(cluster.kube, names.CONDITION_READY))

    for word, second in (("True", 1), ("True", 2), ("False", 3)):
        said = {
            "type": names.CONDITION_READY,
            "status": word,
            "reason": "R",
            "message": f"look {second}",
            "lastTransitionTime": f"2030-01-02T03:04:0{second}Z",
        }
        cluster.teller.tell_condition(said)
        await cluster.kube.until(partial(is_told, said["message"]))
        found = condition(cluster.kube, names.CONDITION_READY)
        assert found is not None
        assert found["lastTransitionTime"] == f"2030-01-02T03:04:0{1 if second < 3 else 3}Z"


async def test_a_label_of_the_node_is_set_and_its_others_stay(cluster: Cluster) -> None:
    cluster.kube.update(NODES, NODE, {"metadata": {"labels": {"zone": "b"}}})
    cluster.teller.tell_label(names.LABEL_READY, "true")
    await cluster.kube.until(
        lambda: (
            (cluster.kube.get(NODES, NODE) or {})["metadata"]["labels"] == {"zone": "b", names.LABEL_READY: "true"}
        )
    )


async def test_flush_delivers_what_is_left(tmp_path: Path) -> None:
    async with FakeKube().serving() as kube, await KubeClient.connect(kube.settings(tmp_path)) as api:
        made = Cluster(kube, api)
        put_order(kube, put_pod(kube, "p"), "o")
        made.teller.tell_status(NAMESPACE, "o", COMPLETE)
        await made.teller.flush(Deadline.after(5))
        assert order(kube, "o").status == COMPLETE


# Pure parts.

_statuses = st.builds(
    OrderStatus,
    phase=st.sampled_from(OrderPhase),
    checkpoint=st.sampled_from(["", "a", "b"]),
    message=st.sampled_from(["x", "y"]),
    restored_by=st.sampled_from(["", "ns/q/u"]),
)


@given(_statuses, _statuses)
def test_our_word_never_takes_a_resumption_back(current: OrderStatus, told: OrderStatus) -> None:
    found = merged(current, told)
    if current.phase is OrderPhase.RESTORED and current.checkpoint == told.checkpoint != "":
        assert (found.phase, found.restored_by) == (OrderPhase.RESTORED, current.restored_by)
    assert merged(found, told) == found


@given(_statuses, _statuses)
def test_our_word_follows_only_where_the_cluster_lets_it(current: OrderStatus, told: OrderStatus) -> None:
    allowed = {
        OrderPhase.PENDING: set[OrderPhase](),
        OrderPhase.DUMPING: {OrderPhase.PENDING, OrderPhase.DUMPING, OrderPhase.COMPLETE},
        OrderPhase.COMPLETE: set(OrderPhase) - {OrderPhase.RESTORED, OrderPhase.FAILED, OrderPhase.RESTORING},
        OrderPhase.EXPIRED: {OrderPhase.PENDING, OrderPhase.DUMPING, OrderPhase.EXPIRED},
        OrderPhase.FAILED: {OrderPhase.PENDING, OrderPhase.DUMPING, OrderPhase.EXPIRED, OrderPhase.FAILED},
    }
    found = merged(current, told)
    if told.phase in allowed:
        assert (found == told) or current.phase not in allowed[told.phase]
        assert found.phase in (told.phase, current.phase)


@given(_statuses, st.sampled_from([OrderPhase.RESTORING, OrderPhase.RESTORED, OrderPhase.FAILED]))
def test_a_resumption_tells_only_of_itself(current: OrderStatus, phase: OrderPhase) -> None:
    found = resumed(current, phase, "R", "m", by="ns/q/u")
    same = replace(found, phase=current.phase, reason=current.reason, message=current.message)
    assert replace(same, restored_by=current.restored_by) == current
    assert found == current or current.phase not in (OrderPhase.RESTORED, OrderPhase.FAILED)


# The box itself.


async def test_the_box_forgets_the_oldest_when_it_is_full() -> None:
    box = Outbox(most=3)

    async def away(deadline: Deadline) -> None:
        raise KubeUnavailableError("away")

    for number in range(5):
        box.put((str(number),), away)
    assert box.waiting() == (("2",), ("3",), ("4",))


async def test_the_box_gives_up_what_nobody_wants_to_hear() -> None:
    box = Outbox()

    async def unknown(deadline: Deadline) -> None:
        raise KubeNotFoundError("no such thing")

    box.put(("a",), unknown, keep_s=0.05)
    async with running(box.run()):
        await asyncio.sleep(0.1)
        box.poke(("a",))
        await FakeKube.until(lambda: not box.waiting())


async def test_what_nobody_knows_yet_is_said_again_by_itself() -> None:
    box = Outbox(parked_s=0.05)
    said: list[str] = []

    async def third_time(deadline: Deadline) -> None:
        said.append("tried")
        if len(said) < 3:
            raise KubeNotFoundError("no such thing yet")

    box.put(("a",), third_time)
    async with running(box.run()):
        await FakeKube.until(lambda: len(said) == 3 and not box.waiting())


async def test_what_is_forbidden_does_not_keep_the_rest_back() -> None:
    box = Outbox()
    said: list[str] = []

    async def forbidden(deadline: Deadline) -> None:
        raise KubeForbiddenError("you may not")

    async def good(deadline: Deadline) -> None:
        said.append("good")

    async def broken(deadline: Deadline) -> None:
        raise ZeroDivisionError

    box.put(("a",), forbidden)
    box.put(("b",), broken)
    box.put(("c",), good)
    async with running(box.run()):
        await FakeKube.until(lambda: said)
        assert box.waiting() == (("a",),)


async def test_a_newer_word_is_not_lost_while_an_older_one_is_being_said() -> None:
    box = Outbox()
    said: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def older(deadline: Deadline) -> None:
        begun.set()
        await go_on.wait()
        said.append("older")

    async def newer(deadline: Deadline) -> None:
        said.append("newer")

    box.put(("a",), older)
    async with running(box.run()):
        await begun.wait()
        box.put(("a",), newer)
        go_on.set()
        await FakeKube.until(lambda: said == ["older", "newer"])
        assert box.waiting() == ()
