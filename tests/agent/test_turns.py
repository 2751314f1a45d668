"""Turns as the plan gives them: in its order, never too many, none lost; memory is shared among dumps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.agent.acts import Act, Cause
from crikpy.agent.dumps import shared_out
from crikpy.agent.forecasts import Forecasts
from crikpy.agent.measuring import Meter, Sample
from crikpy.agent.reporting import Teller
from crikpy.agent.sessions import PodSession
from crikpy.agent.sizing import Sizes
from crikpy.agent.turns import Turns
from crikpy.aio.clock import Deadline
from crikpy.aio.tasks import stop
from crikpy.errors import CapsuleError, DeadlineError, SettingsError
from crikpy.flows.fate import Fate
from crikpy.kube.client import KubeClient
from crikpy.kube.events import EventRecorder
from crikpy.kube.resources import EVENTS
from crikpy.metrics import Metrics
from crikpy.model import manifest
from crikpy.model.notices import Trigger
from crikpy.model.pods import Pod, PodOptions
from crikpy.settings import MIB, Settings
from crikpy.store.budget import RESERVED_BYTES, write_budget
from tests.fakes.kube import FakeKube

GIB = 1024 * MIB
LATER_S = 86400.0


class Queue:
    """Pods that want turns, and the order in which they had them."""

    def __init__(self, kube: FakeKube, teller: Teller, at_once: int, *, measured: bool) -> None:
        self.kube = kube
        self.metrics = Metrics()
        self.sizes = Sizes()
        meter = Meter(GIB, self.metrics)
        if measured:
            for crowd, new, seconds in ((1.0, 10 * GIB, 10.0), (1.0, 0, 10.0), (2.0, 0, 20.0)):
                meter.learn(Sample(memory=10 * GIB, new=new, total_s=seconds + 1, moving_s=seconds, crowd=crowd))
        self.turns = Turns(at_once, self.sizes, meter, Forecasts(teller, self.sizes), self.metrics)
        self.had: list[str] = []
        self.go_on = asyncio.Event()
        self.acts: dict[str, Act] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def want(
        self, name: str, priority: int = 0, *, in_s: float = LATER_S, gib: float = 1.0, **facts: object
    ) -> None:
        """Ask for a turn for a pod of that size."""
        size = int(gib * GIB)
        sizes = manifest.Sizes(image_bytes=size, zero_bytes=0, reused_bytes=0, stored_bytes=size, chunks=1)
        self.sizes.remember(name, [sizes])
        pod = Pod(namespace="ns", name=name, uid=name, options=PodOptions(priority=priority))
        if containers := facts.pop("containers", ()):
            pod = replace(pod, injected=containers)  # type: ignore[arg-type]
        chosen = {"trigger": Trigger.SPOT_INTERRUPTION, "leave_running": False, **facts}
        cause = Cause(deadline=Deadline.after(in_s), **chosen)  # type: ignore[arg-type]
        act = self.acts[name] = Act(PodSession(name, {name: pod}), pod, cause)
        act.causes.append(cause)
        self.tasks[name] = asyncio.create_task(self._have(name))

    async def settles(self) -> None:
        """Let everybody who wants a turn wait for it, or have it."""
        await self.kube.until(
            lambda: all(task.done() or self.turns.has(self.acts[name]) for name, task in self.tasks.items())
        )
        for _ in range(5):  # plans are made, who is called wakes up
            await asyncio.sleep(0)

    async def _have(self, name: str) -> None:
        async with self.turns.turn(self.acts[name]):
            self.had.append(name)
            await self.go_on.wait()

    async def finish(self) -> list[str]:
        """Let everybody go on, and return who had a turn, in order."""
        self.go_on.set()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        return self.had

    async def told(self, name: str) -> list[tuple[str, str]]:
        """Wait until an object was told of, and return the reasons and messages."""
        await self.kube.until(lambda: self._told(name))
        return self._told(name)

    def _told(self, name: str) -> list[tuple[str, str]]:
        about = [event for event in self.kube.all(EVENTS) if event["involvedObject"]["name"] == name]
        return [(event["reason"], event["message"]) for event in about]


@contextlib.asynccontextmanager
async def queueing(
    kube: FakeKube, api: KubeClient, at_once: int, *, measured: bool = False
) -> AsyncIterator[Queue]:
    """Make a queue; whoever waits at the end waits no more."""
    recorder = EventRecorder(api, component="crikpy-agent", host="node-a")
    telling = asyncio.create_task(recorder.run())
    queue = Queue(kube, Teller(api, recorder, Metrics(), node="node-a"), at_once, measured=measured)
    try:
        yield queue
    finally:
        for task in [*queue.tasks.values(), telling]:
            task.cancel()
        await asyncio.gather(*queue.tasks.values(), return_exceptions=True)
        await stop(telling)


async def test_the_most_important_of_all_that_come_together_is_first(kube: FakeKube, api: KubeClient) -> None:
    async with queueing(kube, api, 1) as queue:
        for name, priority in (("low", 1), ("high", 9), ("mid", 5), ("mid-too", 5)):
            queue.want(name, priority)
        await queue.settles()
        assert queue.had == ["high"]
        assert await queue.finish() == ["high", "mid", "mid-too", "low"]


async def test_so_many_at_once_and_no_more(kube: FakeKube, api: KubeClient) -> None:
    async with queueing(kube, api, 2) as queue:
        for name in "abc":
            queue.want(name)
        await queue.settles()
        assert queue.had == ["a", "b"]
        await queue.finish()


async def test_one_that_becomes_more_pressing_comes_earlier(kube: FakeKube, api: KubeClient) -> None:
    async with queueing(kube, api, 1) as queue:
        for name in "abc":
            queue.want(name)
        await queue.settles()
        queue.acts["c"].urgency = queue.acts["c"].urgency.PRESSING
        queue.turns.hurry(queue.acts["c"])
        assert await queue.finish() == ["a", "c", "b"]


async def test_who_waits_too_long_gets_none_and_takes_none_from_others(kube: FakeKube, api: KubeClient) -> None:
    async with queueing(kube, api, 1) as queue:
        queue.want("a", 9)
        await queue.settles()
        queue.want("b", 5)
        queue.want("c", 1)
        await queue.settles()
        queue.acts["b"].deadline = Deadline.after(0.01)
        queue.turns.hurry(queue.acts["b"])
        with pytest.raises(DeadlineError):
            await queue.tasks["b"]
        assert await queue.finish() == ["a", "c"]


async def test_who_is_cancelled_in_the_moment_of_being_called_passes_the_turn_on(
    kube: FakeKube, api: KubeClient
) -> None:
    async with queueing(kube, api, 1) as queue:
        queue.want("a", 9)
        await queue.settles()
        queue.want("b", 5)
        queue.want("c", 1)
        await queue.settles()
        queue.tasks["a"].cancel()
        await asyncio.sleep(0)
        # Nothing has run since: the one who was called does not know it yet.
        assert queue.had == ["a"]
        queue.tasks["b"].cancel()
        assert await queue.finish() == ["a", "c"]
        assert queue.tasks["b"].cancelled()


async def test_what_cannot_be_in_time_is_not_begun_and_its_owner_is_told(kube: FakeKube, api: KubeClient) -> None:
    async with queueing(kube, api, 2, measured=True) as queue:
        for name, gib, priority in (("dear", 60.0, 3), ("large", 90.0, 2), ("small", 10.0, 1)):
            queue.want(name, priority, in_s=100.0, gib=gib, notice="spot-1", ends=Deadline.after(103))
        await queue.settles()
        assert queue.had == ["dear"]
        [(reason, message)] = await queue.told("dear")
        assert (reason, message.partition(", to be complete by ")[0]) == (
            "SavePlanned",
            "first of two, 60.0 GiB in about 61 s",
        )
        [(reason, message)] = await queue.told("large")
        assert reason == "NotSavedInTime"
        assert message.startswith("needs about 91 s and ")
        assert "runs on; its last checkpoint is of " in message
        [(_, message)] = await queue.told("node-a")
        assert message == "3 pods with 160.0 GiB are to be saved: 2 in time, 1 not in time"
        counted = queue.metrics.registry.get_sample_value
        for verdict, count in (("running", 1), ("next", 1), ("last", 0), ("unsaved", 1)):
            assert counted("crikpy_planned_pods", {"verdict": verdict}) == count
        queue.acts["large"].deadline = Deadline.after(0)
        queue.turns.hurry(queue.acts["large"])
        with pytest.raises(DeadlineError, match=r"it needed about 91 s and had \d+ s"):
            await queue.tasks["large"]


async def test_a_sigterm_is_not_kept_from_jobs_that_cannot_be_saved_in_time(
    kube: FakeKube, api: KubeClient
) -> None:
    async with queueing(kube, api, 2, measured=True) as queue:
        queue.want("large", in_s=3000.0, gib=9000.0, pressing=True)
        with pytest.raises(DeadlineError, match="it needed about 9001 s and had 3000 s"):
            await queue.tasks["large"]
        assert queue.had == []


async def test_what_is_not_needed_any_more_waits_for_nothing(kube: FakeKube, api: KubeClient) -> None:
    async with queueing(kube, api, 1, measured=True) as queue:
        queue.want("dear", 9, in_s=100.0, gib=60.0)
        queue.want("large", in_s=100.0, gib=90.0, notice="spot-1")
        await queue.settles()
        queue.acts["large"].take_back(notice="spot-1")
        await kube.until(lambda: queue.had == ["dear", "large"])


async def test_a_dump_leaves_no_bandwidth_to_others_while_more_pressing_ones_wait_for_its_end(
    kube: FakeKube, api: KubeClient
) -> None:
    async with queueing(kube, api, 1) as queue:
        queue.want("interval", leave_running=True)
        await queue.settles()
        pace = queue.acts["interval"].fate.paced(1)
        pace.reserve(10**9, Deadline.after(0).at)
        queue.want("too", leave_running=True)
        await queue.settles()
        with pytest.raises(DeadlineError):
            pace.wait(1, Deadline.after(1))
        queue.want("final")
        await queue.settles()
        pace.wait(10**12, Deadline.after(0))


async def test_saves_that_nothing_presses_are_not_told_of(kube: FakeKube, api: KubeClient) -> None:
    async with queueing(kube, api, 2) as queue:
        queue.want("interval", leave_running=True, trigger=Trigger.INTERVAL)
        queue.want("manual", trigger=Trigger.MANUAL)
        queue.want("spot", notice="spot-1", ends=Deadline.after(100))
        await queue.told("spot")
        assert {event["involvedObject"]["name"] for event in kube.all(EVENTS)} == {"spot"}


async def test_a_pod_without_its_launchers_takes_nobodys_turn(kube: FakeKube, api: KubeClient) -> None:
    async with queueing(kube, api, 1) as queue:
        queue.want("half", 9, containers=("main",))
        queue.want("a", 1)
        with pytest.raises(CapsuleError, match="no launcher answers in main of pod ns/half"):
            await queue.tasks["half"]
        await queue.settles()
        assert queue.had == ["a"]


def abandon(reason: str) -> None:
    raise AssertionError(reason)


def test_jobs_are_kept_only_as_long_as_nobody_has_let_them_run_on() -> None:
    fate = Fate(leave_running=True)
    pace = fate.paced(1)
    pace.reserve(10**9, 0.0)
    assert fate.keep()
    pace.wait(10**12, Deadline.after(0))
    assert not fate.opens(abandon)
    assert fate.keep()
    late = Fate(leave_running=True)
    assert late.opens(abandon)
    assert not late.keep()
    assert late.leave_running


def test_whoever_keeps_jobs_and_whoever_lets_them_run_on_always_agree() -> None:
    with ThreadPoolExecutor(2) as both:
        for _ in range(500):
            fate, together = Fate(leave_running=True), Barrier(2)

            def meet(act: Callable[[], bool], together: Barrier = together) -> bool:
                together.wait()
                return act()

            kept, ran_on = both.map(meet, (fate.keep, partial(fate.opens, abandon)))
            assert kept is not ran_on


@given(
    memory=st.integers(1, 4096).map(lambda count: count * MIB),
    dumps=st.integers(1, 40),
)
def test_dumps_share_the_memory_and_each_has_enough(memory: int, dumps: int) -> None:
    given_out = Settings()
    given_out = replace(
        given_out,
        store=replace(given_out.store, memory_bytes=memory),
        agent=replace(given_out.agent, dumps=dumps),
    )
    try:
        write_budget(given_out.store)
    except SettingsError:
        with pytest.raises(SettingsError):
            shared_out(given_out)
        return
    settings, at_once = shared_out(given_out)
    write_budget(settings.store)
    assert 1 <= at_once <= dumps
    assert (settings.store.memory_bytes - RESERVED_BYTES) * at_once + RESERVED_BYTES <= memory
