"""How much the jobs of this node have on its GPUs, for the plan: it has to be saved like memory.

nvidia-smi takes a second or more to answer, so that it is asked in the background, and what it said last stands
until it answers anew. A node without NVIDIA's driver asks nobody.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection
from typing import Final

from crikpy.aio.clock import Deadline
from crikpy.flows.gpus import node_tools
from crikpy.settings import Settings

_STANDS_S: Final = 30.0
_WAIT_S: Final = 1.0
_LONGEST_S: Final = 10.0


class DeviceSizes:
    """What nvidia-smi has said last."""

    def __init__(self, settings: Settings) -> None:
        self._tells = settings.gpu.driver_proc / "version"
        self._tools = node_tools(settings)
        self._used: dict[int, int] = {}
        self._asked_at = -_STANDS_S
        self._asking: asyncio.Task[None] | None = None

    async def of(self, launchers: Collection[int]) -> int:
        """Return how many bytes the jobs of some capsules have on GPUs, as far as is known; soon.

        Args:
            launchers: PIDs of their launchers.
        """
        if not self._tells.exists():
            return 0
        if self._asking is None and time.monotonic() - self._asked_at >= _STANDS_S:
            self._asking = asyncio.create_task(self._ask())
        if self._asking is not None:
            await asyncio.wait([self._asking], timeout=_WAIT_S)
        spaces = {space for pid in launchers if (space := _space(pid))}
        return sum(used for pid, used in self._used.items() if _space(pid) in spaces)

    async def _ask(self) -> None:
        try:
            used = await asyncio.to_thread(self._tools.memory_used, Deadline.after(_LONGEST_S))
            self._used = used or {}
        finally:
            self._asked_at, self._asking = time.monotonic(), None


def _space(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""
