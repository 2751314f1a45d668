"""Removes checkpoints that nobody will resume any more, after each new one, when nothing more pressing goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from crikpy.agent.threads import in_thread
from crikpy.aio import retrying
from crikpy.aio.clock import Deadline
from crikpy.errors import CrikpyError
from crikpy.flows.forgetting import forget_sets
from crikpy.flows.gathering import thin_out
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore

_log = logging.getLogger(__name__)

_WITHIN_S: Final = 120.0
"""How long a store that is out of reach is asked again; what is left goes with the next checkpoint."""

_LOOK_S: Final = 1.0
_MOST_WAITING: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Surplus:
    workloads: tuple[Workload, ...]
    keep: int
    group: str
    member: str


class Retention:
    """Thins out, one pod after the other."""

    def __init__(self, store: ObjectStore, busy: Callable[[], bool]) -> None:
        """Make ready.

        Args:
            store: where the checkpoints are.
            busy: whether a dump is under way or waits, which has precedence.
        """
        self._store = store
        self._busy = busy
        self._waiting: dict[str, _Surplus] = {}
        self._news = asyncio.Event()

    def thin_out(
        self, pod_uid: str, workloads: Sequence[Workload], keep: int, *, group: str = "", member: str = ""
    ) -> None:
        """Have the checkpoints of a pod thinned out soon; the newest `keep` complete ones stay.

        Where it is in a group, what was said about sets that are no more goes as well; `member` is its workload.
        """
        if len(self._waiting) < _MOST_WAITING:
            self._waiting[pod_uid] = _Surplus(workloads=tuple(workloads), keep=keep, group=group, member=member)
            self._news.set()

    async def run(self) -> None:
        """Thin out for ever; cancel to stop."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                if self._busy():
                    await asyncio.sleep(_LOOK_S)
                    continue
                pod_uid = next(iter(self._waiting))
                await self._thin_out(pod_uid, self._waiting.pop(pod_uid))

    async def _thin_out(self, pod_uid: str, surplus: _Surplus) -> None:
        def act() -> int:
            removed = thin_out(self._store, surplus.workloads, pod_uid, surplus.keep)
            if surplus.group:
                forget_sets(self._store, surplus.workloads, surplus.group, surplus.member)
            return removed

        try:
            removed = await in_thread(None, retrying.call, act, deadline=Deadline.after(_WITHIN_S))
        except CrikpyError as fault:
            _log.warning("old checkpoints stay for now: %s", fault, extra={"pod_uid": pod_uid})
            return
        if removed:
            _log.info("old checkpoints were removed", extra={"pod_uid": pod_uid, "removed": removed})
