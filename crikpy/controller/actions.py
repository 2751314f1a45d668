"""What a plan consists of. An action says all that is needed to carry it out and may be carried out again.

Each has a key: two actions of one key mean the same act, so that one under way is not begun twice and one that
fails is tried again later and later.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from crikpy.model.notices import InterruptionNotice
from crikpy.model.orders import Order
from crikpy.model.pods import Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkNode:
    """Keep new pods off a node: taint it, and cordon it where the machine will surely go."""

    node: str
    notice: InterruptionNotice

    @property
    def key(self) -> str:
        """Which act this is."""
        return f"mark {self.node} {self.notice.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoNode:
    """Take our taint and our cordon off a node; a cordon of somebody else stays."""

    node: str

    @property
    def key(self) -> str:
        """Which act this is."""
        return f"undo {self.node}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawReport:
    """Take a notice that somebody reported off a node that has outlived it."""

    node: str
    notice: InterruptionNotice

    @property
    def key(self) -> str:
        """Which act this is."""
        return f"withdraw {self.node} {self.notice.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeOrder:
    """Create a Checkpoint object.

    Attributes:
        order: the object.
        pod: the pod that it is for.
        recreates: keep the pod's JSON in it, to make the pod again.
        heard: when the notice behind it was read, aware UTC, or None.
    """

    order: Order
    pod: Pod
    recreates: bool = False
    heard: datetime | None = None

    @property
    def key(self) -> str:
        """Which act this is."""
        return f"order {self.order}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireOrder:
    """Close an order that nobody will carry out any more."""

    order: Order
    message: str

    @property
    def key(self) -> str:
        """Which act this is."""
        return f"expire {self.order}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictPod:
    """End a saved pod through the Eviction API, so that its replacement starts elsewhere.

    Attributes:
        pod: the pod.
        order: the order under which it was saved, or under which what it was to resume was.
        misfit: it is on a node on which that cannot be resumed.
        follows: another pod of its group has gone, so that this one goes whatever becomes of the notice.
    """

    pod: Pod
    order: Order
    misfit: bool = False
    follows: bool = False

    @property
    def key(self) -> str:
        """Which act this is."""
        return f"evict {self.pod} {self.pod.uid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePod:
    """End a saved pod without asking its disruption budget: the machine goes before the budget would allow it.

    Attributes:
        pod: the pod.
        order: the order under which it was saved.
        deadline: when its machine goes, aware UTC.
    """

    pod: Pod
    order: Order
    deadline: datetime

    @property
    def key(self) -> str:
        """Which act this is."""
        return f"delete {self.pod} {self.pod.uid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetPod:
    """Remove the object of a saved pod whose machine is gone, since no kubelet is left to confirm its end."""

    pod: Pod
    order: Order

    @property
    def key(self) -> str:
        """Which act this is."""
        return f"forget {self.pod} {self.pod.uid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecreatePod:
    """Make a saved bare pod again from the JSON that its order holds."""

    order: Order

    @property
    def key(self) -> str:
        """Which act this is."""
        return f"recreate {self.order}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleOrder:
    """Take the JSON of a bare pod out of its order: the pod was made again, or need not be."""

    order: Order

    @property
    def key(self) -> str:
        """Which act this is."""
        return f"settle {self.order}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOrder:
    """Delete a Checkpoint object that has served its time; the checkpoint in the store is kept by other rules."""

    order: Order

    @property
    def key(self) -> str:
        """Which act this is."""
        return f"prune {self.order} {self.order.uid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardOn:
    """Have the agent of a node remove what the store holds for a Checkpoint object that is being deleted."""

    order: Order
    node: str

    @property
    def key(self) -> str:
        """Which act this is."""
        return f"discard {self.order} {self.order.uid} on {self.node}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOrder:
    """Let go of a Checkpoint object that is being deleted.

    Attributes:
        order: the object.
        left: why the store may still hold something for it; empty when it does not.
    """

    order: Order
    left: str = ""

    @property
    def key(self) -> str:
        """Which act this is."""
        return f"release {self.order} {self.order.uid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepOrder:
    """Have a Checkpoint object that somebody made by hand bear our finalizer, as all others do."""

    order: Order

    @property
    def key(self) -> str:
        """Which act this is."""
        return f"keep {self.order} {self.order.uid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TellNotWhole:
    """Tell people that a pod's group cannot be saved, and why."""

    pod: Pod
    message: str

    @property
    def key(self) -> str:
        """Which act this is."""
        return f"tell {self.pod} {self.pod.uid} {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TellNotInjected:
    """Say that an opted-in pod runs without our launcher."""

    pod: Pod

    @property
    def key(self) -> str:
        """Which act this is."""
        return f"tell {self.pod.uid}"


Action = (
    MarkNode
    | UndoNode
    | WithdrawReport
    | MakeOrder
    | ExpireOrder
    | EvictPod
    | DeletePod
    | ForgetPod
    | RecreatePod
    | SettleOrder
    | DeleteOrder
    | DiscardOn
    | ReleaseOrder
    | KeepOrder
    | TellNotInjected
    | TellNotWhole
)


def subject_of(action: Action) -> dict[str, object]:
    """Return what records about an action say: of which pod, checkpoint and node it is."""
    match action:
        case MarkNode() | UndoNode() | WithdrawReport():
            return {"node": action.node}
        case TellNotWhole() | TellNotInjected():
            return action.pod.facts
        case _:
            return {**action.order.facts, "node": action.order.spec.node}


def rescue_of(action: Action) -> str:
    """Return what names the rescue that an action is a part of, as agents derive it; else nothing."""
    match action:
        case MarkNode() | UndoNode() | WithdrawReport() | TellNotWhole() | TellNotInjected():
            return ""
        case _:
            return str(action.order)
