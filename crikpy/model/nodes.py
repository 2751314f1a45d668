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
        annotations: of its annotations those on our cordon.
        ready_since: when that condition last changed, aware UTC, or None.
        notice: the interruption notice that its agent published and has not withdrawn.
        reported: the interruption notices that the controller heard of from outside of the cluster.
        strange_reports: lines beside these that a later release has written there, to be kept.
        architecture: Kubernetes' word for it, such as `amd64`, or empty.
        instance_type: such as `m7i.4xlarge`, or empty.
        family: the instance family as its agent published it, such as `m7i`, or empty.
        cpu: digest of the CPU features that programs can use, as its agent published it, or empty.
        cpu_features: those features; empty while unknown.
        deleting: it has a deletion timestamp.
        served: an agent works there and says that jobs can be saved, so that it reaches the store.
        unable: why its agent says that jobs cannot be saved there, or empty.
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
    ready_since: datetime | None = None
    notice: InterruptionNotice | None = None
    reported: tuple[InterruptionNotice, ...] = ()
    strange_reports: tuple[str, ...] = ()
    architecture: str = ""
    instance_type: str = ""
    family: str = ""
    cpu: str = ""
    cpu_features: frozenset[str] = frozenset()
    deleting: bool = False
    served: bool = False
    unable: str = ""
