"""Bare pods that are made again after they were saved: nobody else would, since they have no controller.

The order that saves such a pod keeps the pod's JSON, cleaned of what only the old pod had, until the new one is
made or the old one was spared. That annotation is all there is to remember; so it works across restarts, too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Final

from crikpy import names
from crikpy.controller.actions import RecreatePod, SettleOrder
from crikpy.controller.placing import without_placement
from crikpy.controller.viewing import ClusterView
from crikpy.kube.pods import original_command
from crikpy.kube.raw import Json, items, mapping, text, texts
from crikpy.model.orders import Order, OrderPhase

LARGEST_POD_BYTES: Final = 200 * 1024
"""Kubernetes takes 256 KiB of annotations per object in all."""

_MIRROR = "kubernetes.io/config.mirror"
_TOKEN_VOLUME = "kube-api-access-"  # noqa: S105 - the beginning of a volume's name (ServiceAccount admission)
_KEPT_METADATA = ("name", "namespace", "labels", "annotations", "ownerReferences")
_GIVEN_BY_SERVER = (
    "nodeName",
    "priority",
    "preemptionPolicy",
    "overhead",
    "ephemeralContainers",
    "serviceAccount",
)
"""Fields that admission and the scheduler fill in and would refuse, or mean something else, the second time."""


def plan_recreations(view: ClusterView) -> Iterator[RecreatePod | SettleOrder]:
    """Yield the bare pods to make again, and the orders that need keep no pod any more."""
    by_name = {(pod.namespace, pod.name): pod for pod in view.pods.values()}
    for known in view.orders:
        if not known.recreates or not known.order.status.phase.final:
            continue
        order = known.order
        bearer = by_name.get((order.namespace, order.spec.pod))
        if bearer is None:
            if order.status.phase is OrderPhase.COMPLETE:
                yield RecreatePod(order=order)
        elif bearer.uid != order.spec.pod_uid or _was_spared(view, order, deleting=bearer.deleting):
            yield SettleOrder(order=order)


def _was_spared(view: ClusterView, order: Order, *, deleting: bool) -> bool:
    """Say whether the old pod goes on: made again after its own end, it would do everything twice."""
    return not deleting and bool(order.spec.notice) and not view.under_its_notice(order)


def clean_pod(raw: Json) -> Json | None:
    """Return a pod's JSON for making it again, as its user wrote it; None for one that only kubelet can make.

    Unknown fields are kept. What the webhook put in is taken out; it will do so again, for the new pod.
    """
    metadata, spec = mapping(raw.get("metadata")), copy.deepcopy(mapping(raw.get("spec")))
    if _MIRROR in mapping(metadata.get("annotations")):
        return None
    kept = {field: copy.deepcopy(metadata[field]) for field in _KEPT_METADATA if metadata.get(field)}
    mapping(kept.get("annotations")).pop(names.INJECTED, None)
    for field in _GIVEN_BY_SERVER:
        spec.pop(field, None)
    _drop_launcher(spec)
    _drop_placement(spec)
    _drop_volumes(spec, {name for name in _volume_names(spec) if name.startswith(_TOKEN_VOLUME)})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": kept, "spec": spec}


def _drop_launcher(spec: Json) -> None:
    spec["initContainers"] = [
        container
        for container in items(spec.get("initContainers"))
        if container.get("name") != names.LAUNCHER_CONTAINER
    ]
    if not spec["initContainers"]:
        del spec["initContainers"]
    for container in items(spec.get("containers")):
        command = texts(container.get("command"))
        if command != original_command(command):
            container["command"] = list(original_command(command))
    _drop_volumes(spec, {names.LAUNCHER_VOLUME})


def _drop_placement(spec: Json) -> None:
    affinity = without_placement(mapping(spec.pop("affinity", None)))
    if affinity:
        spec["affinity"] = affinity


def _drop_volumes(spec: Json, dropped: set[str]) -> None:
    """Take volumes out, and their mounts in every kind of container."""
    parts = [(spec, "volumes")]
    for kind in ("containers", "initContainers"):
        parts += [(container, "volumeMounts") for container in items(spec.get(kind))]
    for holder, field in parts:
        if field not in holder:
            continue
        holder[field] = [item for item in items(holder[field]) if item.get("name") not in dropped]
        if not holder[field]:
            del holder[field]


def _volume_names(spec: Json) -> set[str]:
    return {text(volume.get("name")) for volume in items(spec.get("volumes"))}
