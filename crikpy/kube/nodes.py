"""Nodes: raw JSON to Node, and the two places on a Node object where an interruption notice stands.

A condition is the only road of a notice from a node's agent to the controller; an annotation keeps what the
controller heard of from outside of the cluster, until the machine is gone. Both are written and read here, side by
side, in the same words, for people and for us: `spot-1f2e: terminate at 2026-11-24T10:02:00Z (imds:spot/…)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import Final

from crikpy import names
from crikpy.kube import raw as fields
from crikpy.kube.raw import Json
from crikpy.kube.times import render_seconds, render_time
from crikpy.model.nodes import Node, Taint
from crikpy.model.notices import InterruptionNotice, Trigger

NO_NOTICE: Final = "NoNotice"
"""Reason of the condition while no notice is in force."""

_GOES_AWAY = "goes away"
_NO_TIME = "no known time"
_MESSAGE = re.compile(
    rf"(?P<id>\S+): (?P<action>[a-z]+|{_GOES_AWAY}) at (?P<deadline>{_NO_TIME}|\S+) \((?P<source>[^\s()]*)\)"
)
_REPORT = re.compile(r"(?P<trigger>[A-Za-z]+) (?P<message>.*) seen (?P<seen>\S+)")
_INSTANCE = re.compile(r"aws:///(?:[^/]*/)*(?P<instance>i-[0-9a-f]+)")


def parse_node(raw: Json) -> Node:
    """Read a node; never raises for an odd one: what cannot be read is as if it were not there.

    A condition of ours that cannot be understood is no notice: its agent acts on it in any case.
    """
    metadata, spec, status = (fields.mapping(raw.get(part)) for part in ("metadata", "spec", "status"))
    conditions = {
        fields.text(condition.get("type")): condition for condition in fields.items(status.get("conditions"))
    }
    ready = conditions.get("Ready", {})
    instance = instance_of(fields.text(spec.get("providerID")))
    notes = fields.string_map(metadata.get("annotations"))
    labels = fields.string_map(metadata.get("labels"))
    return Node(
        name=fields.text(metadata.get("name")),
        uid=fields.text(metadata.get("uid")),
        resource_version=fields.text(metadata.get("resourceVersion")),
        instance=instance,
        ready=ready.get("status") == "True",
        ready_reason=fields.text(ready.get("reason")),
        ready_message=fields.text(ready.get("message")),
        heartbeat=fields.time(ready.get("lastHeartbeatTime")),
        ready_since=fields.time(ready.get("lastTransitionTime")),
        unschedulable=spec.get("unschedulable") is True,
        taints=tuple(
            Taint(
                key=fields.text(taint.get("key")),
                value=fields.text(taint.get("value")),
                effect=fields.text(taint.get("effect")),
            )
            for taint in fields.items(spec.get("taints"))
        ),
        annotations=tuple(
            (name, value) for name, value in sorted(notes.items()) if name in (names.CORDONED, names.UNCORDONED)
        ),
        notice=read_notice(conditions.get(names.CONDITION_NOTICE, {}), instance=instance),
        reported=read_reports(notes.get(names.REPORTED, ""), instance=instance),
        strange_reports=_strange_reports(notes.get(names.REPORTED, "")),
        architecture=labels.get(names.LABEL_WELL_KNOWN_ARCH, ""),
        instance_type=labels.get(names.LABEL_WELL_KNOWN_TYPE, ""),
        family=labels.get(names.LABEL_FAMILY, ""),
        cpu=labels.get(names.LABEL_CPU, ""),
        cpu_features=_features(notes.get(names.CPU_FEATURES, "")),
        deleting=metadata.get("deletionTimestamp") is not None,
        served=labels.get(names.LABEL_READY) == "true",
        unable=_why_unable(conditions.get(names.CONDITION_READY, {})),
    )


def instance_of(provider_id: str) -> str:
    """Return the EC2 instance id of `spec.providerID`, such as `aws:///eu-west-1b/i-0123456789abcdef0`."""
    found = _INSTANCE.fullmatch(provider_id)
    return found["instance"] if found else ""


def notice_condition(notice: InterruptionNotice | None, now: datetime) -> Json:
    """Return the node's condition for a notice in force, or for none; for a strategic patch of `status`.

    Args:
        notice: its id and source hold no white space, its source no parentheses.
        now: when it is written, aware UTC.
    """
    condition: Json = {
        "type": names.CONDITION_NOTICE,
        "lastHeartbeatTime": render_seconds(now),
    }
    if notice is None:
        return condition | {
            "status": "False",
            "reason": NO_NOTICE,
            "message": "no interruption notice is in force",
            "lastTransitionTime": render_seconds(now),
        }
    return condition | {
        "status": "True",
        "reason": notice.trigger.value,
        "message": _render_message(notice),
        "lastTransitionTime": render_seconds(notice.seen),
    }


def read_notice(condition: Json, *, instance: str) -> InterruptionNotice | None:
    """Return the notice that a condition tells of; None when there is none or it is not in our words."""
    if condition.get("status") != "True":
        return None
    return _read(
        fields.text(condition.get("reason")),
        fields.text(condition.get("message")),
        fields.time(condition.get("lastTransitionTime")),
        instance,
    )


def render_reports(notices: Iterable[InterruptionNotice]) -> str:
    """Return the value of the annotation that keeps notices from outside of the cluster, one to a line."""
    return "\n".join(
        f"{notice.trigger.value} {_render_message(notice)} seen {render_time(notice.seen)}" for notice in notices
    )


def render_report_patch(node: Node, notices: Iterable[InterruptionNotice]) -> Json:
    """Return the merge patch that has a node, as it was just read, keep these notices and no others of ours."""
    report = "\n".join(filter(None, (render_reports(notices), *node.strange_reports))) or None
    return {"metadata": {"resourceVersion": node.resource_version, "annotations": {names.REPORTED: report}}}


@lru_cache(maxsize=1024)
def read_reports(text: str, *, instance: str) -> tuple[InterruptionNotice, ...]:
    """Return the notices that an annotation keeps, without what is not in our words."""
    notices = (_read_report(line, instance) for line in text.splitlines())
    return tuple(notice for notice in notices if notice is not None)


def _strange_reports(text: str) -> tuple[str, ...]:
    """Return the lines that have the form of a report but not our words: a later release's."""
    return tuple(line for line in text.splitlines() if _REPORT.fullmatch(line) and _read_report(line, "") is None)


def _read_report(line: str, instance: str) -> InterruptionNotice | None:
    report = _REPORT.fullmatch(line)
    if report is None:
        return None
    return _read(report["trigger"], report["message"], fields.time(report["seen"]), instance)


def _render_message(notice: InterruptionNotice) -> str:
    deadline = _NO_TIME if notice.deadline is None else render_time(notice.deadline)
    return f"{notice.id}: {notice.action or _GOES_AWAY} at {deadline} ({notice.source})"


def _read(trigger: str, message: str, seen: datetime | None, instance: str) -> InterruptionNotice | None:
    found = _MESSAGE.fullmatch(message)
    if found is None or seen is None or trigger not in set(Trigger):
        return None
    deadline = fields.time(found["deadline"])
    if deadline is None and found["deadline"] != _NO_TIME:
        return None
    return InterruptionNotice(
        id=found["id"],
        trigger=Trigger(trigger),
        source=found["source"],
        instance=instance,
        deadline=deadline,
        action="" if found["action"] == _GOES_AWAY else found["action"],
        seen=seen,
    )


def _why_unable(condition: Json) -> str:
    if condition.get("status") != "False":
        return ""
    return fields.text(condition.get("message")) or fields.text(condition.get("reason")) or "no reason given"


@lru_cache(maxsize=256)
def _features(text: str) -> frozenset[str]:
    """Read a list of CPU features; nodes of one instance type share one set."""
    return frozenset(text.split())
