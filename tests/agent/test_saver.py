"""The saver alone, with a store that lets the test in: saves that meet, fail, are tried again or cut off."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from threading import Event

import psutil
import pytest

from crikpy.agent.acts import Cause, Outcome
from crikpy.agent.saving import Saver
from crikpy.agent.sessions import Activity
from crikpy.aio.clock import Deadline
from crikpy.errors import StoreFullError, StoreUnavailableError
from crikpy.kube.client import KubeClient
from crikpy.model.notices import Trigger
from crikpy.model.orders import OrderPhase
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from tests.agent.agents import StartingAgent
from tests.agent.node import FakeNode, NodePod
from tests.agent.whole import Desk, checkpoints_of, ends, proves, runs, stands_still, until
from tests.fakes.kube import FakeKube
from tests.integration.stores import WatchedStore
from tests.jobs import proving

pytestmark = pytest.mark.criu


@pytest.fixture
def desk(kube: FakeKube) -> Desk:
    return Desk(kube)


class Bench:
    """An agent that begins jobs, and a saver beside it."""

    def __init__(self, agent: StartingAgent, store: ObjectStore, settings: Settings, pod: NodePod) -> None:
        self.agent = agent
        self.pod = pod
        self.job = pod.jobs["main"]
        self.session = agent.session(pod)
        self.saver = Saver(store, settings, agent.teller, agent.metrics)

    async def save(self, *, within_s: float = 30.0, **cause: object) -> Outcome:
        chosen = {"trigger": Trigger.MANUAL, "leave_running": True, **cause}
        return await self.saver.save(self.session, Cause(deadline=Deadline.after(within_s), **chosen))  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def benched(
    node: FakeNode,
    api: KubeClient,
    store: ObjectStore,
    act: Callable[[str], object] = lambda key: None,
    *,
    upload_bytes_per_s: int = 0,
    megabytes: int = 8,
) -> AsyncIterator[Bench]:
    pod = node.pod(job=("memory", megabytes, 1))
    async with StartingAgent(api, store, node.settings).at_work() as agent:
        await runs(pod)
        await agent.runs(pod)
        patient = replace(
            node.settings,
            agent=replace(node.settings.agent, spare_s=600.0),
            store=replace(node.settings.store, upload_bytes_per_s=upload_bytes_per_s),
        )
        yield Bench(agent, TellingStore(store, act), patient, pod)


def is_announcement(key: str) -> bool:
    """Say whether a checkpoint begins with that key, the job not being stopped yet."""
    return key.endswith("/started.json")


def noting(storing: Event) -> Callable[[str], object]:
    """Return what sets an event once a chunk is written."""
    return lambda key: storing.set() if "/chunks/" in key else None


class TellingStore(WatchedStore):
    """A store that tells the test of every key before it is written."""

    def __init__(self, inner: ObjectStore, act: Callable[[str], object]) -> None:
        super().__init__(inner)
        self._tell = act

    def put(self, key: str, data: bytes | memoryview) -> None:
        self._tell(key)
        super().put(key, data)

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        self._tell(key)
        return super().put_if_absent(key, data)


async def test_a_job_that_ends_by_itself_while_it_is_being_saved(
    node: FakeNode, api: KubeClient, store: ObjectStore, desk: Desk
) -> None:
    def finish(key: str) -> None:
        if key.endswith("/started.json"):
            pod.jobs["main"].signal(proving.FINISH)
            psutil.wait_procs([psutil.Process(pid) for pid in pod.jobs["main"].members()], timeout=10)

    async with benched(node, api, store, finish) as bench:
        pod = bench.pod
        outcome = await bench.save(order="o")
        assert (outcome.saved, outcome.status.reason) == (False, "JobEnded")
        assert outcome.status.message == "the job ended by itself"
        assert await ends(bench.job) == 0
    assert checkpoints_of(store) == []


async def test_a_job_that_is_killed_while_it_is_dumped_is_no_job_that_runs_on(
    node: FakeNode, api: KubeClient, store: ObjectStore
) -> None:
    def kill(key: str) -> None:
        if "/chunks/" in key:
            for pid in pod.jobs["main"].members():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "tests.jobs.memory" in psutil.Process(pid).cmdline():
                        psutil.Process(pid).send_signal(signal.SIGKILL)

    # So much that CRIU is still reading when the first of it is stored, however the two get their turns.
    async with benched(node, api, store, kill, megabytes=200) as bench:
        pod = bench.pod
        outcome = await bench.save()
        assert (outcome.saved, outcome.status.reason) == (False, "JobEnded")
        assert await ends(bench.job) == 137


async def test_what_can_pass_is_tried_again(node: FakeNode, api: KubeClient, store: ObjectStore) -> None:
    refused: list[str] = []

    def refuse_twice(key: str) -> None:
        if key.endswith("/started.json") and len(refused) < 2:
            refused.append(key)
            raise StoreUnavailableError("the store is away for a moment")

    async with benched(node, api, store, refuse_twice) as bench:
        assert (await bench.save()).saved
        await proves(bench.job)
    assert len(refused) == 2


async def test_a_save_that_fails_leaves_the_pod_running_and_free_for_the_next(
    node: FakeNode, api: KubeClient, store: ObjectStore
) -> None:
    refused: list[str] = []

    def refuse(key: str) -> None:
        if "/manifest.json" in key and not refused:
            refused.append(key)
            raise StoreFullError("there is no room")

    async with benched(node, api, store, refuse) as bench:
        outcome = await bench.save(leave_running=False)
        assert (outcome.saved, outcome.status.reason) == (False, "StoreFull")
        assert bench.session.activity is Activity.RUNNING
        await proves(bench.job)
        assert (await bench.save()).saved
        counted = bench.agent.metrics.registry.get_sample_value
        for word, expected in (("StoreFull", 1), ("complete", 1)):
            labels = {"trigger": "Manual", "outcome": word}
            assert counted("crikpy_checkpoints_total", labels) == expected
        assert counted("crikpy_checkpoint_margin_seconds_count") == 0, "no save for good was complete"
        assert counted("crikpy_rescued_work_seconds_total") == 0


async def test_a_final_save_takes_a_dump_over_that_was_to_let_the_job_run_on(
    node: FakeNode, api: KubeClient, store: ObjectStore, desk: Desk
) -> None:
    loop = asyncio.get_running_loop()
    finals: list[asyncio.Future[Outcome]] = []

    def ask(key: str) -> None:
        if is_announcement(key) and not finals:
            final = bench.save(leave_running=False, notice="n", order=desk.order(bench.pod, "final"))
            finals.append(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(final, loop), loop=loop))
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()

    async with benched(node, api, store, ask) as bench:
        first = await bench.save(order=desk.order(bench.pod, "first"))
        final = await finals[0]
        assert first.saved
        assert first.status.checkpoint == final.status.checkpoint
        assert stands_still(bench.job)
        assert bench.session.activity is Activity.HELD
        for name in ("first", "final"):
            assert (await desk.reaches(name, OrderPhase.COMPLETE)).checkpoint == first.status.checkpoint
        merged = await bench.save(order="late", ordered=True, leave_running=False)
        assert merged.status.checkpoint == final.status.checkpoint
        bench.saver.withdraw_notice("n")
        await asyncio.sleep(0.3)
        assert stands_still(bench.job), "the order still wants it"
        bench.saver.withdraw_order(bench.session.uid, "late")
        await proves(bench.job)
    assert checkpoints_of(store) == [first.status.checkpoint]


async def test_a_dump_that_is_taken_over_leaves_no_bandwidth_to_others_any_more(
    node: FakeNode, api: KubeClient, store: ObjectStore
) -> None:
    loop = asyncio.get_running_loop()
    finals: list[asyncio.Future[Outcome]] = []

    def ask(key: str) -> None:
        if is_announcement(key) and not finals:
            final = bench.save(leave_running=False, within_s=30)
            finals.append(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(final, loop), loop=loop))
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()

    # All of it would take more than a minute within the bound.
    async with benched(node, api, store, ask, upload_bytes_per_s=128 << 10) as bench:
        slow = await bench.save(within_s=600)
        final = await finals[0]
        assert final.saved
        assert slow.status.checkpoint == final.status.checkpoint
        assert final.status.total_s is not None
        assert final.status.bytes.stored > 8 << 20


async def test_a_job_that_is_left_running_goes_on_while_it_is_stored(
    node: FakeNode, api: KubeClient, store: ObjectStore
) -> None:
    storing = Event()
    async with benched(node, api, store, noting(storing), upload_bytes_per_s=4 << 20) as bench:
        slow = asyncio.create_task(bench.save())
        await until(storing.is_set, "the job being stored")
        await proves(bench.job)
        assert not slow.done()
        status = (await slow).status
        assert status.frozen_s is not None
        assert status.total_s is not None
        assert status.frozen_s < status.total_s - 1


async def test_a_final_save_of_a_job_that_went_on_waits_until_it_is_stored_without_any_bound(
    node: FakeNode, api: KubeClient, store: ObjectStore
) -> None:
    storing = Event()
    async with benched(node, api, store, noting(storing), upload_bytes_per_s=128 << 10) as bench:
        slow = asyncio.create_task(bench.save(within_s=600))
        await until(storing.is_set, "the job being stored")
        await proves(bench.job)
        final = await bench.save(leave_running=False, within_s=60)
        assert final.saved
        assert slow.done()
        first = await slow
        assert first.saved
        assert first.status.checkpoint != final.status.checkpoint
        assert stands_still(bench.job)
        assert final.status.bytes.stored < first.status.bytes.stored / 2
    assert sorted(checkpoints_of(store)) == sorted([first.status.checkpoint, final.status.checkpoint])


async def test_what_takes_too_long_to_be_stored_gives_way_to_a_final_save(
    node: FakeNode, api: KubeClient, store: ObjectStore
) -> None:
    hung, released = Event(), Event()

    def hang(key: str) -> None:
        if "/chunks/" in key and not hung.is_set():
            hung.set()
            released.wait(60)

    try:
        async with benched(node, api, store, hang) as bench:
            slow = asyncio.create_task(bench.save(within_s=600))
            await until(hung.is_set, "an upload that hangs")
            await proves(bench.job)
            final = await bench.save(leave_running=False, within_s=12)
            assert final.saved
            assert stands_still(bench.job)
            assert "gave way" in (await slow).status.message
    finally:
        released.set()
    assert checkpoints_of(store) == [final.status.checkpoint]


async def test_a_final_save_that_comes_too_late_for_that_is_one_of_its_own(
    node: FakeNode, api: KubeClient, store: ObjectStore
) -> None:
    async with benched(node, api, store) as bench:
        first = await bench.save()
        await proves(bench.job)
        final = await bench.save(leave_running=False, notice="n")
        assert first.status.checkpoint != final.status.checkpoint
        assert stands_still(bench.job)
        bench.saver.withdraw_notice("n")
        await proves(bench.job)


async def test_a_sigterm_while_a_dump_lets_the_job_run_on_ends_it_with_that_dump(
    node: FakeNode, api: KubeClient, store: ObjectStore
) -> None:
    loop = asyncio.get_running_loop()
    asked: list[asyncio.Future[Outcome]] = []

    def ask(key: str) -> None:
        if is_announcement(key) and not asked:
            pressing = bench.save(leave_running=False, pressing=True, trigger=Trigger.DRAIN)
            asked.append(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(pressing, loop), loop=loop))
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()

    async with benched(node, api, store, ask) as bench:
        first = await bench.save()
        assert (await asked[0]).status.checkpoint == first.status.checkpoint
        assert await ends(bench.job) == 75
        assert bench.session.moved
    assert checkpoints_of(store) == [first.status.checkpoint]


async def test_a_save_that_waits_becomes_final_when_a_final_one_is_asked_for(
    node: FakeNode, api: KubeClient, store: ObjectStore
) -> None:
    async with benched(node, api, store) as bench:
        async with bench.session.lock:
            waiting = asyncio.create_task(bench.save())
            await asyncio.sleep(0.1)
            final = asyncio.create_task(bench.save(leave_running=False, notice="n"))
            await asyncio.sleep(0.1)
        assert (await waiting).status.checkpoint == (await final).status.checkpoint != ""
        assert stands_still(bench.job)
        bench.saver.withdraw_notice("n")
        await proves(bench.job)
    assert len(checkpoints_of(store)) == 1


async def test_a_job_with_a_sigterm_pending_while_saved_is_not_saved_with_it(
    node: FakeNode, api: KubeClient, store: ObjectStore
) -> None:
    async with benched(node, api, store) as bench:
        outcome = await bench.save(leave_running=False, pressing=True)
        assert outcome.saved
        assert await ends(bench.job) == 75
        assert bench.session.moved


async def test_a_saver_that_stops_begins_nothing_and_tells_no_order(
    node: FakeNode, api: KubeClient, store: ObjectStore, desk: Desk
) -> None:
    async with benched(node, api, store) as bench:
        name = desk.order(bench.pod)
        await bench.saver.stop(Deadline.after(1))
        outcome = await bench.save(order=name)
        assert (outcome.saved, outcome.status.reason) == (False, "AgentStopped")
        await proves(bench.job)
        assert desk.status(name).phase is OrderPhase.PENDING


async def test_a_saver_that_stops_decides_about_saved_jobs_at_once(
    node: FakeNode, api: KubeClient, store: ObjectStore
) -> None:
    async with benched(node, api, store) as bench:
        assert (await bench.save(leave_running=False)).saved
        async with asyncio.timeout(20):
            await bench.saver.stop(Deadline.after(600))
        assert bench.session.activity is Activity.RUNNING
        await proves(bench.job)


async def test_a_saver_does_not_wait_for_a_dump_that_takes_too_long(
    node: FakeNode, api: KubeClient, store: ObjectStore
) -> None:
    loop = asyncio.get_running_loop()
    begun, go_on = asyncio.Event(), asyncio.Event()

    def stall(key: str) -> None:
        if "/chunks/" in key and not go_on.is_set():
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()

    async with benched(node, api, store, stall) as bench:
        saving = asyncio.create_task(bench.save(leave_running=False))
        await begun.wait()
        await bench.saver.stop(Deadline.after(0.2))
        assert not bench.saver.idle
        go_on.set()
        outcome = await saving
        assert outcome.status.reason == "AgentStopped"
        await until(lambda: bench.saver.idle, "the end of the dump")
        await proves(bench.job)
