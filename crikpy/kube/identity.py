"""Which pods may resume each other's checkpoints: those whose workload has the same name.

Pods of one name must be able to stand for each other. A pod whose controller gives it a fixed name has a role of
its own (a StatefulSet's ordinal, the rank of a training job's operator) and stands only for its namesake; pods
with generated names are interchangeable within one controller and one template. A controller that is deleted and
made again has another UID and begins anew.
"""

from __future__ import annotations

import hashlib
import re

from crikpy.errors import UsageError
from crikpy.kube import raw
from crikpy.kube.raw import Json
from crikpy.model.orders import Order
from crikpy.model.pods import Owner, Pod
from crikpy.model.workload import Workload

_LONGEST = 189
"""A store's name has 253 characters at most, and `.` and a container's name of 63 follow."""

_ODD = re.compile(r"[^A-Za-z0-9._-]")
_DIGEST_CHARS = 16

_COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
_JOBSET_UID = "jobset.sigs.k8s.io/jobset-uid"
"""Label of a JobSet's pods (kubernetes-sigs/jobset, "JobSet labels"); its Jobs are made anew by their names."""

_TEMPLATE_HASHES = ("pod-template-hash", "controller-revision-hash")


def owner_of(pod: Json) -> Owner | None:
    """Return the controller of a pod's raw JSON, or None for a bare pod; other owners do not count."""
    for reference in raw.items(raw.mapping(pod.get("metadata")).get("ownerReferences")):
        if reference.get("controller") is True:
            return Owner(
                kind=raw.text(reference.get("kind")),
                name=raw.text(reference.get("name")),
                uid=raw.text(reference.get("uid")),
            )
    return None


def workload_name(pod: Json) -> str:
    """Return the name under which the checkpoints of a pod, given as raw JSON, are kept.

    At most 189 letters, digits, `.`, `_` and `-`; the same for the same pod for ever.
    """
    metadata = raw.mapping(pod.get("metadata"))
    name = raw.text(metadata.get("name"))
    owner = owner_of(pod)
    if owner is None:
        return _fit(f"pod-{name}")
    prefix = f"{owner.name}-{owner.uid}"
    match _group(pod), owner.kind:
        case "apps", "StatefulSet":
            return _fit(f"sts-{name}")
        case "batch", "Job":
            index = raw.string_map(metadata.get("annotations")).get(_COMPLETION_INDEX)
            if jobset := raw.string_map(metadata.get("labels")).get(_JOBSET_UID):
                prefix = f"{owner.name}-{jobset}"
            return _fit(f"job-{prefix}" if index is None else f"job-{prefix}-{index}")
        case "apps", "ReplicaSet":
            return _fit(f"rs-{prefix}{_template_hash(metadata)}")
    kind = owner.kind.lower()
    if raw.text(metadata.get("generateName")):
        return _fit(f"{kind}-{prefix}{_template_hash(metadata)}")
    return _fit(f"{kind}-{prefix}-{name}")


def container_workload(cluster: str, pod: Pod, container: str) -> Workload:
    """Return the workload of one container of a pod.

    Raises:
        UsageError: the cluster's name cannot be part of a key of the store.
    """
    try:
        return Workload(cluster=cluster, namespace=pod.namespace, name=f"{pod.workload}.{container}")
    except ValueError as fault:
        raise UsageError(str(fault)) from fault


def workload_at(location: str, order: Order) -> Workload:
    """Return the workload that an order's status names by the URL of its folder in the store.

    Raises:
        UsageError: it is none, or one of another namespace than the order's.
    """
    cluster, namespace, name = ("", "", "", *location.rsplit("/", 3))[-3:]
    try:
        found = Workload(cluster=cluster, namespace=namespace, name=name)
    except ValueError as fault:
        raise UsageError(f"{order} says that its checkpoint is at {location!r}: {fault}") from fault
    if found.namespace != order.namespace:
        raise UsageError(f"{order} names a checkpoint of another namespace: {location}")
    return found


def _group(pod: Json) -> str:
    """Return the API group of the pod's controller: kinds of other people are called `Job`, too."""
    for reference in raw.items(raw.mapping(pod.get("metadata")).get("ownerReferences")):
        if reference.get("controller") is True:
            return raw.text(reference.get("apiVersion")).rpartition("/")[0]
    return ""


def _template_hash(metadata: Json) -> str:
    labels = raw.string_map(metadata.get("labels"))
    return next((f"-{labels[label]}" for label in _TEMPLATE_HASHES if label in labels), "")


def _fit(name: str) -> str:
    """Return a name that a store takes; one that was changed for it ends with its own hash and stays unique."""
    if len(name) <= _LONGEST and not _ODD.search(name):
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    return f"{_ODD.sub('_', name)[: _LONGEST - 1 - _DIGEST_CHARS]}-{digest}"
