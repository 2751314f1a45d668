"""What this node tells of its CPU, so that what was saved elsewhere comes here only if it can go on here.

Told only where the Node object says otherwise: once for each life of the object. Nothing depends on it: a node
without these labels is one of which nobody knows.
"""

from __future__ import annotations

import asyncio
from typing import Final

from crikpy import names
from crikpy.agent.outlook import OwnNode
from crikpy.agent.reporting import Teller
from crikpy.agent.threads import in_thread
from crikpy.criu import compat
from crikpy.model.nodes import Node

_EVERY_S: Final = 60.0
_FIRST_S: Final = 1.0
"""While the node's object has not been seen."""


class Labels:
    """Keeps this node's labels.

    Args:
        teller: writes them.
        own_node: shows what is written.
    """

    def __init__(self, teller: Teller, own_node: OwnNode) -> None:
        self._teller = teller
        self._own_node = own_node

    async def run(self) -> None:
        """Compare for ever; cancel to stop."""
        here = await in_thread(None, compat.facts, "")
        cpu, features = compat.cpu_class(here), here.cpu_features
        while True:
            node = self._own_node.node
            if node is not None:
                self._tell(node, cpu, features)
            await asyncio.sleep(_FIRST_S if node is None else _EVERY_S)

    def _tell(self, node: Node, cpu: str, features: tuple[str, ...]) -> None:
        if node.cpu != cpu:
            self._teller.tell_label(names.LABEL_CPU, cpu)
        if node.cpu_features != frozenset(features):
            self._teller.tell_annotation(names.CPU_FEATURES, " ".join(features))
        family = node.instance_type.partition(".")[0]
        if node.family != family:
            self._teller.tell_label(names.LABEL_FAMILY, family or None)
