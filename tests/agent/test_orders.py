"""What becomes of orders that are not simply obeyed: of pods that are not here, of agents that have died."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from crikpy.agent.acts import Cause
from crikpy.agent.orders import Orders
from crikpy.agent.saving import Saver
from crikpy.aio.clock import Deadline
from crikpy.kube.client import KubeClient
from crikpy.kube.resources import CHECKPOINTS, PODS
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.model.orders import OrderPhase
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints, list_workloads
from tests.agent.agents import StartingAgent
from tests.agent.cluster import running
from tests.agent.node import NAMESPACE, FakeNode
from tests.agent.whole import Desk, checkpoints_of, ends, proves, runs
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu


@pytest.fixture
def desk(kube: FakeKube) -> Desk:
    return Desk(kube)


NOTICE = InterruptionNotice(
    id="spot-1",
    trigger=Trigger.SPOT_INTERRUPTION,
    source="imds:spot/instance-action",
    instance="i-1",
    deadline=None,
    action="terminate",
    seen=datetime.now(UTC) + timedelta(hours=1),
)


class Obeying:
    """An agent that begins jobs and obeys orders."""

    def __init__(self, agent: StartingAgent, api: KubeClient, store: ObjectStore, node: FakeNode) -> None:
        self.agent = agent
        self.saver = Saver(store, node.settings, agent.teller, agent.metrics)
        self.orders = Orders(
            api,
            agent.sessions.pods,
            agent.pods,
            self.saver,
            agent.teller,
            agent.metrics,
            node.settings,
            appears_s=1.0,
        )


@pytest.fixture
async def obeying(node: FakeNode, api: KubeClient, store: ObjectStore) -> AsyncIterator[Obeying]:
    async with contextlib.AsyncExitStack() as stack:
        agent = await stack.enter_async_context(StartingAgent(api, store, node.settings).at_work())
        made = Obeying(agent, api, store, node)
        await stack.enter_async_context(running(made.orders.run()))
        yield made
        await made.saver.stop(Deadline.after(5))


async def test_an_order_for_a_pod_that_is_not_here_fails(
    node: FakeNode, store: ObjectStore, desk: Desk, obeying: Obeying
) -> None:
    status = await desk.reaches(desk.order(node.pod()), OrderPhase.FAILED)
    assert status.reason == "NoSuchJob"
    assert checkpoints_of(store) == []


async def test_an_order_for_another_pod_of_the_same_name_fails(
    node: FakeNode, store: ObjectStore, desk: Desk, obeying: Obeying
) -> None:
    pod = node.pod()
    await runs(pod)
    name = desk.order(pod, pod_uid="00000000-0000-4000-8000-000000000000")
    assert (await desk.reaches(name, OrderPhase.FAILED)).reason == "NoSuchJob"
    await proves(pod.jobs["main"])


async def test_an_order_from_another_namespace_is_refused_and_cannot_be_used_to_let_a_job_run_on(
    node: FakeNode, store: ObjectStore, desk: Desk, obeying: Obeying
) -> None:
    pod = node.pod()
    await runs(pod)
    name = desk.order(pod, namespace="another")
    assert (await desk.reaches(name, OrderPhase.FAILED, namespace="another")).reason == "BadUsage"
    assert checkpoints_of(store) == []
    await proves(pod.jobs["main"])


async def test_an_order_of_a_later_release_for_an_unknown_reason_is_obeyed(
    node: FakeNode, store: ObjectStore, desk: Desk, obeying: Obeying
) -> None:
    pod = node.pod()
    await runs(pod)
    name = desk.order(pod, trigger=Trigger.read("Whim"), leave_running=True)
    await desk.reaches(name, OrderPhase.COMPLETE)
    await proves(pod.jobs["main"])
    (workload,) = list_workloads(store)
    (saved,) = Checkpoints(store, workload).list()
    assert saved.trigger == "Whim"


async def test_an_order_that_a_later_release_has_brought_to_an_unknown_phase_is_not_obeyed(
    node: FakeNode, store: ObjectStore, desk: Desk, obeying: Obeying
) -> None:
    pod = node.pod()
    await runs(pod)
    desk.order(pod, "strange", status={"phase": "Melting"})
    await desk.reaches(desk.order(pod, "ours", leave_running=True), OrderPhase.COMPLETE)
    assert desk.status("strange").phase == "Melting"
    assert len(checkpoints_of(store)) == 1
    await proves(pod.jobs["main"])


async def test_an_order_for_a_container_without_a_launcher_fails(
    node: FakeNode, store: ObjectStore, desk: Desk, obeying: Obeying
) -> None:
    pod = node.pod()
    await runs(pod)
    status = await desk.reaches(desk.order(pod, containers=("main", "sidecar")), OrderPhase.FAILED)
    assert status.reason == "BadUsage"
    assert "sidecar" in status.message
    await proves(pod.jobs["main"])


async def test_an_order_for_a_job_that_has_not_begun_waits_for_it(
    node: FakeNode, store: ObjectStore, desk: Desk, obeying: Obeying
) -> None:
    pod = node.pod(known=False)
    await pod.run()
    await obeying.agent.sees(pod)
    name = desk.order(pod, leave_running=True)
    await asyncio.sleep(0.5)
    desk.kube.put(PODS, pod.body())
    assert (await desk.reaches(name, OrderPhase.COMPLETE)).checkpoint in checkpoints_of(store)


async def test_an_order_of_a_notice_for_a_pod_whose_job_has_not_begun_says_so(
    node: FakeNode, store: ObjectStore, desk: Desk, obeying: Obeying
) -> None:
    pulling, held = node.pod("pulling"), node.pod("held")
    desk.kube.update(PODS, pulling.name, {"status": {"phase": "Pending"}}, namespace=NAMESPACE)
    obeying.agent.outlook.notice = NOTICE
    await held.run()
    for pod in (pulling, held):
        status = await desk.reaches(desk.order(pod, pod.name, notice=NOTICE.id), OrderPhase.FAILED)
        assert status.reason == "NotStarted"
    assert checkpoints_of(store) == []
    obeying.agent.outlook.notice = None


async def test_an_order_whose_pod_does_not_begin_in_time_expires(
    node: FakeNode, store: ObjectStore, desk: Desk, obeying: Obeying
) -> None:
    name = desk.order(node.pod(), deadline=datetime.now(UTC) + timedelta(seconds=0.5))
    assert (await desk.reaches(name, OrderPhase.EXPIRED)).reason == "DeadlineExceeded"


@pytest.mark.parametrize("phase", ["Complete", "Failed", "Expired", "Restored"])
async def test_an_order_in_a_final_phase_is_left_alone(
    node: FakeNode, store: ObjectStore, desk: Desk, obeying: Obeying, phase: str
) -> None:
    pod = node.pod()
    await runs(pod)
    desk.order(pod, "old", status={"phase": phase, "reason": "Before", "message": "before"})
    await desk.reaches(desk.order(pod, "new", leave_running=True), OrderPhase.COMPLETE)
    assert desk.status("old").reason == "Before"
    assert len(checkpoints_of(store)) == 1


async def test_an_order_for_what_was_done_before_it_was_made_is_told_so_though_the_pod_is_gone(
    node: FakeNode, store: ObjectStore, desk: Desk, obeying: Obeying
) -> None:
    pod = node.pod()
    await runs(pod)
    session = await obeying.agent.runs(pod)
    cause = Cause(
        trigger=Trigger.SPOT_INTERRUPTION,
        deadline=Deadline.after(30),
        leave_running=False,
        notice="spot-1",
        order="order-1",
        pressing=True,
    )
    outcome = await obeying.saver.save(session, cause)
    assert await ends(pod.jobs["main"]) == 75
    shutil.rmtree(pod.directory)
    await FakeKube.until(lambda: pod.uid not in obeying.agent.sessions.pods)
    status = await desk.reaches(desk.order(pod, notice="spot-1"), OrderPhase.COMPLETE)
    assert status.checkpoint == outcome.status.checkpoint
    later = desk.order(pod, "later")
    await desk.reaches(later, OrderPhase.FAILED)  # by then the first one would have been given up as well
    assert desk.status("order-1") == status


async def test_an_order_that_is_deleted_while_it_waits_is_not_obeyed(
    node: FakeNode, store: ObjectStore, desk: Desk, obeying: Obeying
) -> None:
    pod = node.pod(known=False)
    await pod.run()
    await obeying.agent.sees(pod)
    name = desk.order(pod, leave_running=True)
    await asyncio.sleep(0.5)
    desk.kube.remove(CHECKPOINTS, name, namespace=NAMESPACE)
    await asyncio.sleep(0.3)
    desk.kube.put(PODS, pod.body())
    await obeying.agent.runs(pod)
    await asyncio.sleep(0.5)
    assert checkpoints_of(store) == []
