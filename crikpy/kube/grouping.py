"""Which pods are one job: those of a namespace with the same group name, and whether they can be saved as one.

A pod says so by its annotation, or is recognized by what the operators of distributed jobs write on their pods:

- JobSet: label `jobset.sigs.k8s.io/jobset-name` (kubernetes-sigs/jobset, "JobSet labels" of its concepts page);
- Kubeflow's training operator, for all of its kinds: label `training.kubeflow.org/job-name` (kubeflow/common,
  pkg/apis/common/v1/constants.go);
- LeaderWorkerSet: labels `leaderworkerset.sigs.k8s.io/name` and `group-index`, annotation `size`
  (kubernetes-sigs/lws, "Labels, annotations and environment variables" of its reference).

Nothing here asks anybody: what is judged is what the caller has seen.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from crikpy import names
from crikpy.kube import raw
from crikpy.kube.raw import Json
from crikpy.model.groups import MOST_MEMBERS, GroupMember, GroupOrder, set_id
from crikpy.model.pods import Pod
from crikpy.model.quantities import some_of

JOBSET_NAME = "jobset.sigs.k8s.io/jobset-name"
KUBEFLOW_JOB = "training.kubeflow.org/job-name"
LWS_NAME = "leaderworkerset.sigs.k8s.io/name"
LWS_INDEX = "leaderworkerset.sigs.k8s.io/group-index"
LWS_SIZE = "leaderworkerset.sigs.k8s.io/size"

NO_GROUP = "none"
"""Value of the annotation that says that a pod is in no group, whatever else it bears."""

_LONGEST = 100
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,98}[a-z0-9])?")
_NAMED = 5


def group_of(pod: Json) -> tuple[str, int]:
    """Return the name of a pod's group, or nothing, and its size where the pod says it, else 0.

    Args:
        pod: its raw JSON.
    """
    metadata = raw.mapping(pod.get("metadata"))
    notes, labels = raw.string_map(metadata.get("annotations")), raw.string_map(metadata.get("labels"))
    name = notes.get(names.GROUP, "") or _recognized(labels)
    if name == NO_GROUP or not _NAME.fullmatch(name):
        return "", 0
    size = notes.get(names.GROUP_SIZE, "") or (notes.get(LWS_SIZE, "") if name.startswith("lws-") else "")
    return name, int(size) if size.isdecimal() and len(size) <= len(str(MOST_MEMBERS)) else 0


def _recognized(labels: Mapping[str, str]) -> str:
    if jobset := labels.get(JOBSET_NAME):
        return f"jobset-{jobset}"[:_LONGEST]
    if job := labels.get(KUBEFLOW_JOB):
        return f"kubeflow-{job}"[:_LONGEST]
    if (lws := labels.get(LWS_NAME)) and (index := labels.get(LWS_INDEX)):
        return f"lws-{lws}-{index}"[:_LONGEST]
    return ""


def never_whole(members: Sequence[Pod]) -> str:
    """Say why a group cannot be saved as long as its pods are what they are; nothing when it may be.

    Args:
        members: its pods that have not ended, those that have not opted in among them.
    """
    if len(members) > MOST_MEMBERS:
        return f"it has {len(members)} pods, more than {MOST_MEMBERS}"
    if strangers := [pod.name for pod in members if not pod.opted_in]:
        return f"{_listed(strangers)} of it has not opted in ({names.OPT_IN})"
    if bare := [pod.name for pod in members if not pod.injected]:
        return f"no container of {_listed(bare)} runs below crikpy's launcher"
    running = [pod for pod in members if not pod.deleting]
    twins = [name for name, count in Counter(pod.workload for pod in running).items() if count > 1]
    if twins:
        same = [pod.name for pod in running if pod.workload == twins[0]]
        return f"{_listed(same)} cannot be told from each other: they have no names or indices of their own"
    return ""


def not_yet_whole(pods: Iterable[Pod], members: Sequence[Pod]) -> str:
    """Say what a group lacks now to be saved, and may have soon; nothing when it is whole.

    Args:
        pods: all pods that were seen: those of the group that have ended well count for its size.
        members: its pods that have not ended.
    """
    if pending := [pod.name for pod in members if pod.phase != "Running"]:
        return f"{_listed(pending)} of it does not run yet"
    first, size = members[0], max(pod.group_size for pod in members)
    done = {
        pod.workload
        for pod in pods
        if pod.group == first.group and pod.namespace == first.namespace and pod.phase == "Succeeded"
    }
    there = len({pod.workload for pod in members} | done)
    return f"{there} of its {size} pods are there" if there < size else ""


def groups_of(pods: Iterable[Pod]) -> dict[tuple[str, str], tuple[Pod, ...]]:
    """Return the pods that have not ended of each group of which one has opted in, by namespace and name."""
    found: dict[tuple[str, str], list[Pod]] = {}
    for pod in pods:
        if pod.group and not pod.over:
            found.setdefault((pod.namespace, pod.group), []).append(pod)
    return {
        key: tuple(sorted(members, key=lambda pod: pod.name))
        for key, members in found.items()
        if any(pod.opted_in for pod in members)
    }


def group_order(members: Sequence[Pod], occasion: str, *, cause: str = "") -> GroupOrder:
    """Return the set of a group for an occasion, to be ordered for each member.

    Args:
        members: all pods of the group.
        occasion: such as a notice's id.
        cause: the node whose event it is for, or empty.
    """
    first = members[0]
    return GroupOrder(
        name=first.group,
        set_id=set_id(first.namespace, first.group, occasion, (pod.uid for pod in members)),
        cause=cause,
        members=tuple(
            GroupMember(pod=pod.name, pod_uid=pod.uid, node=pod.node, workload=pod.workload) for pod in members
        ),
    )


def _listed(pods: Sequence[str]) -> str:
    return some_of(pods, _NAMED)
