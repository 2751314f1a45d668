"""Pods from raw JSON: all that is there is read, and nothing odd is fatal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy import names
from crikpy.kube.pods import original_command, parse_pod
from crikpy.model.pods import Container, OnRebalance, OnRestoreFailure, Owner, PodOptions, VolumeMount

DIGEST = "sha256:" + "ab" * 32

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "train-x7k2p",
        "namespace": "team",
        "uid": "11111111-0000-4000-8000-000000000001",
        "resourceVersion": "4711",
        "creationTimestamp": "2026-11-24T10:00:00Z",
        "deletionTimestamp": "2026-11-24T12:00:30Z",
        "deletionGracePeriodSeconds": 30,
        "annotations": {
            names.OPT_IN: "true",
            names.INJECTED: "main,side",
            names.ON_REBALANCE: "ignore",
        },
        "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": "u-1", "controller": True}
        ],
    },
    "spec": {
        "nodeName": "node-a",
        "priority": 100,
        "terminationGracePeriodSeconds": 120,
        "initContainers": [{"name": "crikpy-launcher", "command": ["/launch"]}],
        "containers": [
            {
                "name": "main",
                "command": ["/.crikpy/launch", "--agent-wait", "30", "--", "python", "train.py"],
                "args": ["--", "-v"],
                "volumeMounts": [
                    {"name": "scratch", "mountPath": "/scratch"},
                    {"name": "data", "mountPath": "/data"},
                    {"name": "crikpy-launcher", "mountPath": "/.crikpy", "subPath": "main"},
                ],
            },
            {"name": "side", "command": ["sleep", "1"]},
        ],
        "volumes": [
            {"name": "scratch", "emptyDir": {}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "crikpy-launcher", "emptyDir": {}},
        ],
    },
    "status": {
        "phase": "Running",
        "startTime": "2026-11-24T10:00:05Z",
        "conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"},
        ],
        "containerStatuses": [
            {"name": "side", "imageID": "", "restartCount": 0},
            {
                "name": "main",
                "imageID": f"registry.example/team/train@{DIGEST}",
                "restartCount": 2,
                "state": {"running": {"startedAt": "2026-11-24T11:30:00Z"}},
            },
        ],
    },
}


def test_all_that_is_there_is_read() -> None:
    pod = parse_pod(POD)
    assert (pod.namespace, pod.name, pod.uid) == ("team", "train-x7k2p", POD["metadata"]["uid"])
    assert (pod.resource_version, pod.node, pod.phase) == ("4711", "node-a", "Running")
    assert (pod.opted_in, pod.injected, pod.fault) == (True, ("main", "side"), "")
    assert pod.options is not None
    assert pod.options.on_rebalance is OnRebalance.IGNORE
    assert pod.owner == Owner(kind="Job", name="train", uid="u-1")
    assert pod.workload == "job-train-u-1"
    assert (pod.priority, pod.grace_period_s) == (100, 120)
    assert pod.created == datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
    assert pod.started == datetime(2026, 11, 24, 10, 0, 5, tzinfo=UTC)
    assert pod.deleting
    assert pod.deletion_deadline == datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC)
    assert pod.disruption == "EvictionByEvictionAPI"


def test_containers_are_read_without_the_launchers_part() -> None:
    assert parse_pod(POD).containers == (
        Container(
            name="main",
            command=("python", "train.py", "--", "-v"),
            mounts=(
                VolumeMount(volume="scratch", path="/scratch", empty_dir=True),
                VolumeMount(volume="data", path="/data", empty_dir=False),
            ),
            image_digest=DIGEST,
            restarts=2,
            started=datetime(2026, 11, 24, 11, 30, 0, tzinfo=UTC),
        ),
        Container(name="side", command=("sleep", "1")),
    )


def test_a_pod_works_since_its_jobs_were_started_the_last_time() -> None:
    pod = parse_pod(POD)
    assert pod.working_since == datetime(2026, 11, 24, 11, 30, 0, tzinfo=UTC), "it was started again in place"
    silent = parse_pod(POD | {"status": {"startTime": "2026-11-24T10:00:05Z"}})
    assert silent.working_since == silent.started


@pytest.mark.parametrize("image", [f"docker-pullable://x@{DIGEST}", DIGEST, f"docker.io/library/x@{DIGEST}"])
def test_the_digest_is_found_however_the_runtime_writes_it(image: str) -> None:
    pod = {
        "spec": {"containers": [{"name": "a"}]},
        "status": {"containerStatuses": [{"name": "a", "imageID": image}]},
    }
    assert parse_pod(pod).containers[0].image_digest == DIGEST


@pytest.mark.parametrize(
    ("command", "original"),
    [
        (("/.crikpy/launch", "--agent-wait", "30", "--", "a", "--", "b"), ("a", "--", "b")),
        (("/.crikpy/launch", "--", "a"), ("a",)),
        (("/.crikpy/launch", "version"), ("/.crikpy/launch", "version")),
        (("sh", "--", "a"), ("sh", "--", "a")),
        ((), ()),
    ],
)
def test_the_original_command_is_what_follows_the_launcher(
    command: tuple[str, ...], original: tuple[str, ...]
) -> None:
    assert original_command(command) == original


def test_a_bad_annotation_is_a_fault_and_hides_no_other() -> None:
    notes = {names.OPT_IN: "true", names.KEEP: "none", names.RESTORE_FAILURE: "fail"}
    pod = parse_pod({"metadata": {"annotations": notes}})
    assert pod.opted_in
    assert pod.options == PodOptions(restore_failure=OnRestoreFailure.FAIL)
    assert names.KEEP in pod.fault
    assert names.RESTORE_FAILURE not in pod.fault


def test_a_condition_that_is_over_is_no_disruption() -> None:
    conditions = [{"type": "DisruptionTarget", "status": "False", "reason": "PreemptionByScheduler"}]
    assert parse_pod({"status": {"conditions": conditions}}).disruption == ""


def test_an_empty_pod_has_defaults() -> None:
    pod = parse_pod({})
    assert (pod.phase, pod.grace_period_s, pod.opted_in, pod.deleting) == ("Pending", 30, False, False)


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)


def spoilt(value: Any) -> st.SearchStrategy[Any]:
    """Return the JSON with any of its parts replaced by something else, or missing."""
    parts: st.SearchStrategy[Any] = st.just(value)
    if isinstance(value, dict):
        parts = st.fixed_dictionaries({}, optional={name: spoilt(item) for name, item in value.items()})
    elif isinstance(value, list):
        parts = st.tuples(*(spoilt(item) for item in value)).map(list)
    return (
        parts | SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(max_size=5), SCALARS, max_size=2)
    )


@given(spoilt(POD).filter(lambda pod: isinstance(pod, dict)))
def test_no_pod_is_too_odd_to_be_read(pod: dict[str, Any]) -> None:
    assert isinstance(parse_pod(pod).containers, tuple)
