"""Which sources of interruption notices are on, and whether each of them works.

It is said once at the start, in one line of the log for each, and again whenever it changes; the metric
`crikpy_source_working` says it all the time. What the sources tell is hearing's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Final

from crikpy.ec2.polling import PollSource
from crikpy.ec2.queue import QueueSource
from crikpy.ec2.sources import Source
from crikpy.errors import CrikpyError
from crikpy.kube.signals import read_signs
from crikpy.metrics import Metrics
from crikpy.settings import Settings

_log = logging.getLogger(__name__)

_CHECK_EVERY_S: Final = 300.0
"""A permission that was taken away shows here before the next interruption does."""


@contextlib.asynccontextmanager
async def sources_of(settings: Settings, metrics: Metrics) -> AsyncIterator[Sequence[Source]]:
    """Make the sources that are switched on, and close them in the end. No request is made.

    Raises:
        SettingsError: a source cannot be set up like this.
    """
    async with contextlib.AsyncExitStack() as stack:
        sources: list[Source] = []
        if settings.sources.queue_url:
            sources.append(await stack.enter_async_context(QueueSource(settings.sources, metrics)))
        if settings.sources.poll_enabled:
            sources.append(await stack.enter_async_context(PollSource(settings.sources, metrics)))
        yield sources


async def watch_sources(sources: Sequence[Source], settings: Settings, metrics: Metrics) -> None:
    """Say what is on and what is off, and go on checking what is on until cancelled."""
    _tell_plain_ones(settings)
    said: dict[str, str] = {}
    while True:
        await asyncio.gather(*(_check(source, said, metrics) for source in sources))
        await asyncio.sleep(_CHECK_EVERY_S)


def _tell_plain_ones(settings: Settings) -> None:
    """Say what needs no check: what is off, and what the API server tells."""
    signs = read_signs(settings.signals)
    _log.info("source agents: on, each node's agent asks its own metadata service")
    if signs is None:
        _log.info("source nodes: off (CRIKPY_SIGNALS_ENABLED)")
    else:
        _log.info("source nodes: on, %d taints, kubelet's shutdown and deletion tell that a node goes", len(signs))
    if not settings.sources.queue_url:
        _log.info("source queue: off (CRIKPY_SOURCES_QUEUE_URL)")
    if not settings.sources.poll_enabled:
        _log.info("source poll: off (CRIKPY_SOURCES_POLL_ENABLED)")


async def _check(source: Source, said: dict[str, str], metrics: Metrics) -> None:
    try:
        found, works = await source.check(), True
    except CrikpyError as fault:
        found, works = str(fault), False
    metrics.source_working.labels(source=source.name).set(works)
    kind = "works" if works else found
    if said.get(source.name) == kind:
        return
    said[source.name] = kind
    if works:
        _log.info("source %s: on, %s", source.name, found)
    else:
        _log.error("source %s: on, but it does not work: %s", source.name, found)
