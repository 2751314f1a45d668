"""Removes from the store what Checkpoint objects that are being deleted stand for, where the controller says so.

The controller, which has no access to the store, names this node by a label. That may be any node, since the one
where a pod was saved is often gone. An object goes on its way only when its status says that this is done.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from crikpy import log, names
from crikpy.agent.following import follow
from crikpy.agent.reporting import Teller
from crikpy.agent.threads import in_thread
from crikpy.aio import retrying
from crikpy.aio.clock import Deadline
from crikpy.errors import CheckpointClaimedError, CrikpyError
from crikpy.flows.discarding import discard
from crikpy.kube.api import KubeApi
from crikpy.kube.backoff import Backoff
from crikpy.kube.changes import Change
from crikpy.kube.identity import workload_at
from crikpy.kube.orders import parse_order
from crikpy.kube.resources import CHECKPOINTS
from crikpy.kube.watching import Mirror
from crikpy.metrics import Metrics
from crikpy.model.orders import Order, OrderPhase
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.records import Claim

_log = logging.getLogger(__name__)

_WITHIN_S: Final = 60.0

_FIRST_PAUSE_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 60.0
_AT_ONCE: Final = 2
"""Of these, so that a namespace that is deleted with hundreds of them disturbs no save."""


class Discarder:
    """Follows the objects whose label names this node; each is worked on in a task of its own."""

    def __init__(
        self,
        api: KubeApi,
        store: ObjectStore,
        teller: Teller,
        metrics: Metrics,
        settings: Settings,
        *,
        instance: str = "",
        within_s: float = _WITHIN_S,
    ) -> None:
        """Make ready.

        Args:
            api: where the objects are.
            store: where the checkpoints are.
            teller: says what is done.
            metrics: counted in.
            settings: the node's name.
            instance: the machine's id, for claims.
            within_s: how long a store that is out of reach is asked at a time.
        """
        self._store = store
        self._teller = teller
        self._within_s = within_s
        self._claim = Claim.ours(instance=instance)
        selector = f"{names.LABEL_DISCARD_ON}={settings.agent.node}"
        self._mirror = Mirror(api, CHECKPOINTS, parse_order, metrics=metrics, label_selector=selector)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Work for ever; cancel to stop, which waits for the store's answer to what is under way."""
        await follow(self._mirror, self._take, self._tasks)

    def _take(self, change: Change, order: Order) -> None:
        task = self._tasks.get(order.uid)
        if change is Change.DELETED:
            if task is not None:
                task.cancel()
        elif task is None and order.deleted is not None and order.status.discarded is None:
            task = asyncio.create_task(self._guarded(order), name=f"discard {order}")
            self._tasks[order.uid] = task
            task.add_done_callback(lambda _: self._tasks.pop(order.uid, None))

    async def _guarded(self, order: Order) -> None:
        with log.about(**order.facts):
            try:
                await self._discard(order)
            except Exception:  # noqa: BLE001  # the others must not suffer for it
                _log.exception("an object could not be discarded for a defect in crikpy")

    async def _discard(self, order: Order) -> None:
        """Remove what an object stands for, however long the store is away; its deletion waits meanwhile."""
        if order.status.phase.in_use or not order.status.checkpoint:
            return
        backoff = Backoff(first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)
        told = False
        while True:
            try:
                async with self._turns:
                    await in_thread(None, self._remove, order)
            except CheckpointClaimedError:
                return  # a job is resumed from it just now; the next change of the object tells how that ended
            except CrikpyError as fault:
                if not told:
                    message = f"checkpoint {order.status.checkpoint} is not removed from the store yet: {fault}"
                    self._teller.tell_order(order, "DiscardFailed", message, warning=True)
                told = True
                await backoff.pause()
                continue
            break
        _log.info("a checkpoint was removed")
        self._teller.tell_discarded(order)

    def _remove(self, order: Order) -> None:
        first, checkpoint = workload_at(order.status.location, order), order.status.checkpoint
        settled = order.status.phase is not OrderPhase.COMPLETE

        def act() -> None:
            discard(self._store, first, checkpoint, self._claim, settled=settled)

        retrying.call(act, deadline=Deadline.after(self._within_s))
