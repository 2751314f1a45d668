"""Tasks that are ended in order: whoever stops one waits until it is over, and its failure is not lost."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

_log = logging.getLogger(__name__)


async def stop(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has really ended; its own failure is logged, not raised."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and (fault := task.exception()) is not None:
        _log.warning("a stopped task had failed: %s", fault)
