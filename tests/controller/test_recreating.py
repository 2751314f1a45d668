"""A bare pod is made again as its user wrote it, once, and only when it is gone and saved."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from crikpy import names
from crikpy.controller.actions import RecreatePod, SettleOrder
from crikpy.controller.recreating import clean_pod, plan_recreations
from crikpy.model.notices import Trigger
from crikpy.model.orders import OrderPhase
from tests.controller.clusters import a_node, a_notice, a_pod, a_view, an_order, at

DYING = a_node(notice=a_notice())


def kinds(*objects: Any, now_s: float = 30) -> list[type]:
    """Return what is done about bare pods."""
    return [type(action) for action in plan_recreations(a_view(*objects, now_s=now_s))]


def test_a_saved_pod_is_made_again_when_it_is_gone() -> None:
    assert kinds(DYING, an_order(recreates=True)) == [RecreatePod]
    assert not kinds(DYING, an_order(recreates=True), a_pod())
    assert not kinds(DYING, an_order(recreates=True), a_pod(deleting=True))


def test_also_when_its_node_is_gone_or_the_notice_is_long_over() -> None:
    assert kinds(an_order(recreates=True), now_s=3600) == [RecreatePod]


def test_only_if_its_order_holds_it() -> None:
    assert not kinds(DYING, an_order())


@pytest.mark.parametrize("phase", [phase for phase in OrderPhase if phase is not OrderPhase.COMPLETE])
def test_only_if_it_was_saved(phase: OrderPhase) -> None:
    assert not kinds(DYING, an_order(recreates=True, phase=phase))


def test_once_made_again_the_order_lets_go_of_it() -> None:
    again = a_pod(uid="new", node="n2")
    for phase in (OrderPhase.COMPLETE, OrderPhase.RESTORED):
        assert kinds(DYING, an_order(recreates=True, phase=phase), again) == [SettleOrder]


def test_a_spared_pod_is_not_made_again_after_its_own_end() -> None:
    assert kinds(a_node(), an_order(recreates=True), a_pod()) == [SettleOrder]
    assert kinds(a_node(notice=a_notice(), heartbeat=at(400)), an_order(recreates=True), a_pod(), now_s=421) == [
        SettleOrder
    ]
    assert not kinds(a_node(), an_order(recreates=True), a_pod(deleting=True))


def test_a_pod_that_is_moved_by_hand_is_held_until_it_is_gone() -> None:
    by_hand = an_order(recreates=True, notice="", trigger=Trigger.MANUAL)
    assert not kinds(a_node(), by_hand, a_pod())
    assert kinds(a_node(), by_hand) == [RecreatePod]


WRITTEN: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "bare",
        "namespace": "default",
        "labels": {"app": "x"},
        "annotations": {names.OPT_IN: "true", names.RECREATE: "true"},
    },
    "spec": {
        "containers": [
            {
                "name": "main",
                "image": "job:1",
                "command": ["python3", "job.py"],
                "args": ["--fast"],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "field-of-next-year": {"kept": True},
            },
            {"name": "side", "image": "side:1"},
        ],
        "initContainers": [{"name": "prepare", "image": "job:1"}],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "serviceAccountName": "runner",
        "priorityClassName": "high",
        "nodeSelector": {"disk": "fast"},
        "restartPolicy": "Never",
    },
}


def as_it_runs() -> dict[str, Any]:
    """Return the pod as the API server, admission and the scheduler have made it."""
    raw = copy.deepcopy(WRITTEN)
    token = {"name": "kube-api-access-x7x2z", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    raw["metadata"] |= {
        "uid": "u",
        "resourceVersion": "9",
        "creationTimestamp": "2026-11-24T10:00:00Z",
        "generation": 1,
        "managedFields": [{}],
        "deletionTimestamp": "2026-11-24T11:00:00Z",
        "deletionGracePeriodSeconds": 30,
        "finalizers": ["x/y"],
    }
    raw["metadata"]["annotations"][names.INJECTED] = "main"
    spec = raw["spec"]
    spec |= {
        "nodeName": "n1",
        "priority": 1000,
        "preemptionPolicy": "PreemptLowerPriority",
        "serviceAccount": "runner",
        "ephemeralContainers": [{"name": "debugger", "image": "busybox"}],
    }
    main = spec["containers"][0]
    main["command"] = ["/.crikpy/launch", "--agent-wait", "30", "--", *main["command"]]
    main["volumeMounts"] += [{"name": names.LAUNCHER_VOLUME, "mountPath": "/.crikpy", "subPath": "main"}, token]
    spec["containers"][1]["volumeMounts"] = [token]
    launcher = {"name": names.LAUNCHER_CONTAINER, "image": "launcher:1", "volumeMounts": [token]}
    spec["initContainers"] = [launcher, spec["initContainers"][0] | {"volumeMounts": [token]}]
    spec["volumes"] += [{"name": names.LAUNCHER_VOLUME, "emptyDir": {}}, {"name": token["name"], "projected": {}}]
    raw["status"] = {"phase": "Running"}
    return raw


def test_a_pod_is_cleaned_back_to_what_its_user_wrote() -> None:
    assert clean_pod(as_it_runs()) == WRITTEN


def test_cleaning_changes_neither_its_source_nor_what_is_clean() -> None:
    raw = as_it_runs()
    before = copy.deepcopy(raw)
    clean_pod(raw)
    assert raw == before
    assert clean_pod(WRITTEN) == WRITTEN


def test_a_pod_with_nothing_but_the_launcher_added_has_no_empty_lists_left() -> None:
    raw = as_it_runs()
    del raw["spec"]["initContainers"][1]
    raw["spec"]["volumes"] = raw["spec"]["volumes"][1:]
    cleaned = clean_pod(raw)
    assert cleaned is not None
    assert "initContainers" not in cleaned["spec"]
    assert "volumes" not in cleaned["spec"]


def test_a_static_pod_is_left_to_kubelet() -> None:
    raw = as_it_runs()
    raw["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "hash"
    assert clean_pod(raw) is None
