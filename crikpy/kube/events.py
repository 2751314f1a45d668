"""Events: what `kubectl describe` shows of what crikpy did and why.

Telling is free of risk: it never waits, never fails, and forgets the oldest when the API server is away for long.
Nothing may depend on an event having arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from crikpy import names
from crikpy.aio.clock import Deadline
from crikpy.errors import KubeConflictError, KubeError, KubeNotFoundError, KubeUnavailableError
from crikpy.kube.api import KubeApi
from crikpy.kube.backoff import Backoff
from crikpy.kube.raw import Json
from crikpy.kube.resources import CHECKPOINTS, EVENTS, NODES, PODS
from crikpy.kube.times import render_seconds
from crikpy.model.nodes import Node
from crikpy.model.orders import Order
from crikpy.model.pods import Pod

_log = logging.getLogger(__name__)

_LONGEST_MESSAGE: Final = 1024
"""Characters; client-go's own events are cut there too."""

_SAME_S: Final = 600.0
"""How long an event that is told again counts the first one up instead of becoming another."""

_OF_INTEREST_S: Final = 3600.0
"""How long an event is tried to be written; the API server keeps events for an hour."""

_QUEUED: Final = 1000
_REMEMBERED: Final = 1000
_FLUSH_S: Final = 2.0
_DEFAULT_NAMESPACE: Final = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The object that an event is about.

    Attributes:
        api_version: such as `v1`.
        kind: such as `Pod`.
        namespace: empty for kinds without namespaces; their events go to the namespace `default`.
        name: its name.
        uid: its UID.
        resource_version: of the object as it was seen; may be empty.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str = ""

    @classmethod
    def of_pod(cls, pod: Pod) -> Self:
        """Refer to a pod."""
        return cls(
            api_version=PODS.api_version,
            kind=PODS.kind,
            namespace=pod.namespace,
            name=pod.name,
            uid=pod.uid,
            resource_version=pod.resource_version,
        )

    @classmethod
    def of_node(cls, node: Node) -> Self:
        """Refer to a node."""
        return cls(
            api_version=NODES.api_version,
            kind=NODES.kind,
            namespace="",
            name=node.name,
            uid=node.uid,
            resource_version=node.resource_version,
        )

    @classmethod
    def of_order(cls, order: Order) -> Self:
        """Refer to a Checkpoint object."""
        return cls(
            api_version=CHECKPOINTS.api_version,
            kind=CHECKPOINTS.kind,
            namespace=order.namespace,
            name=order.name,
            uid=order.uid,
            resource_version=order.resource_version,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """One thing that was told; its name is that of the Event object if it becomes one of its own."""

    reference: Reference
    reason: str
    message: str
    warning: bool
    when: datetime
    name: str

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two of them the same event."""
        about = self.reference
        return about.kind, about.namespace, about.name, about.uid, self.reason, self.message, str(self.warning)

    @property
    def namespace(self) -> str:
        return self.reference.namespace or _DEFAULT_NAMESPACE


@dataclass(slots=True, kw_only=True)
class _Written:
    """An Event object that can be counted up."""

    name: str
    count: int
    until: float


class EventRecorder:
    """Queues events and writes them while `run` runs.

    Args:
        api: the API server.
        component: who speaks, such as `crikpy-agent`.
        host: on which node; may be empty.
        backoff: pauses while the API server is away.
    """

    def __init__(self, api: KubeApi, *, component: str, host: str, backoff: Backoff | None = None) -> None:
        self._api = api
        self._component = component
        self._host = host
        self._backoff = backoff or Backoff(first_s=1.0, longest_s=30.0)
        self._queue: deque[_Told] = deque(maxlen=_QUEUED)
        self._stir = asyncio.Event()
        self._written: OrderedDict[tuple[str, ...], _Written] = OrderedDict()
        self._lost = False

    def tell(self, reference: Reference, reason: str, message: str, *, warning: bool = False) -> None:
        """Queue an event; the same again within ten minutes counts the first one up.

        Only for the thread of the event loop.

        Args:
            reference: what it is about.
            reason: a CamelCase word.
            message: a sentence; cut after 1024 characters.
            warning: something that a person may want to act on.
        """
        if len(self._queue) == _QUEUED and not self._lost:
            self._lost = True
            _log.warning("events are lost: the API server has not taken the last %d", _QUEUED)
        self._queue.append(
            _Told(
                reference=reference,
                reason=reason,
                message=message[:_LONGEST_MESSAGE],
                warning=warning,
                when=datetime.now(UTC),
                name=f"{reference.name[:200].rstrip('-.')}.{uuid.uuid4().hex[:16]}",
            )
        )
        self._stir.set()

    async def run(self) -> None:
        """Write what is queued for ever; cancelled, it tries for two seconds to write the rest."""
        try:
            while True:
                await self._stir.wait()
                self._stir.clear()
                await self._write_all()
        finally:
            await self._flush()

    async def _write_all(self) -> None:
        """Write until the queue is empty; what cannot be written for now goes to its end."""
        while self._queue:
            told = self._queue[0]
            try:
                await self._write(told, None)
            except KubeUnavailableError:
                await self._backoff.pause()
                self._queue.rotate(-1)
                if (datetime.now(UTC) - told.when).total_seconds() < _OF_INTEREST_S:
                    continue
            else:
                self._backoff.reset()
                self._lost = False
            with contextlib.suppress(ValueError):  # so much came meanwhile that the queue has lost it
                self._queue.remove(told)

    async def _flush(self) -> None:
        limit = Deadline.after(_FLUSH_S)
        try:
            async with asyncio.timeout(_FLUSH_S):
                while self._queue:
                    await self._write(self._queue[0], limit)
                    self._queue.popleft()
        except (KubeUnavailableError, TimeoutError) as fault:
            _log.info("the last %d events are lost: %s", len(self._queue), fault)

    async def _write(self, told: _Told, deadline: Deadline | None) -> None:
        """Make an Event object, or count one up; what the API server refuses is logged and over.

        Raises:
            KubeUnavailableError: nobody knows whether it was written; writing it again does no harm.
        """
        try:
            await self._make_or_count(told, deadline)
        except KubeUnavailableError:
            raise
        except KubeConflictError:
            pass  # an earlier attempt, whose answer was lost
        except KubeError as fault:
            _log.info("the event %s of %s is not wanted: %s", told.reason, told.reference.name, fault)

    async def _make_or_count(self, told: _Told, deadline: Deadline | None) -> None:
        written = self._written.get(told.key)
        if written is not None and written.name != told.name and time.monotonic() < written.until:
            body = {"count": written.count + 1, "lastTimestamp": render_seconds(told.when)}
            try:
                await self._api.patch(EVENTS, written.name, body, namespace=told.namespace, deadline=deadline)
            except KubeNotFoundError:
                pass  # the API server keeps events for an hour, or somebody deleted it
            else:
                written.count += 1
                return
        self._written[told.key] = _Written(name=told.name, count=1, until=time.monotonic() + _SAME_S)
        self._written.move_to_end(told.key)
        while len(self._written) > _REMEMBERED:
            self._written.popitem(last=False)
        await self._api.create(EVENTS, self._render(told), namespace=told.namespace, deadline=deadline)

    def _render(self, told: _Told) -> Json:
        """Return the object (core/v1 Event, as client-go's recorder writes it)."""
        about = told.reference
        when = render_seconds(told.when)
        involved = {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "namespace": about.namespace,
            "name": about.name,
            "uid": about.uid,
            "resourceVersion": about.resource_version,
        }
        return {
            "metadata": {"name": told.name, "namespace": told.namespace},
            "involvedObject": {field: value for field, value in involved.items() if value},
            "reason": told.reason,
            "message": told.message,
            "type": "Warning" if told.warning else "Normal",
            "source": {"component": self._component, "host": self._host},
            "reportingComponent": f"{names.DOMAIN}/{self._component.removeprefix('crikpy-')}",
            "reportingInstance": self._host or self._component,
            "firstTimestamp": when,
            "lastTimestamp": when,
            "count": 1,
        }
