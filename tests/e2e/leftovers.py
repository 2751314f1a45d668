"""What these tests put on a cluster, told by one label, and its removal.

It is removed after every run, and looked for before the next one, since a run that is killed removes nothing.
Nodes are given back as they were: without our taints, cordons, labels and conditions.
"""

from __future__ import annotations

import json

from crikpy import names
from tests.e2e.kubectl import Json, Kubectl, wait_for

LABEL = "crikpy-e2e"
MARK = {LABEL: "yes"}
"""Label of everything that outlives a test which is killed, namespaces above all."""

CORDONED = "crikpy-e2e/cordoned"
"""Annotation of a node that is cordoned by a test."""

_KINDS = (
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    "namespaces",
    "nodes",
    "customresourcedefinitions",
    "clusterrolebindings",
    "clusterroles",
)
_ANNOTATIONS = (CORDONED, names.CORDONED, names.UNCORDONED, names.REPORTED, names.CPU_FEATURES)
_LABELS = (names.LABEL_READY, names.LABEL_CPU, names.LABEL_FAMILY)
_TAINTS = (names.TAINT, "karpenter.sh/disrupted", "ToBeDeletedByClusterAutoscaler")
"""Those of ours, and those that tests put on nodes as others do."""

_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
"""Taint that follows a cordon, and goes with it."""

_GONE_S = 240.0
"""Pods may take their whole grace period, which is 120 s for those that can be saved."""


def remove(kubectl: Kubectl) -> None:
    """Take everything of ours off a cluster and wait until it is gone."""
    kinds = ",".join(_KINDS)
    kubectl("delete", kinds, "-l", LABEL, "--ignore-not-found", "--wait=false")

    def all_gone() -> bool:
        _let_go(kubectl)
        return not kubectl("get", kinds, "-l", LABEL, "-o", "name", "--ignore-not-found").strip()

    wait_for("what a run has left to be gone", all_gone, within_s=_GONE_S, every_s=1)
    for node in kubectl.list("nodes"):
        give_back(kubectl, node["metadata"]["name"])


def _let_go(kubectl: Kubectl) -> None:
    """Take the finalizers off Checkpoint objects that are being deleted, since nobody may be left who would."""
    if not kubectl.find("customresourcedefinition", f"checkpoints.{names.DOMAIN}"):
        return
    for order in kubectl.list("checkpoints", ""):
        metadata = order["metadata"]
        if "deletionTimestamp" in metadata and metadata.get("finalizers"):
            free = json.dumps({"metadata": {"finalizers": None}})
            words = ("checkpoint", metadata["name"], "-n", metadata["namespace"], "--type=merge", "-p", free)
            kubectl("patch", *words)


def takes_pods(node: Json) -> bool:
    """Say whether a node takes pods, or will once it is given back."""
    undone = _undone(node).get("spec", {})
    taints = undone.get("taints", node["spec"].get("taints")) or []
    if "unschedulable" in undone:
        taints = [taint for taint in taints if taint["key"] != _UNSCHEDULABLE]
    return all(taint["effect"] == "PreferNoSchedule" for taint in taints)


def give_back(kubectl: Kubectl, name: str) -> None:
    """Undo what tests, agents and controllers have written into a node."""
    wait_for(f"node {name} as it was", lambda: _given_back(kubectl, name))


def _given_back(kubectl: Kubectl, name: str) -> bool:
    """Undo what is to be undone, unless the node changes in the same moment; say whether nothing was."""
    node = kubectl.get("node", name)
    patch = _undone(node)
    if patch:
        patch.setdefault("metadata", {})["resourceVersion"] = node["metadata"]["resourceVersion"]
        kubectl("patch", "node", name, "--type=merge", "-p", json.dumps(patch))
    ours = (names.CONDITION_READY, names.CONDITION_NOTICE)
    found = [condition["type"] for condition in node["status"]["conditions"] if condition["type"] in ours]
    if found:
        gone = {"status": {"conditions": [{"$patch": "delete", "type": kind} for kind in found]}}
        kubectl("patch", "node", name, "--subresource=status", "--type=strategic", "-p", json.dumps(gone))
    return not patch and not found


def _undone(node: Json) -> Json:
    """Return the patch that undoes what is ours, or nothing."""
    patch: Json = {}
    metadata, spec = node["metadata"], node["spec"]
    annotations = [key for key in _ANNOTATIONS if key in (metadata.get("annotations") or {})]
    if annotations:
        patch["metadata"] = {"annotations": dict.fromkeys(annotations)}
    if CORDONED in annotations or names.CORDONED in annotations:
        patch["spec"] = {"unschedulable": None}
    labels = [key for key in _LABELS if key in (metadata.get("labels") or {})]
    if labels:
        patch.setdefault("metadata", {})["labels"] = dict.fromkeys(labels)
    taints = spec.get("taints") or []
    kept = [taint for taint in taints if taint["key"] not in _TAINTS]
    if kept != taints:
        patch.setdefault("spec", {})["taints"] = kept
    return patch
