"""The eternal look at the metadata service: every notice once, its withdrawal too, whatever happens in between.

Polling is all that IMDS offers. Nothing is decided here; and nothing here ends the watch, since a machine whose
metadata service is away for a while is interrupted like any other.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from crikpy.ec2.imds import MetadataClient
from crikpy.ec2.notices import SOURCES, Source, translate
from crikpy.errors import MetadataError
from crikpy.metrics import Metrics
from crikpy.model.notices import InterruptionNotice, Withdrawn
from crikpy.settings import NoticeSettings

_log = logging.getLogger(__name__)

_WITHDRAWN_AFTER = 3
"""Looks in succession that miss a notice before it counts as withdrawn: a job runs on and a node is used again on
its account, so one odd answer is not enough."""

_LONGEST_PAUSE_S = 5.0
"""Cap of the back-off: AWS advises to look every 5 s, and an outage can end just before a notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What one round over all sources found.

    Attributes:
        notices: in the order of SOURCES.
        read: the sources that could be read and understood, as notices name them.
        faults: by the source's name, those that could not be read or understood.
        reachable: whether the service answered anything.
    """

    notices: tuple[InterruptionNotice, ...] = ()
    read: frozenset[str] = frozenset()
    faults: dict[str, MetadataError] = field(default_factory=dict)
    reachable: bool = True


async def watch_notices(
    client: MetadataClient, settings: NoticeSettings, *, metrics: Metrics
) -> AsyncIterator[InterruptionNotice | Withdrawn]:
    """Yield each notice once, at the first look that finds it; never ends and never raises for an outage.

    A notice that a source which answers no longer announces is yielded once more as withdrawn; should it come
    back after that, it is new. The watch stands still while its consumer works on a notice, so a consumer that
    takes long hands the notice on. Does nothing for ever where the settings switch the metadata service off.
    """
    if not settings.imds_enabled:
        _log.info("the metadata service is switched off by settings; no interruption notices come from it")
        metrics.metadata_reachable.set(math.nan)  # 0 would look like an outage
        await asyncio.Event().wait()
    standing = _Standing()
    complaints = _Complaints(metrics)
    longest_s = max(_LONGEST_PAUSE_S, settings.poll_interval_s)
    pause_s = settings.poll_interval_s
    while True:
        began = time.monotonic()
        look = await _look(client)
        complaints.note(look)
        for notice in standing.begun(look):
            strength = "final" if notice.final else "advice"
            metrics.notices.labels(trigger=notice.trigger.value, strength=strength).inc()
            yield notice
        for notice in standing.ended(look):
            yield Withdrawn(notice=notice)
        pause_s = settings.poll_interval_s if look.reachable else min(2 * pause_s, longest_s)
        await asyncio.sleep(max(0.0, began + pause_s - time.monotonic()))


async def _look(client: MetadataClient) -> _Look:
    """Ask every source at once; one that fails hides no other."""
    try:
        instance = await client.instance_id()
    except MetadataError as fault:
        return _Look(faults={"instance-id": fault}, reachable=False)
    found = await asyncio.gather(*(_read(client, source, instance) for source in SOURCES))
    return _Look(
        notices=tuple(notice for notices, _, _ in found for notice in notices),
        read=frozenset(
            f"imds:{source.name}" for source, (_, fault, _) in zip(SOURCES, found, strict=True) if fault is None
        ),
        faults={
            source.name: fault for source, (_, fault, _) in zip(SOURCES, found, strict=True) if fault is not None
        },
        reachable=any(answered for _, _, answered in found),
    )


async def _read(
    client: MetadataClient, source: Source, instance: str
) -> tuple[tuple[InterruptionNotice, ...], MetadataError | None, bool]:
    """Return a source's notices, what was wrong with it, and whether it answered at all."""
    try:
        payload = await client.get(source.path)
    except MetadataError as fault:
        return (), fault, False
    if payload is None:
        return (), None, True
    try:
        return translate(source, payload, instance=instance, seen=datetime.now(UTC)), None, True
    except MetadataError as fault:
        return (), fault, True


class _Standing:
    """The notices in force, and how often in succession each has been missed."""

    def __init__(self) -> None:
        self._notices: dict[str, InterruptionNotice] = {}
        self._missed: Counter[str] = Counter()

    def begun(self, look: _Look) -> list[InterruptionNotice]:
        """Take a look's new notices and return them."""
        fresh = [notice for notice in look.notices if notice.id not in self._notices]
        self._notices.update((notice.id, notice) for notice in fresh)
        return fresh

    def ended(self, look: _Look) -> list[InterruptionNotice]:
        """Drop the notices that have been missed often enough, by sources that were read, and return them."""
        seen = {notice.id for notice in look.notices}
        for notice in self._notices.values():
            if notice.id in seen:
                del self._missed[notice.id]
            elif notice.source in look.read:
                self._missed[notice.id] += 1
        gone = [notice for notice in self._notices.values() if self._missed[notice.id] >= _WITHDRAWN_AFTER]
        for notice in gone:
            del self._notices[notice.id], self._missed[notice.id]
        return gone


class _Complaints:
    """Says what changed since the last look, and only that: an outage is two lines, not one a second."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._reachable: bool | None = None
        self._faulty: frozenset[str] = frozenset()

    def note(self, look: _Look) -> None:
        """Log and measure the difference to the look before."""
        if look.reachable != self._reachable:
            self._say_reachable(look)
            self._reachable = look.reachable
        self._metrics.metadata_reachable.set(1 if look.reachable else 0)
        if look.reachable:
            self._say_sources(look.faults)

    def _say_reachable(self, look: _Look) -> None:
        if look.reachable:
            _log.info("the metadata service answers; interruption notices are watched for")
            return
        reason = next(iter(look.faults.values()))
        _log.warning("no interruption notices for now: %s", reason)

    def _say_sources(self, faults: dict[str, MetadataError]) -> None:
        for name, fault in faults.items():
            if name not in self._faulty:
                facts = {"payload": fault.detail} if fault.detail else {}
                _log.warning("%s is of no use for now: %s", name, fault, extra=facts)
        for name in sorted(self._faulty - faults.keys()):
            _log.info("%s can be read again", name)
        self._faulty = frozenset(faults)
