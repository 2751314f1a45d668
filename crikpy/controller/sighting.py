"""What every replica sees of the cluster: its nodes and its Checkpoint objects.

The leader plans from it; the webhook, which answers on every replica, places pods by it. It only looks. Whoever
reads it asks first whether it is complete: an empty mirror means nothing.
"""

from __future__ import annotations

import asyncio

from crikpy.controller.viewing import KnownOrder
from crikpy.kube.api import KubeApi
from crikpy.kube.nodes import parse_node
from crikpy.kube.resources import CHECKPOINTS, NODES
from crikpy.kube.watching import Mirror
from crikpy.metrics import Metrics
from crikpy.model.nodes import Node


class Sight:
    """Mirrors that are kept current for as long as `run` goes on.

    Attributes:
        nodes: all nodes.
        orders: all Checkpoint objects, those that are being deleted too.
    """

    def __init__(self, api: KubeApi, metrics: Metrics) -> None:
        self.nodes: Mirror[Node] = Mirror(api, NODES, parse_node, metrics=metrics)
        self.orders: Mirror[KnownOrder] = Mirror(api, CHECKPOINTS, KnownOrder.read, metrics=metrics)

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.nodes.run())
            group.create_task(self.orders.run())

    @property
    def complete(self) -> bool:
        """Whether everything is seen, as it is now."""
        return all(mirror.synced and mirror.reachable for mirror in (self.nodes, self.orders))

    def orders_in_force(self) -> tuple[KnownOrder, ...]:
        """Return the Checkpoint objects that mean something: one that is being deleted orders nothing any more."""
        return tuple(known for known in self.orders.items.values() if known.order.deleted is None)

    def orders_leaving(self) -> tuple[KnownOrder, ...]:
        """Return the Checkpoint objects that are being deleted."""
        return tuple(known for known in self.orders.items.values() if known.order.deleted is not None)

    def node_of(self, instance: str) -> Node | None:
        """Return the node that is an EC2 instance, or None; the ready one of several that claim to be it."""
        found = [node for node in self.nodes.items.values() if instance and node.instance == instance]
        return max(found, key=lambda node: (node.ready, node.name), default=None)
