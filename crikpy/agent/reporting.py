"""What the agent tells the cluster: status of orders, events, metrics; told later when the API server is away.

Telling never waits and never fails: a save must not stand still for the sake of its record. Nothing is decided
here but the words.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from crikpy import names
from crikpy.agent.outbox import Outbox
from crikpy.aio.clock import Deadline
from crikpy.errors import CrikpyError, GpuStateLostError, KubeNotFoundError
from crikpy.flows.reporting import Reporter
from crikpy.kube.api import Json, KubeApi, PatchKind
from crikpy.kube.events import EventRecorder, Reference
from crikpy.kube.orders import parse_order, render_status
from crikpy.kube.resources import CHECKPOINTS, NODES
from crikpy.metrics import Metrics
from crikpy.model.orders import Order, OrderPhase, OrderStatus
from crikpy.model.pods import Pod
from crikpy.model.streams import TransferProgress

_log = logging.getLogger(__name__)

FAILED_EVENT = "CheckpointFailed"

_LOOKUP_S = 900.0
"""How long the order of a resumed checkpoint is looked for: there may be none, or its status is on its way."""

_MAY_FOLLOW = {
    OrderPhase.DUMPING: frozenset({OrderPhase.PENDING, OrderPhase.DUMPING, OrderPhase.COMPLETE}),
    OrderPhase.COMPLETE: frozenset(
        {OrderPhase.PENDING, OrderPhase.DUMPING, OrderPhase.COMPLETE, OrderPhase.EXPIRED}
    ),
    OrderPhase.EXPIRED: frozenset({OrderPhase.PENDING, OrderPhase.DUMPING, OrderPhase.EXPIRED}),
    OrderPhase.FAILED: frozenset({OrderPhase.PENDING, OrderPhase.DUMPING, OrderPhase.EXPIRED, OrderPhase.FAILED}),
}
"""After which phases we may write one, as the CRD has it; others belong to whoever has resumed the checkpoint."""


class Teller:
    """Everything that is told; every `tell_…` is called on the event loop, returns at once and never raises."""

    def __init__(
        self, api: KubeApi, events: EventRecorder, metrics: Metrics, *, node: str, outbox: Outbox | None = None
    ) -> None:
        self._api = api
        self._events = events
        self._metrics = metrics
        self._node = node
        self._outbox = outbox or Outbox()

    async def run(self) -> None:
        """Deliver for ever; cancel to stop."""
        await self._outbox.run()

    async def flush(self, deadline: Deadline) -> None:
        """Deliver what is left, until the deadline; `run` must have been stopped."""
        await self._outbox.flush(deadline)

    # Orders.

    def tell_status(self, namespace: str, name: str, status: OrderStatus) -> None:
        """Set the status of an order, whether or not the API server knows it yet; the newest is what counts.

        An order that has come further on another node keeps its phase and gets only our figures.
        """

        async def act(deadline: Deadline) -> None:
            raw = await self._api.get(CHECKPOINTS, name, namespace=namespace, deadline=deadline)
            order = parse_order(raw)
            becomes = merged(order.status, status)
            if becomes != order.status:
                await self._write(order, raw, becomes, deadline)
            if status.phase.final and becomes.phase is status.phase:
                failed = status.phase is not OrderPhase.COMPLETE
                reason = FAILED_EVENT if failed else status.reason
                self.tell_order(order, reason, status.message, warning=failed)

        self._outbox.put(_subject(namespace, name), act)

    def tell_discarded(self, order: Order) -> None:
        """Say that the store holds nothing any more for an object that is being deleted, so that it can go."""

        async def act(deadline: Deadline) -> None:
            try:
                raw = await self._api.get(CHECKPOINTS, order.name, namespace=order.namespace, deadline=deadline)
            except KubeNotFoundError:
                return
            found = parse_order(raw)
            if found.uid == order.uid and found.status.discarded is None:
                await self._write(found, raw, replace(found.status, discarded=datetime.now(UTC)), deadline)

        self._outbox.put(("discarded", order.uid), act)

    def appeared(self, namespace: str, name: str) -> None:
        """Say that the API server knows an order: what was to be told of it can be delivered now."""
        self._outbox.poke(_subject(namespace, name))

    async def _write(self, order: Order, raw: Json, status: OrderStatus, deadline: Deadline) -> None:
        """Write a status on condition that the order is as it was read."""
        conditions = (raw.get("status") or {}).get("conditions") or []
        body: Json = {
            "metadata": {"resourceVersion": order.resource_version},
            "status": render_status(status, conditions, datetime.now(UTC)),
        }
        await self._api.patch(
            CHECKPOINTS,
            order.name,
            body,
            namespace=order.namespace,
            subresource="status",
            field_manager=names.FIELD_MANAGER_AGENT,
            deadline=deadline,
        )

    # Restores.

    def tell_restoring(self, pod: Pod, *, checkpoint: str, origin_uid: str) -> None:
        """A pod begins to resume a checkpoint: the order that made it becomes Restoring."""
        message = f"{pod} resumes it on {self._node}"
        self._tell_resumption(pod, checkpoint, origin_uid, OrderPhase.RESTORING, "Restoring", message)

    def tell_restored(self, pod: Pod, *, checkpoint: str, origin_uid: str, seconds: float) -> None:
        """It goes on: event Restored, order Restored with restoredBy, metrics.

        Args:
            pod: the pod that goes on.
            checkpoint: the checkpoint's id.
            origin_uid: UID of the pod that it was taken of.
            seconds: from the claim to going on.
        """
        message = f"goes on from checkpoint {checkpoint}, resumed in {seconds:.1f} s"
        self._metrics.restores.labels(outcome="resumed").inc()
        self._metrics.restore_seconds.observe(seconds)
        self.tell_pod(pod, "Restored", message)
        self._tell_resumption(pod, checkpoint, origin_uid, OrderPhase.RESTORED, "Restored", f"{pod} {message}")

    def tell_restore_failed(self, pod: Pod, *, checkpoint: str, origin_uid: str, fault: CrikpyError) -> None:
        """It could not be resumed: event RestoreFailed, order Failed, metrics."""
        message = f"checkpoint {checkpoint} could not be resumed: {fault}"
        self._metrics.restores.labels(outcome=fault.reason).inc()
        self.tell_pod(pod, "RestoreFailed", message, warning=True)
        self._tell_resumption(pod, checkpoint, origin_uid, OrderPhase.FAILED, fault.reason, f"{pod}: {message}")

    def tell_cold_start(self, pod: Pod, message: str, *, after_failure: bool = False) -> None:
        """It starts from the beginning: event ColdStart, a warning after a failure (which was counted then)."""
        if not after_failure:
            self._metrics.restores.labels(outcome="cold").inc()
        self.tell_pod(pod, "ColdStart", message, warning=after_failure)

    def _tell_resumption(
        self, pod: Pod, checkpoint: str, origin_uid: str, phase: OrderPhase, reason: str, message: str
    ) -> None:
        """Bring every order forward that led to a checkpoint; there can be several, or none."""

        async def act(deadline: Deadline) -> None:
            found = await self._api.list(
                CHECKPOINTS,
                namespace=pod.namespace,
                label_selector=f"{names.LABEL_POD_UID}={origin_uid}",
                deadline=deadline,
            )
            ours = [
                (order, raw) for raw in found.items if (order := parse_order(raw)).status.checkpoint == checkpoint
            ]
            if not ours:
                raise KubeNotFoundError(f"no order of {pod.namespace} says that it made checkpoint {checkpoint}")
            for order, raw in ours:
                status = resumed(order.status, phase, reason, message, by=f"{pod}/{pod.uid}")
                if status != order.status:
                    await self._write(order, raw, status, deadline)
                    self.tell_order(order, reason, message, warning=phase is OrderPhase.FAILED)

        self._outbox.put(("resumption", pod.namespace, origin_uid, checkpoint), act, keep_s=_LOOKUP_S)

    # The node.

    def tell_condition(self, condition: Json) -> None:
        """Set a condition of our node; the time of its last change is kept where nothing has changed."""

        async def act(deadline: Deadline) -> None:
            node = await self._api.get(NODES, self._node, deadline=deadline)
            before = _condition(node, condition["type"])
            said = dict(condition)
            if before is not None and _says_the_same(before, condition):
                said["lastTransitionTime"] = before.get("lastTransitionTime") or condition["lastTransitionTime"]
            await self._api.patch(
                NODES,
                self._node,
                {"status": {"conditions": [said]}},
                subresource="status",
                kind=PatchKind.STRATEGIC,  # conditions of others stay: the list is merged by type
                field_manager=names.FIELD_MANAGER_AGENT,
                deadline=deadline,
            )

        self._outbox.put(("condition", condition["type"]), act)

    def tell_label(self, name: str, value: str | None) -> None:
        """Set a label of our node, or take it away."""
        self._tell_metadata("labels", name, value)

    def tell_annotation(self, name: str, value: str) -> None:
        """Set an annotation of our node."""
        self._tell_metadata("annotations", name, value)

    def _tell_metadata(self, field: str, name: str, value: str | None) -> None:
        async def act(deadline: Deadline) -> None:
            body: Json = {"metadata": {field: {name: value}}}
            manager = names.FIELD_MANAGER_AGENT
            await self._api.patch(NODES, self._node, body, field_manager=manager, deadline=deadline)

        self._outbox.put((field, name), act)

    # Events.

    def tell_pod(self, pod: Pod, reason: str, message: str, *, warning: bool = False) -> None:
        """Write an event on a pod."""
        _say(message, warning=warning, **pod.facts, reason=reason)
        self._events.tell(Reference.of_pod(pod), reason, message, warning=warning)

    def tell_node(self, reason: str, message: str, *, warning: bool = False) -> None:
        """Write an event on our node."""
        _say(message, warning=warning, node=self._node, reason=reason)
        # As kubelet does it: the name stands for the UID, and kubectl describe looks for both.
        node = Reference(api_version="v1", kind="Node", namespace="", name=self._node, uid=self._node)
        self._events.tell(node, reason, message, warning=warning)

    def tell_order(self, order: Order, reason: str, message: str, *, warning: bool = False) -> None:
        """Write an event on an order."""
        self._events.tell(Reference.of_order(order), reason, message, warning=warning)

    # Flows.

    def reporter(self, pod: Pod, *, order: str = "") -> Reporter:
        """Return a reporter for one flow, that logs with the pod's name and counts transferred bytes.

        What the pod's owner has to know by the way becomes an event of the pod.
        """
        facts = {"pod": str(pod), "order": order} if order else {"pod": str(pod)}
        loop = asyncio.get_running_loop()

        def tell(reason: str, message: str) -> None:
            with contextlib.suppress(RuntimeError):  # the agent has ended
                loop.call_soon_threadsafe(partial(self.tell_pod, pod, reason, message, warning=True))

        return _FlowReporter(self._metrics, facts, tell)


class _FlowReporter:
    """Hears one flow, in whatever threads."""

    def __init__(self, metrics: Metrics, facts: dict[str, str], tell: Callable[[str, str], None]) -> None:
        self._metrics = metrics
        self._tell = tell
        self._facts = facts
        self._lock = threading.Lock()
        self._counted: dict[str, int] = {}

    def event(self, name: str, message: str, **facts: object) -> None:
        """Log it; what its owner alone can help is told on the pod."""
        said = {f"fact_{key}" if key in _RESERVED else key: value for key, value in facts.items()}
        _log.info(message, extra={**said, **self._facts, "event": name})
        if name in _TOLD:
            self._tell(_TOLD[name], message)

    def transfer(self, direction: str, progress: TransferProgress) -> None:
        """Count what has moved since the last time; a number that falls is that of a new transfer."""
        with self._lock:
            before = self._counted.get(direction, 0)
            self._counted[direction] = progress.wire_bytes
        moved = progress.wire_bytes - before if progress.wire_bytes >= before else progress.wire_bytes
        self._metrics.transferred_bytes.labels(direction=direction).inc(moved)


_TOLD: Final = {
    "gpu-lost": GpuStateLostError.reason,
    "hook-failed": "HookFailed",
    "signal-not-sent": "SignalNotSent",
    "saves-itself": "SavesItself",
}
"""Reasons of the events by which owners hear of what a flow says."""

_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def merged(current: OrderStatus, told: OrderStatus) -> OrderStatus:
    """Return what an order's status becomes when we tell ours: what others wrote after us is kept."""
    if not current.phase.known:
        return current
    told = replace(told, discarded=current.discarded)
    if current.phase in _MAY_FOLLOW.get(told.phase, frozenset()):
        return told
    if not told.checkpoint or current.checkpoint != told.checkpoint:
        return current
    return replace(
        told,
        phase=current.phase,
        reason=current.reason,
        message=current.message,
        restored_by=current.restored_by,
    )


def resumed(current: OrderStatus, phase: OrderPhase, reason: str, message: str, *, by: str) -> OrderStatus:
    """Return the status of an order whose checkpoint is being resumed, or has been for good or for ill."""
    if not current.phase.known or current.phase in (OrderPhase.RESTORED, OrderPhase.FAILED):
        return current
    restored_by = by if phase is OrderPhase.RESTORED else current.restored_by
    return replace(current, phase=phase, reason=reason, message=message, restored_by=restored_by)


def _subject(namespace: str, name: str) -> tuple[str, ...]:
    return ("order", namespace, name)


def _condition(node: Json, kind: str) -> Json | None:
    conditions = (node.get("status") or {}).get("conditions") or []
    return next((found for found in conditions if found.get("type") == kind), None)


def _says_the_same(before: Json, condition: Json) -> bool:
    """Say whether a condition repeats what stands there; of readiness, other words are no change."""
    told = ("status", "message") if condition["type"] == names.CONDITION_NOTICE else ("status",)
    return all(before.get(field) == condition[field] for field in told)


def _say(message: str, *, warning: bool, **facts: object) -> None:
    _log.log(logging.WARNING if warning else logging.INFO, message, extra=facts)
