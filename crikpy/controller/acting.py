"""Carrying out a plan, one action at a time, and telling people what was done.

Every act asks the API server for the object as it is now, or names the object by its UID or version, so that a
plan made from an old picture does no harm. What is done already counts as done. Whatever else goes wrong is
raised: whoever calls tries again.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime

from crikpy import names, tracing
from crikpy.controller.actions import (
    Action,
    DeleteOrder,
    DeletePod,
    DiscardOn,
    EvictPod,
    ExpireOrder,
    ForgetPod,
    KeepOrder,
    MakeOrder,
    MarkNode,
    RecreatePod,
    ReleaseOrder,
    SettleOrder,
    TellNotInjected,
    TellNotWhole,
    UndoNode,
    WithdrawReport,
)
from crikpy.controller.bare import BarePods
from crikpy.controller.marking import render_marks
from crikpy.controller.releasing import Releases
from crikpy.errors import EvictionBlockedError, KubeConflictError, KubeError, KubeNotFoundError
from crikpy.kube.api import KubeApi, PatchKind
from crikpy.kube.events import EventRecorder, Reference
from crikpy.kube.nodes import parse_node, render_report_patch
from crikpy.kube.orders import parse_order, render_order, render_status
from crikpy.kube.raw import Json, items, mapping
from crikpy.kube.resources import CHECKPOINTS, NODES, PODS
from crikpy.kube.signals import Signs, notices_of
from crikpy.kube.times import render_seconds
from crikpy.metrics import Metrics
from crikpy.model.nodes import Node
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.model.orders import Order, OrderPhase
from crikpy.model.pods import Pod

_log = logging.getLogger(__name__)

_CONFLICTS = 5
"""Attempts to change an object that others change at the same time."""

_DISRUPTION_REASON = "NodeInterruption"
"""Reason of the condition DisruptionTarget that we write; Kubernetes' own are EvictionByEvictionAPI and others."""


class Actor:
    """Carries out actions on one cluster.

    Args:
        api: the cluster.
        recorder: tells people.
        metrics: counted in.
        signs: by which the plans know that a node goes away.
    """

    def __init__(self, api: KubeApi, recorder: EventRecorder, metrics: Metrics, *, signs: Signs = None) -> None:
        self._api = api
        self._signs = signs
        self._recorder = recorder
        self._metrics = metrics
        self._bare = BarePods(api, recorder)
        self._releases = Releases(api, recorder)

    async def perform(self, action: Action) -> None:
        """Do what an action says.

        Raises:
            KubeError: it could not be done, or nobody knows whether it was; it may be tried again.
        """
        match action:
            case MarkNode():
                await self._mark(action.node, action.notice)
            case UndoNode():
                await self._mark(action.node, None)
            case WithdrawReport():
                await self._withdraw(action)
            case MakeOrder():
                await self._make_order(action)
            case ExpireOrder():
                await self._expire(action)
            case EvictPod() | DeletePod() | ForgetPod():
                await self._end_pod(action)
            case RecreatePod():
                await self._bare.recreate(action.order)
            case SettleOrder():
                await self._bare.settle(action.order)
            case DeleteOrder():
                await self._releases.delete(action.order)
            case DiscardOn():
                await self._releases.discard_on(action.order, action.node)
            case ReleaseOrder():
                await self._releases.release(action.order, action.left)
            case KeepOrder():
                await self._releases.keep(action.order)
            case TellNotInjected():
                self._tell_not_injected(action.pod)
            case TellNotWhole():
                self._recorder.tell(Reference.of_pod(action.pod), "GroupNotSaved", action.message, warning=True)

    # ---- nodes -------------------------------------------------------------------------

    async def _mark(self, name: str, notice: InterruptionNotice | None) -> None:
        for _ in range(_CONFLICTS):
            try:
                raw = await self._api.get(NODES, name)
                patch = render_marks(raw, notice)
                if patch is None or (notice is not None and not self._bears(parse_node(raw), notice.id)):
                    return
                await self._api.patch(NODES, name, patch, field_manager=names.FIELD_MANAGER_CONTROLLER)
            except KubeNotFoundError:
                return
            except KubeConflictError:
                continue
            self._tell_marked(raw, notice)
            return
        raise KubeConflictError(f"node {name} changes all the time and could not be marked")

    async def _withdraw(self, action: WithdrawReport) -> None:
        """Take one report back; the others stay."""
        try:
            node = parse_node(await self._api.get(NODES, action.node))
            kept = [notice for notice in node.reported if notice.id != action.notice.id]
            if len(kept) == len(node.reported):
                return
            patch = render_report_patch(node, kept)
            await self._api.patch(NODES, action.node, patch, field_manager=names.FIELD_MANAGER_CONTROLLER)
        except (KubeNotFoundError, KubeConflictError):
            return
        message = f"the node has outlived its {action.notice.trigger.value} ({action.notice.id})"
        self._recorder.tell(Reference.of_node(node), "NoticeOutlived", message)

    def _bears(self, node: Node, notice: str) -> bool:
        """Say whether a node still tells of a notice; one that was made anew under the same name does not."""
        return any(told.id == notice for told in notices_of(node, self._signs, datetime.now(UTC)))

    def _tell_marked(self, raw: Json, notice: InterruptionNotice | None) -> None:
        about = Reference.of_node(parse_node(raw))
        if notice is None:
            self._recorder.tell(about, "Uncordoned", "no interruption is in force; the node takes pods again")
            return
        when = "" if notice.deadline is None else f" at {notice.deadline:%H:%M:%S} UTC"
        pods = "takes no new pods" if notice.final else "is avoided by new pods where possible"
        self._recorder.tell(about, "Cordoned", f"the node {pods}: {notice.trigger.value}{when} ({notice.id})")

    # ---- orders ------------------------------------------------------------------------

    async def _make_order(self, action: MakeOrder) -> None:
        order, about = action.order, Reference.of_pod(action.pod)
        annotations = dict(await self._bare.keep(action.pod)) if action.recreates else {}
        annotations[names.TRACEPARENT] = tracing.derived(str(order))
        try:
            await self._api.create(CHECKPOINTS, render_order(order, annotations=annotations))
        except KubeConflictError:
            return
        except KubeError as fault:
            if not fault.retryable:
                self._recorder.tell(about, "CheckpointNotOrdered", str(fault), warning=True)
            raise
        self._metrics.orders.labels(trigger=order.spec.trigger.value).inc()
        if action.heard is not None:
            self._metrics.order_seconds.observe((datetime.now(UTC) - action.heard).total_seconds())
        _log.info("ordered %s", order)
        if order.spec.trigger is not Trigger.INTERVAL:
            until = (
                "" if order.spec.deadline is None else f", to be complete by {order.spec.deadline:%H:%M:%S} UTC"
            )
            message = f"{order.spec.trigger.value} of node {order.cause}: Checkpoint {order.name}{until}"
            self._recorder.tell(about, "CheckpointOrdered", message)

    async def _expire(self, action: ExpireOrder) -> None:
        """Close an order, unless its agent has something to say about it in the same moment."""
        order = action.order
        try:
            raw = await self._api.get(CHECKPOINTS, order.name, namespace=order.namespace)
            found = parse_order(raw)
            if found.uid != order.uid or not found.status.phase.open:
                return
            now = datetime.now(UTC)
            status = replace(
                found.status, phase=OrderPhase.EXPIRED, completed=now, reason="Expired", message=action.message
            )
            conditions = items(mapping(raw.get("status")).get("conditions"))
            patch = {
                "metadata": {"resourceVersion": found.resource_version},
                "status": render_status(status, conditions, now),
            }
            await self._api.patch(
                CHECKPOINTS,
                order.name,
                patch,
                namespace=order.namespace,
                subresource="status",
                field_manager=names.FIELD_MANAGER_CONTROLLER,
            )
        except (KubeNotFoundError, KubeConflictError):
            return
        self._recorder.tell(Reference.of_order(order), "CheckpointExpired", action.message, warning=True)

    # ---- pods --------------------------------------------------------------------------

    async def _end_pod(self, action: EvictPod | DeletePod | ForgetPod) -> None:
        """End a pod, unless its node turns out to be spared, or to live: a mirror can be behind by minutes."""
        order = action.order
        goes_anyway = isinstance(action, EvictPod) and (action.misfit or action.follows)
        if order.spec.notice and not goes_anyway:
            try:
                cause = node = parse_node(await self._api.get(NODES, order.cause))
                if order.spec.node != order.cause:
                    node = parse_node(await self._api.get(NODES, order.spec.node))
            except KubeNotFoundError:
                return  # Kubernetes removes the pods of a node that is gone
            if not self._bears(cause, order.spec.notice) or (isinstance(action, ForgetPod) and node.ready):
                return
        match action:
            case EvictPod():
                await self._evict(action)
            case DeletePod():
                await self._delete(action)
            case ForgetPod():
                await self._forget(action)

    async def _evict(self, action: EvictPod) -> None:
        pod = action.pod
        try:
            await self._api.evict(pod.namespace, pod.name, uid=pod.uid)
        except EvictionBlockedError as fault:
            message = f"a disruption budget forbids it for now, though the pod is saved: {fault.message}"
            self._recorder.tell(Reference.of_pod(pod), "EvictionBlocked", message, warning=True)
            raise
        except (KubeNotFoundError, KubeConflictError):
            self._count_end("gone")
            return
        self._count_end("evicted")
        if action.misfit:
            self._tell_moved(action.pod, action.order)
        else:
            self._tell_ended(action.pod, action.order, "evicted")

    async def _delete(self, action: DeletePod) -> None:
        """Delete a pod, with the condition first by which a Job does not count it as a failure (KEP-3329)."""
        pod = action.pod
        message = f"node {pod.node} goes away at {action.deadline:%H:%M:%S} UTC; the pod is saved"
        try:
            await self._set_disruption_target(pod, message)
        except (KubeNotFoundError, KubeConflictError):
            self._count_end("gone")
            return
        except KubeError as fault:
            _log.warning("%s is deleted without the condition %s: %s", pod, names.DISRUPTION_TARGET, fault)
        await self._end(pod, action.order, "deleted")

    async def _forget(self, action: ForgetPod) -> None:
        await self._end(action.pod, action.order, "deleted by force, since its machine is gone", grace_period_s=0)

    async def _set_disruption_target(self, pod: Pod, message: str) -> None:
        condition = {
            "type": names.DISRUPTION_TARGET,
            "status": "True",
            "reason": _DISRUPTION_REASON,
            "message": message,
            "lastTransitionTime": render_seconds(datetime.now(UTC)),
        }
        await self._api.patch(
            PODS,
            pod.name,
            {"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}},
            namespace=pod.namespace,
            subresource="status",
            kind=PatchKind.STRATEGIC,
            field_manager=names.FIELD_MANAGER_CONTROLLER,
        )

    async def _end(self, pod: Pod, order: Order, how: str, *, grace_period_s: int | None = None) -> None:
        try:
            await self._api.delete(
                PODS, pod.name, namespace=pod.namespace, uid=pod.uid, grace_period_s=grace_period_s
            )
        except (KubeNotFoundError, KubeConflictError):
            self._count_end("gone")
            return
        self._count_end("deleted")
        self._tell_ended(pod, order, how)

    def _count_end(self, outcome: str) -> None:
        self._metrics.evictions.labels(outcome=outcome).inc()

    def _tell_ended(self, pod: Pod, order: Order, how: str) -> None:
        _log.info("%s was %s", pod, how)
        saved = f"checkpoint {order.status.checkpoint}" if order.status.checkpoint else "nothing to save"
        self._recorder.tell(
            Reference.of_pod(pod), "Evicted", f"{how} from node {pod.node} ({saved}, {order.name})"
        )

    def _tell_moved(self, pod: Pod, order: Order) -> None:
        message = (
            f"moved off node {pod.node}, on which checkpoint {order.status.checkpoint} cannot be resumed; "
            "its successor is kept to nodes that fit"
        )
        _log.info("%s was evicted: it was on a node that does not fit", pod)
        self._recorder.tell(Reference.of_pod(pod), "Moved", message)

    def _tell_not_injected(self, pod: Pod) -> None:
        why = pod.fault or (
            "the webhook was away when it was made, or none of its containers can be wrapped; "
            "make the pod again, with an explicit command"
        )
        self._recorder.tell(
            Reference.of_pod(pod), "NotInjected", f"no container runs below crikpy's launcher: {why}", warning=True
        )
