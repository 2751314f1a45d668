"""How many nodes and pods there are of each kind: pure, from the picture of a round, for metrics alone.

Nothing is decided by it. Every state is counted, also with 0, so that its line never breaks off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from crikpy.controller.viewing import ClusterView

_NODES: Final = ("able", "unable", "noticed")
_PODS: Final = ("savable", "not_injected", "node_unable")


def census(view: ClusterView) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Return the numbers of nodes and of running opted-in pods, each by state."""
    nodes, pods = Counter(dict.fromkeys(_NODES, 0)), Counter(dict.fromkeys(_PODS, 0))
    for node in view.nodes.values():
        going = node.notice is not None or bool(node.reported)
        nodes["noticed" if going else "able" if node.served else "unable"] += 1
    for pod in view.pods.values():
        if pod.phase != "Running":
            continue
        host = view.nodes.get(pod.node)
        able = host is not None and host.served
        pods["not_injected" if not pod.injected else "savable" if able else "node_unable"] += 1
    return nodes, pods
