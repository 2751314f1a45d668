"""Checkpoint objects: raw JSON to Order and back.

The CRD (controller/crd/checkpoints.yaml) is the authority for the names and limits of the fields. What stands in
the API server has passed its validation; an object that has not is refused here as a whole. Fields that this
release does not know are passed over, and words that it does not know kept: a later one may have written them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from crikpy import names
from crikpy.errors import KubeInvalidError
from crikpy.kube import raw as fields
from crikpy.kube.raw import Json
from crikpy.kube.resources import CHECKPOINTS
from crikpy.kube.times import render_seconds, render_time
from crikpy.model.groups import GroupMember, GroupOrder
from crikpy.model.notices import Trigger
from crikpy.model.orders import Order, OrderBytes, OrderPhase, OrderSpec, OrderStatus
from crikpy.model.quantities import human_size

COMPLETE: Final = "Complete"
RESTORED: Final = "Restored"
"""The two conditions of an order: the checkpoint stands in the store; a job goes on from it."""

_TRUE, _FALSE = "True", "False"
_RESTORED_REASONS = {
    OrderPhase.COMPLETE: "NotRestored",
    OrderPhase.RESTORING: "Restoring",
    OrderPhase.RESTORED: "Restored",
}
"""Phases in which the checkpoint stands, with what they mean for its restore."""

_SECONDS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LONGEST_MESSAGE = 1024
_GENERATION = 1
"""What every condition has observed: the specification never changes, so its generation never grows."""


def parse_order(raw: Json) -> Order:
    """Read a Checkpoint object.

    Raises:
        KubeInvalidError: it lacks what the CRD requires.
    """
    metadata = fields.mapping(raw.get("metadata"))
    notes = fields.string_map(metadata.get("annotations"))
    try:
        return Order(
            namespace=fields.text(metadata.get("namespace")),
            name=_required(metadata, "name"),
            uid=fields.text(metadata.get("uid")),
            resource_version=fields.text(metadata.get("resourceVersion")),
            created=fields.time(metadata.get("creationTimestamp")),
            deleted=fields.time(metadata.get("deletionTimestamp")),
            cpu=notes.get(names.LABEL_CPU, ""),
            instance_type=notes.get(names.INSTANCE_TYPE, ""),
            pod_started=fields.time(notes.get(names.POD_STARTED)),
            restored=_restored_at(fields.mapping(raw.get("status"))),
            spec=_parse_spec(fields.mapping(raw.get("spec"))),
            status=_parse_status(fields.mapping(raw.get("status"))),
        )
    except ValueError as fault:
        name = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
        raise KubeInvalidError(f"the Checkpoint object {name} cannot be read: {fault}") from fault


def _restored_at(status: Json) -> datetime | None:
    """Return since when the condition Restored is true; None while it is not."""
    for condition in fields.items(status.get("conditions")):
        if condition.get("type") == RESTORED and condition.get("status") == _TRUE:
            return fields.time(condition.get("lastTransitionTime"))
    return None


def _required(part: Json, field: str) -> str:
    value = fields.text(part.get(field))
    if not value:
        raise ValueError(f"{field} is missing")
    return value


def _parse_spec(spec: Json) -> OrderSpec:
    return OrderSpec(
        pod=_required(spec, "podName"),
        pod_uid=_required(spec, "podUID"),
        node=_required(spec, "nodeName"),
        containers=fields.texts(spec.get("containers")),
        workload=_required(spec, "workload"),
        trigger=Trigger.read(_required(spec, "trigger")),
        notice=fields.text(spec.get("notice")),
        deadline=fields.time(spec.get("deadline")),
        leave_running=spec.get("leaveRunning") is True,
        group=_parse_group(spec["group"]) if isinstance(spec.get("group"), dict) else None,
    )


def _parse_group(group: Json) -> GroupOrder:
    return GroupOrder(
        name=_required(group, "name"),
        set_id=_required(group, "set"),
        cause=fields.text(group.get("cause")),
        members=tuple(
            GroupMember(
                pod=_required(member, "podName"),
                pod_uid=_required(member, "podUID"),
                node=_required(member, "nodeName"),
                workload=_required(member, "workload"),
            )
            for member in fields.items(group.get("members"))
        ),
    )


def _render_group(group: GroupOrder) -> Json:
    rendered: Json = {
        "name": group.name,
        "set": group.set_id,
        "members": [
            {"podName": one.pod, "podUID": one.pod_uid, "nodeName": one.node, "workload": one.workload}
            for one in group.members
        ],
    }
    return rendered | ({"cause": group.cause} if group.cause else {})


def _parse_status(status: Json) -> OrderStatus:
    sizes = fields.mapping(status.get("bytes"))
    return OrderStatus(
        phase=OrderPhase.read(fields.text(status.get("phase")) or OrderPhase.PENDING),
        started=fields.time(status.get("startTime")),
        completed=fields.time(status.get("completionTime")),
        bytes=OrderBytes(
            memory=fields.number(sizes.get("memory")),
            stored=fields.number(sizes.get("stored")),
            reused=fields.number(sizes.get("reused")),
        ),
        frozen_s=_parse_seconds(status.get("frozenDuration")),
        total_s=_parse_seconds(status.get("totalDuration")),
        checkpoint=fields.text(status.get("checkpoint")),
        mode=fields.text(status.get("mode")),
        location=fields.text(status.get("location")),
        reason=fields.text(status.get("reason")),
        message=fields.text(status.get("message")),
        restored_by=fields.text(status.get("restoredBy")),
        misfit=fields.text(status.get("misfit")),
        discarded=fields.time(status.get("discardedTime")),
    )


def render_order(order: Order, *, annotations: Mapping[str, str] | None = None) -> Json:
    """Return the object to create; the status is left out, since the API server takes none at creation.

    It bears our finalizer from the beginning: when it is deleted, what the store holds for it goes first.
    A node name that is too long for a label's value goes without the label; the field selector on the
    specification finds it all the same.
    """
    spec = order.spec
    labels = {names.LABEL_POD_UID: spec.pod_uid, names.LABEL_NODE: spec.node}
    rendered: Json = {
        "podName": spec.pod,
        "podUID": spec.pod_uid,
        "nodeName": spec.node,
        "containers": list(spec.containers),
        "workload": spec.workload,
        "trigger": spec.trigger.value,
        "leaveRunning": spec.leave_running,
    }
    if spec.notice:
        rendered["notice"] = spec.notice
    if spec.group is not None:
        rendered["group"] = _render_group(spec.group)
    if spec.deadline is not None:
        rendered["deadline"] = render_time(spec.deadline)
    metadata: Json = {
        "namespace": order.namespace,
        "name": order.name,
        "labels": {label: value for label, value in labels.items() if is_label(value)},
        "finalizers": [names.FINALIZER],
    }
    notes = {
        names.LABEL_CPU: order.cpu,
        names.INSTANCE_TYPE: order.instance_type,
        names.POD_STARTED: render_time(order.pod_started) if order.pod_started else "",
        **(annotations or {}),
    }
    if notes := {name: value for name, value in notes.items() if value}:
        metadata["annotations"] = notes
    return {
        "apiVersion": CHECKPOINTS.api_version,
        "kind": CHECKPOINTS.kind,
        "metadata": metadata,
        "spec": rendered,
    }


def render_status(status: OrderStatus, previous_conditions: Iterable[Json], now: datetime) -> Json:
    """Return the whole `status`, for a merge patch of the subresource or for a replacement.

    Args:
        status: what became of the order.
        previous_conditions: `status.conditions` as they stand, whose times of transition are kept.
        now: when it is written, aware UTC.
    """
    rendered: Json = {
        "phase": status.phase.value,
        "reason": status.reason,
        "message": status.message[:_LONGEST_MESSAGE],
        "conditions": _render_conditions(status, list(previous_conditions), now),
    }
    optional = {
        "startTime": status.started and render_time(status.started),
        "completionTime": status.completed and render_time(status.completed),
        "frozenDuration": _render_seconds(status.frozen_s),
        "totalDuration": _render_seconds(status.total_s),
        "checkpoint": status.checkpoint,
        "mode": status.mode,
        "location": status.location,
        "restoredBy": status.restored_by,
        "misfit": status.misfit,
        "discardedTime": status.discarded and render_time(status.discarded),
    }
    rendered.update({field: value for field, value in optional.items() if value})
    if status.bytes != OrderBytes():
        rendered["bytes"] = {
            "memory": status.bytes.memory,
            "stored": status.bytes.stored,
            "reused": status.bytes.reused,
        }
        rendered["size"] = human_size(status.bytes.memory)
    return rendered


def _render_conditions(status: OrderStatus, previous: list[Json], now: datetime) -> list[Json]:
    """Return both conditions, then those that a later release has added.

    A restore that failed does not undo that the checkpoint was complete.
    """
    before = {fields.text(condition.get("type")): condition for condition in previous}
    saved = before.get(COMPLETE) if fields.mapping(before.get(COMPLETE)).get("status") == _TRUE else None
    phase, reason = status.phase, status.reason or status.phase.value
    if phase in _RESTORED_REASONS or (phase is OrderPhase.FAILED and saved is not None):
        told = (
            status.message if saved is None or phase is OrderPhase.COMPLETE else fields.text(saved.get("message"))
        )
        complete = _condition(COMPLETE, holds=True, reason="CheckpointComplete", message=told)
        restored = _condition(
            RESTORED,
            holds=phase is OrderPhase.RESTORED,
            reason=_RESTORED_REASONS.get(phase, reason),
            message="" if phase is OrderPhase.COMPLETE else status.message,
        )
    else:
        complete = _condition(COMPLETE, holds=False, reason=reason, message=status.message)
        restored = _condition(RESTORED, holds=False, reason="NoCheckpoint", message="")
    ours = [_timed(condition, before.get(condition["type"]), now) for condition in (complete, restored)]
    return [*ours, *(condition for condition in previous if condition.get("type") not in (COMPLETE, RESTORED))]


def _condition(kind: str, *, holds: bool, reason: str, message: str) -> Json:
    """Return a condition in the shape of metav1.Condition, still without its time."""
    return {
        "type": kind,
        "status": _TRUE if holds else _FALSE,
        "reason": reason,
        "message": message[:_LONGEST_MESSAGE],
        "observedGeneration": _GENERATION,
    }


def _timed(condition: Json, before: Json | None, now: datetime) -> Json:
    """Add when the condition last changed its status."""
    since = None
    if before is not None and before.get("status") == condition["status"]:
        since = before.get("lastTransitionTime")
    return {**condition, "lastTransitionTime": since or render_seconds(now)}


def is_label(value: str) -> bool:
    """Say whether a text can be the value of a label, as the name of a node that is longer than that cannot."""
    return _LABEL.fullmatch(value) is not None


def _render_seconds(seconds: float | None) -> str:
    """Return seconds as `1.5s`, to the millisecond."""
    if seconds is None:
        return ""
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def _parse_seconds(text: object) -> float | None:
    found = _SECONDS.fullmatch(text) if isinstance(text, str) else None
    return float(found[1]) if found else None
