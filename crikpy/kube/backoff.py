"""Pauses between attempts that have no end: longer each time, never the same on two machines."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Backoff:
    """Pauses that double up to a longest one; half of each is chance, so that a thousand agents spread out.

    Attributes:
        first_s: the first pause, in seconds.
        longest_s: the longest. An outage can end just before a notice comes, so it is short.
        sleep: what waits; tests give another.
    """

    first_s: float = 0.5
    longest_s: float = 10.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _next_s: float = field(default=0.0, init=False)

    async def pause(self) -> None:
        """Wait."""
        whole_s = max(self.first_s, self._next_s)
        self._next_s = min(2 * whole_s, self.longest_s)
        await self.sleep(whole_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, keeps no secret

    def reset(self) -> None:
        """Begin with the first pause again: the last attempt went well."""
        self._next_s = 0.0
