"""One dump in a thread: within its share of the memory, tried again while that can help, its time taken.

A dump may take longer than this process has left, so that nobody who is cancelled waits for it; one that nobody
waits for any more lets its jobs run on.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from crikpy.agent.companies import MOST_MEMBERS_HERE, Room
from crikpy.aio import retrying
from crikpy.aio.threads import Pool
from crikpy.errors import CapsuleError, SettingsError
from crikpy.flows.company import Company
from crikpy.flows.fate import Fate
from crikpy.flows.modes import save
from crikpy.flows.reporting import Reporter
from crikpy.flows.saving import CheckpointOrder, Member, Saved
from crikpy.model.streams import TransferProgress
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.budget import RESERVED_BYTES, write_budget

_LEISURELY = 1.25
"""Storing that took so many times as long as the jobs stood still says little of what hurry could do."""

_TOLD_S = 2.0
"""Between two words on how far a dump is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dumped:
    """A complete checkpoint.

    Attributes:
        saved: its jobs, still stopped unless they run on.
        location: URL of the first member's folder in the store.
        frozen_s: how long they stood still, until now if they still do; seconds.
        total_s: from the beginning of the first attempt, seconds.
        moving_s: of these, how long memory was read and written; 0 where that is not known.
        attempts: how many it took.
        leisurely: a good part was stored while they ran on already, and hence in no hurry.
    """

    saved: Saved
    location: str
    frozen_s: float
    total_s: float
    moving_s: float
    attempts: int
    leisurely: bool


class Dumper:
    """Threads for dumps.

    Attributes:
        at_once: how many dumps there may be at once; the caller sees to it.
        room: for as many; a dump in company asks for it when it needs it, and waits for others without.
    """

    def __init__(self, store: ObjectStore, settings: Settings) -> None:
        self._store = store
        self._settings, self.at_once = shared_out(settings)
        self.room = Room(self.at_once)
        self._executor = Pool(self.at_once, thread_name_prefix="dump")
        self._accompanied = Pool(MOST_MEMBERS_HERE, thread_name_prefix="dump-together")
        self._working: set[asyncio.Future[Dumped]] = set()
        self._no_more = threading.Event()
        self._left = threading.Event()

    async def dump(
        self,
        members: Sequence[Member],
        order: CheckpointOrder,
        fate: Fate,
        reporter: Progress,
        company: Company | None = None,
    ) -> Dumped:
        """Save jobs; they stand still afterwards unless their fate lets them run on.

        In company that is tried once: the others would have to try again, too.

        Raises:
            CrikpyError: saying what failed; the jobs run on.
        """
        loop = asyncio.get_running_loop()
        executor = self._executor if company is None else self._accompanied
        work = loop.run_in_executor(executor, self._dump, members, order, fate, reporter, company)
        self._working.add(work)
        work.add_done_callback(self._working.discard)
        return await asyncio.shield(work)

    @property
    def idle(self) -> bool:
        """Whether no thread works."""
        return not self._working

    def begin_no_more(self) -> None:
        """Let attempts that are under way be the last ones."""
        self._no_more.set()

    def leave(self) -> None:
        """Let the jobs of dumps that are still under way run on whatever comes of these."""
        self._left.set()
        for executor in (self._executor, self._accompanied):
            executor.shutdown(wait=False, cancel_futures=True)

    def _dump(
        self,
        members: Sequence[Member],
        order: CheckpointOrder,
        fate: Fate,
        reporter: Progress,
        company: Company | None,
    ) -> Dumped:
        began, attempts = time.monotonic(), 0
        bounds = self._settings.store

        def attempt() -> Saved:
            nonlocal attempts
            attempts += 1
            if self._no_more.is_set():
                raise CapsuleError("the agent is being stopped")
            fate.begin()
            paced = replace(order, pace=fate.paced(bounds.upload_bytes_per_s, bounds.unhurried_nice))
            with contextlib.nullcontext() if company else self.room(order.deadline):
                return save(members, self._store, paced, self._settings, reporter, gate=fate, company=company)

        saved = attempt() if company else retrying.call(attempt, deadline=order.deadline)
        complete_at, frozen_s = time.monotonic(), reporter.frozen_s
        if fate.leave_running or self._left.is_set():
            saved.run_on()
        return Dumped(
            saved=saved,
            location=f"{self._store.url.rstrip('/')}/{members[0].workload}",
            frozen_s=frozen_s,
            total_s=complete_at - began,
            moving_s=reporter.moving_s,
            attempts=attempts,
            leisurely=reporter.moving_s > _LEISURELY * frozen_s,
        )


class Progress:
    """A reporter that passes everything on, and says from time to time how far the upload is.

    Attributes:
        frozen_at: monotonic time at which the jobs of the last attempt stood still, or 0.
        thawed_at: monotonic time at which they went on, or 0.
        moving_s: how long reading and writing its memory took, seconds; 0 until that is done.
    """

    def __init__(self, reporter: Reporter, tell: Callable[[TransferProgress], object]) -> None:
        self._reporter = reporter
        self._tell = tell
        self._told_at = time.monotonic()
        self.frozen_at = 0.0
        self.thawed_at = 0.0
        self.moving_s = 0.0

    @property
    def frozen_s(self) -> float:
        """How long they stood still, until now if they still do; seconds."""
        return (self.thawed_at or time.monotonic()) - self.frozen_at if self.frozen_at else 0.0

    def event(self, name: str, message: str, **facts: object) -> None:
        """Pass it on, and mark when the jobs stood still; a later attempt counts from its own beginning."""
        if name == "frozen" and isinstance(at := facts.get("at"), float):
            self.frozen_at, self.thawed_at = at, 0.0
        if name == "saves-itself":
            self.frozen_at = self.thawed_at = 0.0
        if name == "thawed":
            self.thawed_at = time.monotonic()
        if name == "streamed":
            self.moving_s = time.monotonic() - self.frozen_at
        self._reporter.event(name, message, **facts)

    def transfer(self, direction: str, progress: TransferProgress) -> None:
        """Pass it on."""
        self._reporter.transfer(direction, progress)
        if (now := time.monotonic()) - self._told_at >= _TOLD_S:
            self._told_at = now
            self._tell(progress)


def shared_out(settings: Settings) -> tuple[Settings, int]:
    """Return the settings of one dump among several, and how many there may be at once.

    The memory for the interpreter is needed once; the rest is shared. Where it does not suffice for so many dumps
    as are asked for, there are fewer.

    Raises:
        SettingsError: it does not suffice for any.
    """
    free = settings.store.memory_bytes - RESERVED_BYTES
    for at_once in range(settings.agent.dumps, 0, -1):
        rate = settings.store.upload_bytes_per_s
        share = replace(
            settings.store,
            memory_bytes=RESERVED_BYTES + free // at_once,
            staging_bytes=settings.store.staging_bytes // at_once,
            upload_bytes_per_s=max(1, rate // at_once) if rate else 0,
        )
        try:
            write_budget(share)
        except SettingsError:
            if at_once == 1:
                raise
            continue
        return replace(settings, store=share), at_once
    raise SettingsError("CRIKPY_AGENT_DUMPS must be at least 1")
