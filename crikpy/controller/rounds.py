"""What the leader does as long as it leads: look, plan, act, again and again.

Three mirrors show nodes, orders and pods; the first two are every replica's. Every change of them begins a round a
moment later, and time alone does so every other second, since deadlines pass without any change. A round waits for
nothing: its acts run beside it, a bounded number at once, and the next round leaves out what is under way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime

from crikpy import log, tracing
from crikpy.aio.tasks import stop
from crikpy.controller.acting import Actor
from crikpy.controller.actions import (
    Action,
    DeletePod,
    EvictPod,
    ForgetPod,
    MakeOrder,
    TellNotInjected,
    TellNotWhole,
    rescue_of,
    subject_of,
)
from crikpy.controller.attempts import Attempts
from crikpy.controller.counting import census
from crikpy.controller.planning import plan
from crikpy.controller.sighting import Sight
from crikpy.controller.viewing import ClusterView, KnownOrder, PlanSettings
from crikpy.errors import EvictionBlockedError, KubeError
from crikpy.kube.api import KubeApi
from crikpy.kube.events import EventRecorder
from crikpy.kube.pods import parse_pod
from crikpy.kube.raw import Json
from crikpy.kube.resources import PODS
from crikpy.kube.watching import Mirror
from crikpy.metrics import Metrics
from crikpy.model.nodes import Node
from crikpy.model.pods import Pod
from crikpy.settings import Settings

_log = logging.getLogger(__name__)

_TICK_S = 2.0

_GATHER_S = 0.05
"""How long a round waits for further changes after the first: a notice is often several. At least as long as the
last plan took, so that planning never takes more than half of the time."""

_ACTS = 32
"""Orders at once, and as many other acts beside them: in a storm no order waits for marks and evictions."""

_COMPLAIN_EVERY = 10
"""An act that keeps failing is logged the first time and then every so many times."""


class Rounds:
    """The work of a leader; made anew for every term.

    Args:
        api: the cluster.
        settings: on which plans depend.
        recorder: tells people.
        metrics: counted in.
        sight: nodes and orders; whoever calls keeps it current.
        attempts: when what may be tried again.
        tick_s: longest time between two rounds.
    """

    def __init__(
        self,
        api: KubeApi,
        settings: Settings,
        recorder: EventRecorder,
        metrics: Metrics,
        *,
        sight: Sight,
        attempts: Attempts | None = None,
        tick_s: float = _TICK_S,
    ) -> None:
        self._settings = PlanSettings.of(settings)
        self._actor = Actor(api, recorder, metrics, signs=self._settings.signs)
        self._metrics = metrics
        self._sight = sight
        self._pods: Mirror[Pod | None] = Mirror(api, PODS, parse_concerned, metrics=metrics)
        self._attempts = attempts or Attempts()
        self._tick_s = tick_s
        self._running: dict[str, asyncio.Task[None]] = {}
        self._for_orders, self._for_others = asyncio.Semaphore(_ACTS), asyncio.Semaphore(_ACTS)
        self._changed = asyncio.Event()
        self._warned: set[str] = set()
        self._told_apart: set[tuple[str, str]] = set()
        self._sees = False
        self._planning_s = 0.0

    async def run(self) -> None:
        """Lead until cancelled; whatever is under way has ended then."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pods.run())
                for mirror in (self._sight.nodes, self._sight.orders, self._pods):
                    group.create_task(self._hear(mirror))
                while True:
                    await self._wait_for_change()
                    self._round()
        finally:
            self._metrics.nodes.clear()  # whoever leads next counts
            self._metrics.pods.clear()
            for task in self._running.values():
                task.cancel()
            for task in list(self._running.values()):
                await stop(task)

    async def _hear(self, mirror: Mirror[Node] | Mirror[Pod | None] | Mirror[KnownOrder]) -> None:
        with mirror.subscribe() as changes:
            async for _, item in changes:
                if item is not None:  # most pods of most clusters are none of ours
                    self._changed.set()

    async def _wait_for_change(self) -> None:
        try:
            async with asyncio.timeout(self._tick_s):
                await self._changed.wait()
            await asyncio.sleep(max(_GATHER_S, self._planning_s))
        except TimeoutError:
            pass
        self._changed.clear()

    def _round(self) -> None:
        """Plan and begin what is not under way; without a full and current picture nothing is begun."""
        view = self.view()
        sees = view is not None
        if sees != self._sees:
            _log.info("the whole cluster is in sight" if sees else "the cluster is out of sight; nothing is begun")
            self._sees = sees
        if view is None:
            return
        self._census(view)
        began = time.monotonic()
        planned = plan(view)
        self._planning_s = time.monotonic() - began
        self._attempts.forget_except({action.key for action in planned})
        for action in planned:
            if action.key not in self._running and self._attempts.may_begin(action.key):
                self._running[action.key] = asyncio.create_task(self._attempt(action))

    def view(self) -> ClusterView | None:
        """Return the picture of the cluster as it is now; None while it is not complete or may be old."""
        if not (self._sight.complete and self._pods.synced and self._pods.reachable):
            return None
        seen = [pod for pod in self._pods.items.values() if pod is not None]
        pods = {pod.uid: pod for pod in seen if pod.opted_in}
        self._told_apart = {told for told in self._told_apart if told[0] in pods}
        self._warned &= pods.keys()
        return ClusterView(
            now=datetime.now(UTC),
            settings=self._settings,
            nodes=dict(self._sight.nodes.items),
            pods=pods,
            orders=self._sight.orders_in_force(),
            leaving=self._sight.orders_leaving(),
            warned=frozenset(self._warned),
            strangers={pod.uid: pod for pod in seen if not pod.opted_in},
            told_apart=frozenset(self._told_apart),
        )

    def _census(self, view: ClusterView) -> None:
        """Count nodes and pods by what can be done for them."""
        nodes, pods = census(view)
        for state, number in nodes.items():
            self._metrics.nodes.labels(state=state).set(number)
        for state, number in pods.items():
            self._metrics.pods.labels(state=state).set(number)

    async def _attempt(self, action: Action) -> None:
        """Carry out one action; its failure is its own."""
        with log.about(**subject_of(action)), tracing.joined(tracing.derived(rescue_of(action))):
            await self._attempt_about(action)

    async def _attempt_about(self, action: Action) -> None:
        began = time.time()
        try:
            async with self._for_orders if isinstance(action, MakeOrder) else self._for_others:
                await self._actor.perform(action)
            if isinstance(action, TellNotInjected):
                self._warned.add(action.pod.uid)
            if isinstance(action, TellNotWhole):
                self._told_apart.add((action.pod.uid, action.message))
            self._attempts.succeeded(action.key)
            _trace(action, began)
        except KubeError as fault:
            self._metrics.action_failures.labels(reason=fault.reason).inc()
            failures = self._attempts.failed(action.key)
            if failures % _COMPLAIN_EVERY == 1:
                level = logging.INFO if isinstance(fault, EvictionBlockedError) else logging.WARNING
                _log.log(level, "could not %s: %s", action.key, fault, extra={"failures": failures})
        except Exception:  # noqa: BLE001  # a defect of one act must not end all others
            _log.exception("could not %s for a defect of ours", action.key)
            self._attempts.failed(action.key)
        finally:
            del self._running[action.key]


def _trace(action: Action, began: float) -> None:
    """Tell of what was done in the trace of its rescue."""
    match action:
        case MakeOrder():
            heard = began if action.heard is None else action.heard.timestamp()
            tracing.past("order", began=heard, notice=action.order.spec.notice)
        case EvictPod() | DeletePod() | ForgetPod():
            tracing.past("evict", began=began, how=type(action).__name__)


def parse_concerned(raw: Json) -> Pod | None:
    """Read a pod; None for one that has not opted in and is in no group, of which nothing need be kept."""
    pod = parse_pod(raw)
    return pod if pod.opted_in or pod.group else None
