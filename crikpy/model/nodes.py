"""What crikpy knows of a node, read once from its raw JSON (crikpy.kube.nodes) and passed on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from crikpy.model.notices import InterruptionNotice


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """One taint of a node."""

    key: str
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node.

    Attributes:
        name: its name.
        uid: its UID.
        resource_version: of the JSON that this was read from.
        instance: EC2 instance id from `spec.providerID`, or empty.
        ready: its condition Ready is True.
        ready_reason: reason of that condition.
        ready_message: message of that condition.
        heartbeat: when Ready was last reported, aware UTC, or None.
        unschedulable: it is cordoned.
        taints: its taints.
        annotations: its annotations below our prefix.
        notice: the interruption notice that its agent published and has not withdrawn.
        deleting: it has a deletion timestamp.
    """

    name: str
    uid: str
    resource_version: str = ""
    instance: str = ""
    ready: bool = False
    ready_reason: str = ""
    ready_message: str = ""
    heartbeat: datetime | None = None
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    notice: InterruptionNotice | None = None
    deleting: bool = False
