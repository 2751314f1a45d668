"""What is on a cluster, by name: to see that nothing of crikpy's is left on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.e2e.cluster import Cluster
from tests.e2e.kubectl import Json

_UNSTEADY: Final = ("events", "events.events.k8s.io", "componentstatuses")
"""Kinds that come and go by themselves, or are no objects."""

_OURS: Final = "crikpy-e2e"
"""How the namespaces of tests begin, which are removed in their own time."""

_TRACES: Final = (
    "ls -d /var/lib/crikpy /run/crikpy 2>/dev/null; for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f; echo; done"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What was there at one moment.

    Attributes:
        objects: kind, namespace and name of every object.
        nodes: what crikpy might have written into each node.
        traces: crikpy's files and processes on nodes, but for launchers of jobs; none where nobody can look.
    """

    objects: frozenset[str]
    nodes: dict[str, Json]
    traces: frozenset[str]


def snapshot(cluster: Cluster) -> Snapshot:
    """Look at everything."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    form = "jsonpath={range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name}{'\\n'}{end}"
    wanted = ",".join(kind for kind in kinds if kind not in _UNSTEADY)
    found = cluster.kubectl("get", wanted, "-A", "-o", form).splitlines()
    return Snapshot(
        objects=frozenset(each for each in found if f"/{_OURS}" not in each and "/kube-node-lease/" not in each),
        nodes={node["metadata"]["name"]: _written(node) for node in cluster.kubectl.list("nodes")},
        traces=frozenset().union(*(_traces(cluster, node) for node in cluster.nodes))
        if cluster.own
        else frozenset(),
    )


def _written(node: Json) -> Json:
    metadata, spec = node["metadata"], node["spec"]
    return {
        "labels": metadata["labels"],
        "annotations": metadata.get("annotations"),
        "taints": sorted(taint["key"] for taint in spec.get("taints") or ()),
        "unschedulable": bool(spec.get("unschedulable")),
        "conditions": sorted(condition["type"] for condition in node["status"]["conditions"]),
    }


def _traces(cluster: Cluster, node: str) -> set[str]:
    lines = cluster.hack("exec", node, "sh", "-c", _TRACES).splitlines()
    return {
        f"{node}: {line}"
        for line in lines
        if "crikpy" in line and not line.startswith(("/.crikpy/launch", "sh -c"))
    }
