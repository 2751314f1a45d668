"""Following objects: list, difference, watch, and again, whatever the API server does in between.

`watch_objects` is the eternal stream of changes, `Mirror` a parsed copy that it keeps current. Neither ends or
raises for an outage. No change is lost: what was deleted while the watch was away is found by comparing the next
list with what was known before.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from crikpy.aio.clock import Deadline
from crikpy.errors import KubeError, KubeExpiredError, KubeUnavailableError
from crikpy.kube.api import KubeApi
from crikpy.kube.asking import OPEN
from crikpy.kube.backoff import Backoff
from crikpy.kube.changes import Change, Contact, Known, Seen, Selection, Synced, key_of
from crikpy.kube.raw import Json
from crikpy.kube.resources import Resource
from crikpy.metrics import Metrics

_log = logging.getLogger(__name__)

T = TypeVar("T")

_BOOKMARK: Final = "BOOKMARK"


@dataclass(slots=True, kw_only=True)
class _Watcher:
    """One eternal watch: where it is, and how it stands with the server."""

    api: KubeApi
    selection: Selection
    metrics: Metrics
    backoff: Backoff
    known: Known = field(default_factory=Known)
    version: str = ""
    fault: str | None = None
    reachable: bool | None = None
    opened: float = math.inf

    async def follow(self) -> AsyncGenerator[Seen | Synced | Contact, None]:
        while True:
            self.opened = math.inf
            try:
                if not self.version:
                    async with aclosing(self._list()) as listed:
                        async for told in listed:
                            yield told
                async with aclosing(self._watch()) as watch:
                    async for told in watch:
                        yield told
                reason = "closed"
            except KubeExpiredError:
                self.version, reason = "", "expired"
            except KubeError as fault:
                reason = "silent" if self._is_silence(fault) else "broken"
                if reason == "broken" and (lost := self._lose(fault)) is not None:
                    yield lost
            self.metrics.watch_restarts.labels(resource=self.selection.resource.plural, reason=reason).inc()
            if time.monotonic() - self.opened >= self.backoff.longest_s:
                self.backoff.reset()
            await self.backoff.pause()

    async def _list(self) -> AsyncGenerator[Seen | Synced | Contact, None]:
        """Tell of a whole list, part by part: all pods of a large cluster are too much to hold at once."""
        pages = self.api.list_pages(self.selection)
        version = ""
        async with aclosing(pages):
            async for page in pages:
                if page.anew:
                    self.known.begin_list()
                for contact in self._regain():
                    yield contact
                for seen in self.known.take_listed(page.items):
                    yield seen
                version = page.resource_version
        for gone in self.known.end_list():
            yield gone
        self.version = version
        yield Synced()

    async def _watch(self) -> AsyncGenerator[Seen | Contact, None]:
        chosen = self.selection
        events = self.api.watch(
            chosen.resource,
            namespace=chosen.namespace,
            field_selector=chosen.field_selector,
            label_selector=chosen.label_selector,
            resource_version=self.version,
        )
        async with aclosing(events):
            async for event in events:
                kind, target = event["type"], event["object"]
                if kind == OPEN:
                    self.opened = time.monotonic()
                    for contact in self._regain():
                        yield contact
                    continue
                self.backoff.reset()
                if kind != _BOOKMARK:
                    take = self.known.take_deleted if kind == Change.DELETED else self.known.take
                    for seen in take(target):
                        yield seen
                self.version = target["metadata"]["resourceVersion"]

    def _is_silence(self, fault: KubeError) -> bool:
        """Say whether an open watch brought nothing for too long.

        That is a suspicion, no loss: where nothing happens the first bookmark can take two minutes. Whether the
        next watch can be opened tells.
        """
        return self.opened < math.inf and isinstance(fault.__cause__, TimeoutError)

    def _lose(self, fault: KubeError) -> Contact | None:
        """Log a loss of contact when its reason is new; returns what to tell when it was not lost before."""
        kind = type(fault).__name__
        if kind != self.fault:
            _log.warning("%s cannot be followed for now: %s", self.selection.resource, fault)
        was_reachable, self.reachable, self.fault = self.reachable, False, kind
        return None if was_reachable is False else Contact(fault=fault)

    def _regain(self) -> list[Contact]:
        if self.fault is not None:
            _log.info("%s can be followed again", self.selection.resource)
        was_reachable, self.reachable, self.fault = self.reachable, True, None
        return [] if was_reachable else [Contact(fault=None)]


def watch_objects(
    api: KubeApi, selection: Selection, *, metrics: Metrics, backoff: Backoff | None = None
) -> AsyncGenerator[Seen | Synced | Contact, None]:
    """Yield every change of the chosen objects for ever; the first list comes as ADDED ones.

    Never raises for an outage, a missing right or a kind that the cluster does not know yet: such are told as
    Contact, logged once, and tried again after pauses.
    """
    return _Watcher(api=api, selection=selection, metrics=metrics, backoff=backoff or Backoff()).follow()


class Mirror(Generic[T]):
    """A parsed copy of the chosen objects, kept current while `run` runs.

    Keys are `namespace/name`, or `name` for kinds without namespaces. The copy lags behind the server: who must be
    sure asks the server itself. When contact is lost the copy stays as it is, `reachable` says so. An object that
    `parse` raises for is left out and logged.

        mirror = Mirror(api, PODS, parse_pod, field_selector="spec.nodeName=n1", metrics=metrics)
        task = asyncio.create_task(mirror.run())
        await mirror.wait_synced(deadline)
        with mirror.subscribe() as changes:
            async for change, pod in changes: ...
    """

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        parse: Callable[[Json], T],
        *,
        metrics: Metrics,
        namespace: str = "",
        field_selector: str = "",
        label_selector: str = "",
        backoff: Backoff | None = None,
    ) -> None:
        self._selection = Selection(
            resource=resource, namespace=namespace, field_selector=field_selector, label_selector=label_selector
        )
        self._api = api
        self._parse = parse
        self._metrics = metrics
        self._backoff = backoff
        self._items: dict[str, T] = {}
        self._synced = asyncio.Event()
        self._fault: KubeError | None = None
        self._reachable = False
        self._queues: list[asyncio.Queue[tuple[Change, T]]] = []

    async def run(self) -> None:
        """Keep the copy current for ever; cancel to stop."""
        told = watch_objects(self._api, self._selection, metrics=self._metrics, backoff=self._backoff)
        async with aclosing(told):
            async for item in told:
                if isinstance(item, Seen):
                    self._take(item)
                elif isinstance(item, Contact):
                    self._fault, self._reachable = item.fault, item.fault is None
                else:
                    self._synced.set()

    @property
    def items(self) -> Mapping[str, T]:
        """The parsed objects by key, a live read-only view; copy it to iterate over it across an await."""
        return MappingProxyType(self._items)

    @property
    def synced(self) -> bool:
        """Whether a complete list has ever been taken in."""
        return self._synced.is_set()

    @property
    def reachable(self) -> bool:
        """Whether changes can be heard now."""
        return self._reachable

    async def wait_synced(self, deadline: Deadline) -> None:
        """Wait for the first complete list.

        Raises:
            KubeUnavailableError: it did not come in time; says why.
        """
        try:
            async with asyncio.timeout(deadline.remaining()):
                await self._synced.wait()
        except TimeoutError as late:
            raise KubeUnavailableError(
                f"the {self._selection.resource} could not be listed in time: {self._fault or 'no answer yet'}"
            ) from late

    @contextmanager
    def subscribe(self) -> Iterator[AsyncIterator[tuple[Change, T]]]:
        """Hear every change from now on, after an ADDED for each object that is there already.

        The iterator never ends. Changes wait in a queue without bound, so a subscriber hands long work on to
        tasks. Several may subscribe; leaving the context ends the subscription.
        """
        queue: asyncio.Queue[tuple[Change, T]] = asyncio.Queue()
        for item in self._items.values():
            queue.put_nowait((Change.ADDED, item))
        self._queues.append(queue)
        try:
            yield _drain(queue)
        finally:
            self._queues.remove(queue)

    def _take(self, seen: Seen) -> None:
        key = key_of(seen.object)
        if not seen.whole:
            self._forget(key)
            return
        try:
            item = self._parse(seen.object)
        except Exception:  # noqa: BLE001 - one odd object must not hide all others
            _log.exception("%s %s cannot be read and is left out", self._selection.resource.kind, key)
            self._forget(key)
            return
        if seen.change is Change.DELETED:
            self._forget(key, item)
            return
        change = Change.MODIFIED if key in self._items else Change.ADDED
        self._items[key] = item
        self._tell(change, item)

    def _forget(self, key: str, *last: T) -> None:
        """Take an object out; its last state is told where it is given, else the one that was known."""
        if key in self._items:
            known = self._items.pop(key)
            self._tell(Change.DELETED, last[0] if last else known)

    def _tell(self, change: Change, item: T) -> None:
        for queue in self._queues:
            queue.put_nowait((change, item))


async def _drain(queue: asyncio.Queue[tuple[Change, T]]) -> AsyncIterator[tuple[Change, T]]:
    while True:
        yield await queue.get()
