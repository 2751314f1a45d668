"""Which pods are one job: by what they say themselves, else by what operators write on them."""

from __future__ import annotations

from typing import Any

import pytest

from crikpy import names
from crikpy.kube.grouping import group_of
from crikpy.kube.identity import workload_name
from crikpy.kube.orders import parse_order, render_order
from crikpy.kube.pods import parse_pod
from crikpy.model.groups import GroupMember, GroupOrder
from crikpy.model.notices import Trigger
from crikpy.model.orders import Order, OrderSpec
from tests.kube_model.test_identity import pod_of

JOBSET = {"jobset.sigs.k8s.io/jobset-name": "train", "jobset.sigs.k8s.io/jobset-uid": "set-uid"}
KUBEFLOW = {"training.kubeflow.org/job-name": "ddp", "training.kubeflow.org/replica-type": "worker"}
LWS = {"leaderworkerset.sigs.k8s.io/name": "serve", "leaderworkerset.sigs.k8s.io/group-index": "2"}


def a_pod(labels: dict[str, str] | None = None, **notes: str) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "n", "labels": labels or {}, "annotations": notes}}


@pytest.mark.parametrize(
    ("labels", "notes", "group", "size"),
    [
        ({}, {}, "", 0),
        ({}, {names.GROUP: "ring"}, "ring", 0),
        ({}, {names.GROUP: "ring", names.GROUP_SIZE: "4"}, "ring", 4),
        (JOBSET, {}, "jobset-train", 0),
        (KUBEFLOW, {}, "kubeflow-ddp", 0),
        (LWS, {"leaderworkerset.sigs.k8s.io/size": "3"}, "lws-serve-2", 3),
        (JOBSET, {names.GROUP: "ring"}, "ring", 0),
        (JOBSET, {names.GROUP: "none"}, "", 0),
        ({}, {names.GROUP_SIZE: "4"}, "", 0),
        ({}, {names.GROUP: "../x"}, "", 0),
        ({}, {names.GROUP: "ring", names.GROUP_SIZE: "many"}, "ring", 0),
    ],
)
def test_a_pods_group_is_what_it_says_else_what_its_operator_says(
    labels: dict[str, str], notes: dict[str, str], group: str, size: int
) -> None:
    pod = a_pod(labels, **notes)
    assert group_of(pod) == (group, size)
    assert (parse_pod(pod).group, parse_pod(pod).group_size) == (group, size)


def test_a_bad_group_is_named_with_what_is_allowed() -> None:
    fault = parse_pod(a_pod({}, **{names.GROUP: "Big Ring", names.GROUP_SIZE: "0"})).fault
    assert names.GROUP in fault
    assert names.GROUP_SIZE in fault


def test_the_pods_of_a_jobset_keep_their_names_when_it_makes_its_jobs_anew() -> None:
    index = {"batch.kubernetes.io/job-completion-index": "1"}

    def name(uid: str, labels: dict[str, str]) -> str:
        return workload_name(
            pod_of("Job", group="batch/v1", owner="train-w-0", uid=uid, labels=labels, annotations=index)
        )

    assert name("old", JOBSET) == name("new", JOBSET) == "job-train-w-0-set-uid-1"
    assert name("old", {}) != name("new", {})


def test_an_order_of_a_group_is_read_as_it_was_written() -> None:
    members = tuple(GroupMember(pod=f"p{n}", pod_uid=f"u{n}", node="n", workload=f"w{n}") for n in (0, 1))
    for cause in ("", "n2"):
        group = GroupOrder(name="ring", set_id="0123", cause=cause, members=members)
        spec = OrderSpec(
            pod="p0",
            pod_uid="u0",
            node="n",
            containers=("main",),
            workload="w0",
            trigger=Trigger.MANUAL,
            group=group,
        )
        order = Order(namespace="ns", name="o", spec=spec)
        assert parse_order(render_order(order)).spec == spec
        assert order.cause == (cause or "n")
