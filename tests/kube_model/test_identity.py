"""Workload names: equal for pods that may stand for each other, different for all others, valid in every store."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.errors import UsageError
from crikpy.kube.identity import container_workload, owner_of, workload_name
from crikpy.kube.pods import parse_pod
from crikpy.model.pods import Owner
from crikpy.model.workload import Workload

UID = "0b1c2d3e-0000-4000-8000-000000000001"


def pod_of(
    kind: str,
    *,
    name: str = "train-x7k2p",
    owner: str = "train",
    uid: str = UID,
    group: str = "apps/v1",
    generated: bool = True,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return a pod that a controller of this kind made."""
    metadata: dict[str, Any] = {"name": name, "namespace": "team", "labels": labels or {}}
    metadata["annotations"] = annotations or {}
    if generated:
        metadata["generateName"] = f"{owner}-"
    metadata["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u"},
        {"apiVersion": group, "kind": kind, "name": owner, "uid": uid, "controller": True},
    ]
    return {"metadata": metadata}


INDEX = "batch.kubernetes.io/job-completion-index"


@pytest.mark.parametrize(
    ("pod", "name"),
    [
        ({"metadata": {"name": "alone"}}, "pod-alone"),
        (pod_of("StatefulSet", name="db-0"), "sts-db-0"),
        (pod_of("Job", group="batch/v1"), f"job-train-{UID}"),
        (pod_of("Job", group="batch/v1", annotations={INDEX: "2"}), f"job-train-{UID}-2"),
        (pod_of("ReplicaSet", labels={"pod-template-hash": "5d4f"}), f"rs-train-{UID}-5d4f"),
        (pod_of("ReplicationController", group="v1"), f"replicationcontroller-train-{UID}"),
        (pod_of("DaemonSet", labels={"controller-revision-hash": "77"}), f"daemonset-train-{UID}-77"),
        (
            pod_of("PyTorchJob", group="kubeflow.org/v1", name="train-worker-3", generated=False),
            f"pytorchjob-train-{UID}-train-worker-3",
        ),
        (
            pod_of("Job", group="batch.volcano.sh/v1alpha1", name="train-worker-3", generated=False),
            f"job-train-{UID}-train-worker-3",
        ),
    ],
)
def test_the_name_follows_from_who_made_the_pod(pod: dict[str, Any], name: str) -> None:
    assert workload_name(pod) == name


def test_replicas_of_one_template_share_a_name_and_those_of_another_do_not() -> None:
    first, second = (pod_of("ReplicaSet", name=name, labels={"pod-template-hash": "5d4f"}) for name in ("a", "b"))
    other = pod_of("ReplicaSet", labels={"pod-template-hash": "9999"})
    assert workload_name(first) == workload_name(second) != workload_name(other)


def test_only_the_controller_among_the_owners_counts() -> None:
    pod = {"metadata": {"name": "alone", "ownerReferences": [{"kind": "Job", "name": "x", "uid": "u"}]}}
    assert owner_of(pod) is None
    assert owner_of(pod_of("Job")) == Owner(kind="Job", name="train", uid=UID)


PARTS = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?", fullmatch=True)
UIDS = st.uuids().map(str)
PODS = st.one_of(
    st.builds(lambda name: {"metadata": {"name": name}}, PARTS),
    st.builds(lambda name: pod_of("StatefulSet", name=name), PARTS),
    st.builds(lambda owner, uid: pod_of("Job", group="batch/v1", owner=owner, uid=uid), PARTS, UIDS),
    st.builds(
        lambda owner, uid, index: pod_of(
            "Job", group="batch/v1", owner=owner, uid=uid, annotations={INDEX: str(index)}
        ),
        PARTS,
        UIDS,
        st.integers(0, 10_000),
    ),
    st.builds(
        lambda owner, uid, template: pod_of(
            "ReplicaSet", owner=owner, uid=uid, labels={"pod-template-hash": template}
        ),
        PARTS,
        UIDS,
        st.from_regex(r"[a-z0-9]{5,10}", fullmatch=True),
    ),
)


@given(PODS, st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True))
def test_every_name_is_one_that_stores_take(pod: dict[str, Any], container: str) -> None:
    pod["metadata"]["namespace"] = "team"
    parsed = parse_pod(pod)
    assert len(parsed.workload) <= 189
    assert container_workload("kubernetes", parsed, container) == Workload(
        cluster="kubernetes", namespace="team", name=f"{parsed.workload}.{container}"
    )


@given(st.lists(PODS, min_size=2, max_size=2, unique_by=str))
def test_different_makers_give_different_names(pods: list[dict[str, Any]]) -> None:
    assert workload_name(pods[0]) != workload_name(pods[1])


def test_long_names_that_differ_only_at_their_ends_stay_different() -> None:
    names = {workload_name(pod_of("StatefulSet", name="x" * 250 + f"-{index}")) for index in range(5)}
    assert len(names) == 5
    assert {len(name) for name in names} == {189}


@given(st.text(max_size=300))
def test_odd_names_become_valid_ones(name: str) -> None:
    Workload(cluster="c", namespace="n", name=workload_name({"metadata": {"name": name}}))


def test_a_cluster_name_that_no_store_takes_is_a_plain_error() -> None:
    with pytest.raises(UsageError, match="cluster"):
        container_workload("a/b", parse_pod(pod_of("Job")), "main")


def test_the_uid_of_a_controller_tells_it_from_its_namesake() -> None:
    again = pod_of("Job", group="batch/v1", uid=str(uuid.uuid4()))
    assert workload_name(again) != workload_name(pod_of("Job", group="batch/v1"))
