"""How much of a pod there is to be saved: what its jobs hold, and how much of that is new since the last time.

The kernel's own counters say what is held: nobody's memory is read, and no lock of its owner's is taken. What is
new nobody can say before; what was new the last times stands for it. Kept by the process only.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from crikpy.agent.device_sizes import DeviceSizes
from crikpy.agent.sessions import PodSession
from crikpy.capsule import procfs
from crikpy.model import manifest
from crikpy.model.saving import Mode
from crikpy.settings import MIB

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_LOOK_S: Final = 1.0
_ASSUMED_BYTES: Final = 1024 * MIB
"""Of a pod that neither /proc nor an earlier checkpoint tells of."""

_MOST_PODS: Final = 1024
_KIB: Final = 1024
_COUNTER: Final = re.compile(r"(\d+) kB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much there is to be saved of a pod.

    Attributes:
        memory: bytes to be read.
        new: bytes of them that are expected to be new to the store; all of them where nobody knows.
        least_new: bytes of them that are new at best; 0 where nobody knows.
    """

    memory: int
    new: int
    least_new: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """The last checkpoint of a pod that this process has made.

    Attributes:
        completed: when it was, aware UTC.
        at: the same, monotonic.
        memory: bytes of all its images.
        new: bytes of them that were new to the store.
        held: bytes of memory that the jobs held, as they were counted before.
        since_s: seconds since the checkpoint before; None when there was none.
    """

    completed: datetime
    at: float
    memory: int
    new: int
    held: int
    since_s: float | None = None


class Sizes:
    """Knows the sizes of this node's pods."""

    def __init__(self, devices: DeviceSizes | None = None) -> None:
        """Know nothing yet.

        Args:
            devices: says what is on GPUs, which goes into memory before it is saved; None where nobody does.
        """
        self._devices = devices
        self._pasts: OrderedDict[str, Past] = OrderedDict()
        self._held: OrderedDict[str, int] = OrderedDict()

    async def of(self, session: PodSession) -> Size:
        """Return how much there is to be saved of a pod; soon, though it be a guess."""
        if session.saving.mode is Mode.APPLICATION:  # files alone, and nobody knows which
            return estimate(None, self._pasts.get(session.uid), time.monotonic())
        launchers = [capsule.launcher_pid for capsule in session.capsules.values()]
        try:
            async with asyncio.timeout(_LOOK_S):
                held = await asyncio.to_thread(held_bytes, launchers)
        except TimeoutError:
            _log.warning("nobody says in time how much memory a pod holds", extra={"pod": str(session)})
            held = None
        if held is not None and self._devices is not None:
            held += await self._devices.of(launchers)
        if held is not None:
            _put(self._held, session.uid, held)
        return estimate(held, self._pasts.get(session.uid), time.monotonic())

    def last(self, pod_uid: str) -> Past | None:
        """Return the last checkpoint of a pod, as far as this process knows."""
        return self._pasts.get(pod_uid)

    def remember(self, pod_uid: str, sizes: Sequence[manifest.Sizes]) -> Past:
        """Remember a checkpoint that was just made, by the sizes of its parts."""
        memory, at = sum(size.image_bytes for size in sizes), time.monotonic()
        before = self._pasts.get(pod_uid)
        past = Past(
            completed=datetime.now(UTC),
            at=at,
            memory=memory,
            new=memory - sum(size.zero_bytes + size.reused_bytes for size in sizes),
            held=self._held.get(pod_uid, memory),
            since_s=None if before is None else at - before.at,
        )
        _put(self._pasts, pod_uid, past)
        return past


def estimate(held: int | None, past: Past | None, now: float) -> Size:
    """Return how much there is to be saved.

    What was new the last time is so again, and more of it when more time has passed; but a job that writes the
    same memory over and over may have written all of it in less time.

    Args:
        held: bytes of memory that the jobs hold now; None when nobody knows.
        past: the last checkpoint.
        now: monotonic time.
    """
    if past is None:
        memory = _ASSUMED_BYTES if held is None else held
        return Size(memory=memory, new=memory, least_new=0)
    # Files travel too, and were not counted.
    memory = past.memory if held is None else held + max(0, past.memory - past.held)
    if past.since_s is None or past.since_s <= 0:
        return Size(memory=memory, new=memory, least_new=0)
    share = (now - past.at) / past.since_s
    return Size(
        memory=memory,
        new=min(memory, int(past.new * max(1.0, share))),
        least_new=min(memory, int(past.new * share)),
    )


def held_bytes(launchers: Collection[int]) -> int | None:
    """Return how many bytes of memory the jobs of some capsules hold; None when there are none.

    Memory that processes share counts once where it is shared by design (shmem), the largest mapping for all; what
    is only still shared since a fork counts for each.

    Args:
        launchers: PIDs of their launchers.
    """
    spaces = {space for pid in launchers if (space := _space(pid))}
    anonymous = shared = 0
    found = False
    for entry in Path("/proc").iterdir() if spaces else ():
        if not entry.name.isdigit() or int(entry.name) in launchers or _space(int(entry.name)) not in spaces:
            continue
        try:
            counters = _counters(procfs.read_status(entry))
        except OSError:
            continue  # it has just ended
        found = True
        anonymous += counters.get("RssAnon", 0) + counters.get("VmSwap", 0)
        shared = max(shared, counters.get("RssShmem", 0))
    return anonymous + shared if found else None


def _space(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _counters(status: dict[str, str]) -> dict[str, int]:
    """Return the counters of /proc/PID/status that are given in kB, in bytes."""
    found = ((name, _COUNTER.fullmatch(value)) for name, value in status.items() if name != "Name")
    return {name: int(match[1]) * _KIB for name, match in found if match}


def _put(memory: OrderedDict[str, _T], key: str, value: _T) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _MOST_PODS:
        memory.popitem(last=False)
