"""`crikpy checkpoint pod/…`, `list` and `why` against an API server: what they send, print and exit with."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from crikpy import names
from crikpy.kube.resources import CHECKPOINTS, EVENTS, NODES, PODS
from tests.fakes.kube import FakeKube

Json = dict[str, Any]
NAMESPACE = "team"


@pytest.fixture
async def kube() -> AsyncIterator[FakeKube]:
    async with FakeKube().serving() as server:
        yield server


Run = Callable[..., "asyncio.Future[subprocess.CompletedProcess[str]]"]


@pytest.fixture
def crikpy(kube: FakeKube, tmp_path: Path) -> Run:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(names.ENV_PREFIX)}
    environ["KUBECONFIG"] = str(kube.kubeconfig(tmp_path, namespace=NAMESPACE))
    program = str(Path(sys.executable).parent / "crikpy")

    def run(*words: str, **variables: str) -> asyncio.Future[subprocess.CompletedProcess[str]]:
        def act() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [program, *words], env={**environ, **variables}, capture_output=True, text=True, timeout=60
            )

        return asyncio.ensure_future(asyncio.to_thread(act))

    return run


def pod(**changes: Any) -> Json:
    annotations = {names.OPT_IN: "true", names.INJECTED: "main"}
    made: Json = {
        "metadata": {"name": "p", "namespace": NAMESPACE, "uid": "u-1", "annotations": annotations},
        "spec": {"nodeName": "n1", "containers": [{"name": "main", "command": ["/.crikpy/launch", "--", "work"]}]},
        "status": {"phase": "Running"},
    }
    for part, change in changes.items():
        made[part] = {**made[part], **change}
    return made


def node(*, ready: bool = True) -> Json:
    condition = {
        "type": names.CONDITION_READY,
        "status": "True" if ready else "False",
        "reason": "NodeCanSave" if ready else "CriuMissing",
        "message": "jobs can be saved" if ready else "there is no CRIU",
    }
    return {"metadata": {"name": "n1"}, "status": {"conditions": [condition]}}


def event(reason: str, message: str, *, at: str = "2026-01-02T03:04:05Z") -> Json:
    return {
        "metadata": {"name": f"p.{reason.lower()}", "namespace": NAMESPACE},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": NAMESPACE, "uid": "u-1"},
        "reason": reason,
        "message": message,
        "source": {"component": "crikpy-agent", "host": "n1"},
        "lastTimestamp": at,
    }


async def obey(kube: FakeKube, status: Json) -> Json:
    """Do the agent's part: wait for an order, and set its status."""
    await kube.until(lambda: kube.all(CHECKPOINTS))
    (order,) = kube.all(CHECKPOINTS)
    kube.update(CHECKPOINTS, order["metadata"]["name"], {"status": status}, namespace=NAMESPACE)
    return order


COMPLETE = {
    "phase": "Complete",
    "checkpoint": "20260102T030405Z-00000000",
    "bytes": {"memory": 3 * 1024**2, "stored": 1024**2, "reused": 0},
    "frozenDuration": "1.5s",
    "message": "the checkpoint is complete",
}


async def test_a_pod_is_ordered_to_be_saved_and_left_running(kube: FakeKube, crikpy: Run) -> None:
    kube.put(PODS, pod())
    running = crikpy("checkpoint", "pod/p")
    order = await obey(kube, COMPLETE)
    done = await running
    assert done.returncode == 0, done.stderr
    spec = order["spec"]
    assert (spec["podName"], spec["podUID"], spec["nodeName"]) == ("p", "u-1", "n1")
    assert (spec["trigger"], spec["leaveRunning"], spec["containers"]) == ("Manual", True, ["main"])
    assert "3.0 MiB, 1.0 MiB stored, stood still 1.5 s" in done.stdout


async def test_move_orders_the_pods_end(kube: FakeKube, crikpy: Run) -> None:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j-1", "controller": True}
    kube.put(PODS, pod(metadata={"ownerReferences": [owner]}))
    running = crikpy("checkpoint", "pod/p", "-n", NAMESPACE, "--move", "--output", "json")
    order = await obey(kube, COMPLETE)
    done = await running
    assert order["spec"]["leaveRunning"] is False
    assert json.loads(done.stdout)["phase"] == "Complete"


async def test_a_pod_that_nobody_would_make_again_is_not_moved(kube: FakeKube, crikpy: Run) -> None:
    kube.put(PODS, pod())
    done = await crikpy("checkpoint", "pod/p", "--move")
    assert done.returncode == 2
    assert "nobody would make pod team/p again" in done.stderr
    assert not kube.all(CHECKPOINTS)


async def test_a_failed_order_is_an_error_with_the_agents_words(kube: FakeKube, crikpy: Run) -> None:
    kube.put(PODS, pod())
    running = crikpy("checkpoint", "pod/p")
    await obey(kube, {"phase": "Failed", "reason": "UnsupportedJob", "message": "it uses io_uring"})
    done = await running
    assert done.returncode == 33
    assert "it uses io_uring" in done.stderr
    assert "crikpy why pod/p" in done.stderr


async def test_an_order_that_nobody_obeys_ends_with_a_hint(kube: FakeKube, crikpy: Run) -> None:
    kube.put(PODS, pod())
    done = await crikpy("checkpoint", "pod/p", CRIKPY_RUN_MANUAL_DEADLINE_S="1")
    assert done.returncode == 10
    assert "still Pending" in done.stderr
    assert "agent runs on n1" in done.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metadata": {"annotations": {}}}, "has not opted in"),
        ({"metadata": {"annotations": {names.OPT_IN: "true"}}}, "below crikpy's launcher"),
        ({"status": {"phase": "Succeeded"}}, "is Succeeded"),
    ],
)
async def test_a_pod_that_cannot_be_saved_is_refused_before_anything_is_made(
    kube: FakeKube, crikpy: Run, changes: Json, words: str
) -> None:
    kube.put(PODS, pod(**changes))
    done = await crikpy("checkpoint", "pod/p")
    assert done.returncode == 2
    assert words in done.stderr
    assert not kube.all(CHECKPOINTS)


async def test_a_cluster_without_crikpy_is_named_as_such(kube: FakeKube, crikpy: Run) -> None:
    kube.put(PODS, pod())
    kube.unknown.add("checkpoints")
    done = await crikpy("checkpoint", "pod/p")
    assert done.returncode == 83
    assert "does not know Checkpoint objects" in done.stderr


async def test_a_cluster_without_crikpy_is_named_as_such_by_list_and_outlived_by_why(
    kube: FakeKube, crikpy: Run
) -> None:
    kube.put(PODS, pod(metadata={"annotations": {}}))
    kube.unknown.add("checkpoints")
    listed = await crikpy("list")
    assert listed.returncode == 83
    assert "does not know Checkpoint objects" in listed.stderr
    explained = await crikpy("why", "pod/p")
    assert explained.returncode == 30, explained.stderr
    assert "does not know Checkpoint objects" in explained.stdout
    assert "crikpy.io/checkpoint is not set" in explained.stdout


async def test_list_without_a_cluster_says_how_to_list_a_store(crikpy: Run, tmp_path: Path) -> None:
    listed = await crikpy("list", KUBECONFIG=str(tmp_path / "none"))
    assert listed.returncode == 3
    assert "--store URL" in listed.stderr


async def test_the_words_of_a_later_release_are_shown_as_they_are(kube: FakeKube, crikpy: Run) -> None:
    kube.put(PODS, pod())
    strange = _order("strange", pod="p", minute=2)
    strange["spec"]["trigger"] = "Eclipse"
    strange["status"] = {"phase": "Melting"}
    kube.put(CHECKPOINTS, strange)
    (listed,) = json.loads((await crikpy("list", "--output", "json")).stdout)
    assert (listed["trigger"], listed["phase"]) == ("Eclipse", "Melting")
    assert "Eclipse/Melting" in (await crikpy("why", "pod/p")).stdout


async def test_an_order_that_cannot_be_read_hides_no_other(kube: FakeKube, crikpy: Run) -> None:
    kube.put(PODS, pod())
    strange = _order("strange", pod="p", minute=2)
    del strange["spec"]["workload"]
    kube.put(CHECKPOINTS, strange)
    kube.put(CHECKPOINTS, _order("known", pod="p", minute=1))
    listed = await crikpy("list", "--output", "json")
    assert [order["name"] for order in json.loads(listed.stdout)] == ["known"]
    assert "team/strange cannot be read" in listed.stderr
    explained = await crikpy("why", "pod/p")
    assert "checkpoint known" in explained.stdout
    assert "team/strange cannot be read" in explained.stderr


async def test_whoever_may_read_pods_alone_learns_what_they_tell(kube: FakeKube, crikpy: Run) -> None:
    kube.put(PODS, pod())
    for plural in ("events", "checkpoints", "nodes"):
        kube.trouble("403", plural=plural)
    done = await crikpy("why", "pod/p", "--output", "json")
    assert done.returncode == 0, done.stderr
    findings = {finding["name"]: finding["verdict"] for finding in json.loads(done.stdout)["findings"]}
    assert findings["launcher"] == "ok"
    assert (findings["events"], findings["orders"], findings["node"]) == ("warning",) * 3


async def test_no_such_pod(kube: FakeKube, crikpy: Run) -> None:
    done = await crikpy("why", "pod/nobody")
    assert done.returncode == 83
    assert "there is no pod team/nobody" in done.stderr


async def test_move_is_refused_for_a_job_on_a_machine(crikpy: Run) -> None:
    done = await crikpy("checkpoint", "a-job", "--move")
    assert done.returncode == 2
    assert "--move is for pods" in done.stderr


async def test_list_shows_orders_newest_first_and_of_one_pod(kube: FakeKube, crikpy: Run) -> None:
    for number, name in enumerate(("old", "new", "other")):
        kube.put(CHECKPOINTS, _order(name, pod="q" if name == "other" else "p", minute=number))
    done = await crikpy("list", "pod/p")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["new", "old"]
    everything = await crikpy("list", "-A", "--output", "json")
    assert [order["name"] for order in json.loads(everything.stdout)] == ["other", "new", "old"]


def _order(name: str, *, pod: str, minute: int) -> Json:
    return {
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "creationTimestamp": f"2026-01-02T03:{minute:02}:05Z",
        },
        "spec": {
            "podName": pod,
            "podUID": "u-1",
            "nodeName": "n1",
            "containers": ["main"],
            "workload": "w",
            "trigger": "Manual",
            "leaveRunning": True,
        },
        "status": COMPLETE,
    }


async def test_why_says_that_a_pod_can_be_saved_and_tells_its_story(kube: FakeKube, crikpy: Run) -> None:
    kube.put(PODS, pod())
    kube.put(NODES, node())
    kube.put(EVENTS, event("Restored", "goes on from checkpoint c"))
    kube.put(CHECKPOINTS, _order("first", pod="p", minute=1))
    done = await crikpy("why", "pod/p")
    assert done.returncode == 0, done.stdout
    assert "Pod team/p can be saved." in done.stdout
    assert "goes on from checkpoint c" in done.stdout
    assert "Manual/Complete" in done.stdout


@pytest.mark.parametrize(
    ("changes", "ready", "reason", "expected"),
    [
        ({"metadata": {"annotations": {}}}, True, "", "is not set"),
        ({"metadata": {"annotations": {names.OPT_IN: "yes"}}}, True, "", "'yes' is not allowed"),
        ({"metadata": {"annotations": {names.OPT_IN: "true"}}}, True, "", "the webhook was away"),
        ({}, False, "", "there is no CRIU"),
        ({}, True, "CannotBeSaved", "it uses io_uring"),
        ({"status": {"phase": "Pending"}}, True, "", "the pod is Pending"),
    ],
)
async def test_why_says_what_keeps_a_pod_from_being_saved(
    kube: FakeKube, crikpy: Run, changes: Json, ready: bool, reason: str, expected: str
) -> None:
    kube.put(PODS, pod(**changes))
    kube.put(NODES, node(ready=ready))
    if reason:
        kube.put(EVENTS, event(reason, "it uses io_uring"))
    done = await crikpy("why", "pod/p", "--output", "json")
    assert done.returncode == 30
    facts = json.loads(done.stdout)
    assert facts["able"] is False
    assert expected in " ".join(finding["fact"] for finding in facts["findings"] if finding["verdict"] == "failed")


async def test_a_job_that_could_not_be_saved_once_and_can_now_is_fine(kube: FakeKube, crikpy: Run) -> None:
    kube.put(PODS, pod())
    kube.put(NODES, node())
    kube.put(EVENTS, event("CannotBeSaved", "it uses io_uring"))
    kube.put(EVENTS, event("CanBeSaved", "it does no more", at="2026-01-02T04:04:05Z"))
    done = await crikpy("why", "pod/p")
    assert done.returncode == 0, done.stdout


async def test_an_api_server_that_is_away_is_one_line(kube: FakeKube, crikpy: Run) -> None:
    await kube.stop()
    done = await crikpy("why", "pod/p")
    assert done.returncode == 81
    assert done.stderr.startswith("crikpy: ")


def rank(number: int, **status: Any) -> Json:
    notes = {names.OPT_IN: "true", names.INJECTED: "main", names.GROUP: "ring"}
    metadata = {"name": f"rank-{number}", "uid": f"u-{number}", "annotations": notes}
    return pod(metadata=metadata, spec={"nodeName": f"n{number}"}, **({"status": status} if status else {}))


async def test_a_pod_of_a_group_is_saved_with_all_others_of_it_and_the_group_is_shown(
    kube: FakeKube, crikpy: Run
) -> None:
    for number in (1, 2):
        kube.put(PODS, rank(number))
    running = crikpy("checkpoint", "pod/rank-1")
    await kube.until(lambda: len(kube.all(CHECKPOINTS)) == 2)
    for order in kube.all(CHECKPOINTS):
        kube.update(CHECKPOINTS, order["metadata"]["name"], {"status": COMPLETE}, namespace=NAMESPACE)
    done = await running
    assert done.returncode == 0, done.stderr
    orders = {order["spec"]["podName"]: order["spec"] for order in kube.all(CHECKPOINTS)}
    assert orders["rank-1"]["group"] == orders["rank-2"]["group"]
    assert [member["podName"] for member in orders["rank-1"]["group"]["members"]] == ["rank-1", "rank-2"]
    assert orders["rank-2"]["nodeName"] == "n2"
    assert "ring" in (await crikpy("list")).stdout
    assert "is saved as a part of ring (rank-1, rank-2)" in (await crikpy("why", "pod/rank-1")).stdout


async def test_a_group_that_is_not_whole_is_not_saved_and_why_says_what_it_lacks(
    kube: FakeKube, crikpy: Run
) -> None:
    kube.put(PODS, rank(1))
    kube.put(PODS, rank(2, phase="Pending"))
    done = await crikpy("checkpoint", "pod/rank-1")
    assert done.returncode == 2
    assert "rank-2 of it does not run yet" in done.stderr
    assert not kube.all(CHECKPOINTS)
    assert "cannot be saved: rank-2 of it does not run yet" in (await crikpy("why", "pod/rank-1")).stdout
