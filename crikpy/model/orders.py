"""The Checkpoint object: an order to a node's agent, its record and its result in one.

The field names of its JSON are those of the CRD (controller/crd/checkpoints.yaml); crikpy.kube.orders reads and
writes them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from crikpy.model.groups import GroupOrder
from crikpy.model.notices import Trigger
from crikpy.model.words import Word

_NAME_ROOM = 52
"""Bytes of a pod's name in an order's name, so that the whole stays a valid label value."""


NOT_STARTED: Final = "NotStarted"
"""Reason of an order for a notice that failed since its job has not begun, and so has nothing to lose."""

SPARED: Final = "NodeSpared"
"""Reason of an order whose checkpoint stands although its job runs on, since the machine was spared."""


DRAIN: Final = "drain"
"""Occasion of the order for a pod that is ended because its node is to be empty, when no notice tells of that."""


class OrderPhase(Word):
    """How far an order is; the last four of a saved pod follow each other, the others end it.

    One that a later release has brought to a phase of its own is neither open nor final, and nobody's here.
    """

    PENDING = "Pending"
    DUMPING = "Dumping"
    COMPLETE = "Complete"
    RESTORING = "Restoring"
    RESTORED = "Restored"
    FAILED = "Failed"
    EXPIRED = "Expired"

    @property
    def final(self) -> bool:
        """Whether an agent has nothing left to do for its dump."""
        return self.known and not self.open

    @property
    def open(self) -> bool:
        """Whether an agent has yet to do, or to end, its dump."""
        return self in (OrderPhase.PENDING, OrderPhase.DUMPING)

    @property
    def in_use(self) -> bool:
        """Whether somebody writes or reads the checkpoint, or may do: later releases may have words for it."""
        return self in (OrderPhase.DUMPING, OrderPhase.RESTORING) or not self.known


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderBytes:
    """Sizes of the checkpoint.

    Attributes:
        memory: plain bytes of all images.
        stored: bytes newly written to the store.
        reused: bytes that an earlier checkpoint had stored.
    """

    memory: int = 0
    stored: int = 0
    reused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSpec:
    """What is to be done; never changes.

    Attributes:
        pod: the pod's name.
        pod_uid: its UID: another pod of that name is not meant.
        node: the node whose agent obeys.
        containers: the containers to save.
        workload: name under which the checkpoint is kept.
        trigger: why.
        notice: id of the interruption notice, or empty.
        deadline: when it must be complete, aware UTC; None when nothing presses.
        leave_running: let the job run on afterwards.
        group: the group of pods that is saved as one, this one among them; None for a pod alone.
    """

    pod: str
    pod_uid: str
    node: str
    containers: tuple[str, ...]
    workload: str
    trigger: Trigger
    notice: str = ""
    deadline: datetime | None = None
    leave_running: bool = False
    group: GroupOrder | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderStatus:
    """What became of it so far.

    Attributes:
        phase: how far it is.
        started: when the dump began, aware UTC.
        completed: when the checkpoint was committed or given up, aware UTC.
        bytes: sizes.
        frozen_s: how long the job stood still, seconds.
        total_s: from the beginning to the commit, seconds.
        checkpoint: id of the checkpoint in the store.
        mode: how the jobs were saved, `process` or `application`; empty until they are.
        location: URL of the workload's folder in the store.
        reason: CamelCase word of the last change.
        message: one sentence on the last change.
        restored_by: `namespace/name` of the pod that resumed it, with its UID after a slash.
        misfit: `namespace/name/UID` of the pod that came to a node on which it cannot be resumed, and is to be
            moved for that; written once.
        discarded: when the checkpoint was removed from the store because the object is being deleted, or None.
    """

    phase: OrderPhase = OrderPhase.PENDING
    started: datetime | None = None
    completed: datetime | None = None
    bytes: OrderBytes = field(default_factory=OrderBytes)
    frozen_s: float | None = None
    total_s: float | None = None
    checkpoint: str = ""
    mode: str = ""
    location: str = ""
    reason: str = ""
    message: str = ""
    restored_by: str = ""
    misfit: str = ""
    discarded: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One Checkpoint object.

    Attributes:
        namespace: that of the pod.
        name: see order_name; people may choose others.
        uid: the object's UID; empty for an order that the API server does not know yet.
        resource_version: of the JSON that this was read from.
        created: when the object was made, aware UTC.
        deleted: when somebody asked for its deletion, aware UTC, or None: then it orders nothing any more.
        cpu: digest of the CPU features of the node that it was made for, or empty where unknown.
        instance_type: that node's instance type, or empty.
        pod_started: when the pod's jobs had begun, or been started again in place, aware UTC; None where unknown.
        restored: since when a job goes on from the checkpoint, aware UTC, as the condition tells; or None.
        spec: what is to be done.
        status: what became of it.
    """

    namespace: str
    name: str
    uid: str = ""
    resource_version: str = ""
    created: datetime | None = None
    deleted: datetime | None = None
    cpu: str = ""
    instance_type: str = ""
    pod_started: datetime | None = None
    restored: datetime | None = field(default=None, compare=False)
    spec: OrderSpec
    status: OrderStatus = field(default_factory=OrderStatus)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def facts(self) -> dict[str, object]:
        """What records about it say."""
        return {
            "pod": f"{self.namespace}/{self.spec.pod}",
            "pod_uid": self.spec.pod_uid,
            "workload": self.spec.workload,
            "checkpoint": self.status.checkpoint,
            "order": self.name,
            "trigger": self.spec.trigger.value,
        }

    @property
    def cause(self) -> str:
        """The node whose event it is for: that of the pod, or of another member of its group."""
        return (self.spec.group.cause if self.spec.group else "") or self.spec.node


def order_name(pod: str, pod_uid: str, occasion: str) -> str:
    """Return the name of the one order for a pod and an occasion, such as a notice's id.

    Whoever hears of the occasion derives the same name, so that an agent that acted alone and a controller that
    comes later mean the same object.
    """
    digest = hashlib.sha256(f"{pod_uid}\n{occasion}".encode()).hexdigest()[:10]
    return f"{pod[:_NAME_ROOM].rstrip('-.')}-{digest}"
