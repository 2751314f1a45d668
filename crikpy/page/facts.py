"""What the status page is made of: a picture of the cluster that somebody else has taken, frozen.

Nothing here asks anybody. A picture of one namespace holds nothing of others, but for the nodes on which it has
pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from crikpy.model.nodes import Node
from crikpy.model.notices import InterruptionNotice
from crikpy.model.orders import Order
from crikpy.model.pods import Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The picture.

    Attributes:
        now: when it was taken, aware UTC.
        current: the API server can be heard; else it is as it was when that was last so.
        nodes: by name.
        notices: by the name of its node: the most pressing notice, also of what lies far ahead.
        pods: those that have opted in.
        orders: all Checkpoint objects but those that are being deleted.
        refusals: by a pod's UID: why an agent could not save it when it looked last.
    """

    now: datetime
    current: bool = True
    nodes: Mapping[str, Node] = field(default_factory=dict)
    notices: Mapping[str, InterruptionNotice] = field(default_factory=dict)
    pods: tuple[Pod, ...] = ()
    orders: tuple[Order, ...] = ()
    refusals: Mapping[str, str] = field(default_factory=dict)

    def within(self, namespace: str) -> Facts:
        """Return what of it concerns one namespace; all of it when that is empty."""
        if not namespace:
            return self
        pods = tuple(pod for pod in self.pods if pod.namespace == namespace)
        orders = tuple(order for order in self.orders if order.namespace == namespace)
        ours = {pod.node for pod in pods} | {order.spec.node for order in orders}
        uids = {pod.uid for pod in pods}
        return replace(
            self,
            nodes={name: node for name, node in self.nodes.items() if name in ours},
            notices={name: notice for name, notice in self.notices.items() if name in ours},
            pods=pods,
            orders=orders,
            refusals={uid: why for uid, why in self.refusals.items() if uid in uids},
        )
