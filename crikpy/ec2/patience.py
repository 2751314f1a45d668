"""How a source bears an outage: pauses that grow, and one line in the log for each change."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from crikpy.errors import CrikpyError
from crikpy.metrics import Metrics

_log = logging.getLogger(__name__)

_FIRST_S: Final = 1.0
_LONGEST_S: Final = 30.0
"""Notices are two minutes long."""


class Patience:
    """What one source has borne in succession.

    Args:
        name: the source, or a part of it.
        metrics: told whether it works.
    """

    def __init__(self, name: str, metrics: Metrics) -> None:
        self._name = name
        self._working = metrics.source_working.labels(source=name)
        self._pause_s = 0.0
        self._fault = ""

    def worked(self) -> None:
        """Note a success."""
        self._working.set(1)
        if self._fault:
            _log.info("source %s works again", self._name)
        self._pause_s, self._fault = 0.0, ""

    def failed(self, fault: CrikpyError) -> None:
        """Note a failure."""
        self._working.set(0)
        if type(fault).__name__ != self._fault:
            _log.warning("source %s does not work for now: %s", self._name, fault)
        self._pause_s = min(max(_FIRST_S, 2 * self._pause_s), _LONGEST_S)
        self._fault = type(fault).__name__

    async def pause(self) -> None:
        """Wait a while after a failure, longer after several, never as long as others that failed with us."""
        await asyncio.sleep(self._pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # only spreads requests
