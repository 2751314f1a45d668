"""`crikpy uninstall` against an API server: in which order crikpy goes, what stays, what strands nobody."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from crikpy import names
from crikpy.kube import resources
from crikpy.kube.resources import (
    CHECKPOINTS,
    CRON_JOBS,
    DAEMON_SETS,
    DEPLOYMENTS,
    LEASES,
    MUTATING_WEBHOOKS,
    NODES,
    PODS,
    SECRETS,
    VALIDATING_WEBHOOKS,
    Resource,
)
from tests.fakes.kube import FakeKube

Json = dict[str, Any]
Run = Callable[..., "asyncio.Future[subprocess.CompletedProcess[str]]"]
ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "crikpy-system"
OTHERS = {"key": "others", "value": "", "effect": "NoSchedule"}


@pytest.fixture
async def kube() -> AsyncIterator[FakeKube]:
    async with FakeKube().serving() as server:
        yield server


@pytest.fixture
def uninstall(kube: FakeKube, tmp_path: Path) -> Run:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(names.ENV_PREFIX)}
    environ["KUBECONFIG"] = str(kube.kubeconfig(tmp_path))
    program = str(Path(sys.executable).parent / "crikpy")

    def run(*words: str) -> asyncio.Future[subprocess.CompletedProcess[str]]:
        command = [program, "uninstall", *words]
        return asyncio.ensure_future(
            asyncio.to_thread(
                subprocess.run,
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
            )
        )

    return run


def agents() -> Json:
    """The DaemonSet as it is shipped, on one node."""
    path = ROOT / "daemonset/base/daemonset.yaml"
    found: Json = yaml.safe_load(path.read_text())
    found["metadata"]["generation"] = 1
    done = {"desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberAvailable": 1}
    return {**found, "status": {"observedGeneration": 9, **done}}


def node(name: str = "n1", **changes: Any) -> Json:
    """A node as agents and controller leave one that is under a notice, with things of others beside."""
    made: Json = {
        "metadata": {
            "name": name,
            "labels": {names.LABEL_READY: "true", names.LABEL_CPU: "c", names.LABEL_FAMILY: "m7i", "pool": "a"},
            "annotations": {names.CORDONED: "x", names.REPORTED: "y", names.CPU_FEATURES: "avx", "theirs": "z"},
        },
        "spec": {
            "unschedulable": True,
            "taints": [OTHERS, {"key": names.TAINT, "value": "Spot", "effect": "NoSchedule"}],
        },
        "status": {
            "conditions": [
                {"type": "Ready", "status": "True"},
                {"type": names.CONDITION_READY, "status": "True"},
                {"type": names.CONDITION_NOTICE, "status": "False"},
            ]
        },
    }
    for part, change in changes.items():
        made[part] = {**made[part], **change}
    return made


def checkpoint(name: str = "c1", *, phase: str = "Restored", **metadata: Any) -> Json:
    return {
        "metadata": {"name": name, "namespace": "team", "finalizers": [names.FINALIZER], **metadata},
        "spec": {"podName": "p", "podUID": "u-1", "nodeName": "n1", "containers": ["main"], "leaveRunning": False},
        "status": {"phase": phase, "checkpoint": "20260102T030405Z-00000000"},
    }


def install(kube: FakeKube) -> None:
    kube.put(DAEMON_SETS, agents())
    for kind, name in (
        (DEPLOYMENTS, "crikpy-controller"),
        (CRON_JOBS, "crikpy-tidy"),
        (LEASES, "crikpy-controller"),
        (SECRETS, "crikpy-webhook-tls"),
        (SECRETS, "crikpy-keys"),
    ):
        kube.put(kind, {"metadata": {"name": name, "namespace": SYSTEM}})
    for kind in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
        kube.put(kind, {"metadata": {"name": "crikpy-webhook"}})
    kube.put(NODES, node())
    kube.put(CHECKPOINTS, checkpoint())
    pod: Json = {"metadata": {"name": "p", "namespace": "team", "uid": "u-1"}, "status": {"phase": "Running"}}
    kube.put(PODS, pod)


def left(kube: FakeKube) -> set[tuple[str, str]]:
    kinds = [kind for kind in vars(resources).values() if isinstance(kind, Resource)]
    return {(kind.kind, each["metadata"]["name"]) for kind in kinds for each in kube.all(kind)}


async def test_all_of_it_goes_and_what_is_somebody_elses_stays(kube: FakeKube, uninstall: Run) -> None:
    install(kube)
    done = await uninstall("--yes")
    assert done.returncode == 0, done.stderr
    assert left(kube) == {("Node", "n1"), ("Pod", "p"), ("Secret", "crikpy-keys")}
    (found,) = kube.all(NODES)
    assert found["metadata"]["labels"] == {"pool": "a"}
    assert found["metadata"]["annotations"] == {"theirs": "z"}
    assert found["spec"]["taints"] == [OTHERS]
    assert not found["spec"].get("unschedulable")
    assert [each["type"] for each in found["status"]["conditions"]] == ["Ready"]
    assert not kube.seen(plural="pods", verb="delete") and not kube.seen(plural="pods", verb="patch")


async def test_done_again_it_does_nothing_and_says_so(kube: FakeKube, uninstall: Run) -> None:
    install(kube)
    assert (await uninstall("--yes")).returncode == 0
    count = len([each for each in kube.seen() if each.verb in ("delete", "patch", "replace")])
    again = await uninstall("--yes")
    assert again.returncode == 0, again.stderr
    assert "nothing of crikpy's" in again.stdout
    assert len([each for each in kube.seen() if each.verb in ("delete", "patch", "replace")]) == count


async def test_a_cluster_whose_kind_is_gone_already_is_made_clean_all_the_same(
    kube: FakeKube, uninstall: Run
) -> None:
    kube.put(NODES, node())
    kube.unknown.add("checkpoints")
    done = await uninstall("--yes")
    assert done.returncode == 0, done.stderr
    assert kube.all(NODES)[0]["metadata"]["labels"] == {"pool": "a"}


async def test_webhooks_go_first_then_controller_then_agents_and_nodes_last(
    kube: FakeKube, uninstall: Run
) -> None:
    install(kube)
    assert (await uninstall("--yes")).returncode == 0
    writes = [
        (each.verb, each.plural)
        for each in kube.seen()
        if each.verb in ("delete", "patch", "replace") and each.agent.startswith("crikpy")
    ]
    order = [
        ("delete", "mutatingwebhookconfigurations"),
        ("delete", "deployments"),
        ("delete", "checkpoints"),
        ("replace", "daemonsets"),
        ("delete", "daemonsets"),
        ("patch", "checkpoints"),
        ("patch", "nodes"),
        ("delete", "leases"),
    ]
    assert [each for each in dict.fromkeys(writes) if each in order] == order


async def test_a_dry_run_writes_nothing_and_names_everything(kube: FakeKube, uninstall: Run) -> None:
    install(kube)
    before = left(kube)
    done = await uninstall("--dry-run", "--output", "json")
    assert done.returncode == 0, done.stderr
    assert left(kube) == before
    assert not [each for each in kube.seen() if each.verb not in ("get", "list")]
    told = [each["step"] for each in json.loads(done.stdout)["steps"]]
    assert set(told) == {"webhooks", "controller", "checkpoints", "agents", "nodes", "traces"}


async def test_without_anybody_to_ask_it_wants_to_be_told_that_it_is_meant(kube: FakeKube, uninstall: Run) -> None:
    install(kube)
    before = left(kube)
    done = await uninstall()
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert left(kube) == before


@pytest.mark.parametrize("words", [("--timeout", "soon"), ("--checkpoints", "burn"), ("extra",)])
async def test_wrong_words_are_refused_before_anything_is_asked(
    kube: FakeKube, uninstall: Run, words: tuple[str, ...]
) -> None:
    done = await uninstall("--yes", *words)
    assert done.returncode == 2
    assert not kube.seen()


async def test_a_cordon_of_somebody_else_stays(kube: FakeKube, uninstall: Run) -> None:
    kube.put(NODES, node(metadata={"annotations": {names.UNCORDONED: "x"}}))
    assert (await uninstall("--yes")).returncode == 0
    (found,) = kube.all(NODES)
    assert found["spec"]["unschedulable"] is True
    assert not found["metadata"].get("annotations")


async def test_a_node_that_others_change_at_the_same_moment_is_read_again(kube: FakeKube, uninstall: Run) -> None:
    kube.put(NODES, node())
    kube.trouble("409", verb="patch", plural="nodes", times=2)
    done = await uninstall("--yes")
    assert done.returncode == 0, done.stderr
    assert kube.all(NODES)[0]["metadata"]["labels"] == {"pool": "a"}


async def test_what_is_stored_goes_by_controller_and_agents_while_they_are_there(
    kube: FakeKube, uninstall: Run
) -> None:
    install(kube)
    running = uninstall("--yes", "--checkpoints=delete")
    await kube.until(lambda: any("deletionTimestamp" in each["metadata"] for each in kube.all(CHECKPOINTS)))
    assert kube.get(DEPLOYMENTS, "crikpy-controller", namespace=SYSTEM)
    assert not kube.all(MUTATING_WEBHOOKS)
    kube.remove(CHECKPOINTS, "c1", namespace="team")  # as the controller does by the finalizer
    done = await running
    assert done.returncode == 0, done.stderr
    assert "the store keeps" not in done.stderr
    assert not kube.all(DEPLOYMENTS)


async def test_what_nobody_removes_from_the_store_is_named_and_let_go_of(kube: FakeKube, uninstall: Run) -> None:
    install(kube)
    done = await uninstall("--yes", "--checkpoints=delete", "--timeout=6s")
    assert done.returncode == 0, done.stderr
    assert "the store may keep what it holds for team/c1" in done.stderr
    assert not kube.all(CHECKPOINTS)


async def test_jobs_that_are_being_resumed_are_waited_for_while_the_webhooks_are_there(
    kube: FakeKube, uninstall: Run
) -> None:
    install(kube)
    kube.update(CHECKPOINTS, "c1", {"status": {"phase": "Restoring"}}, namespace="team")
    running = uninstall("--yes")
    await kube.until(lambda: len(kube.seen("list", "checkpoints")) > 2)
    assert kube.all(MUTATING_WEBHOOKS)
    kube.update(CHECKPOINTS, "c1", {"status": {"phase": "Restored"}}, namespace="team")
    done = await running
    assert done.returncode == 0, done.stderr
    assert "team/c1" in done.stderr


async def test_a_bare_pod_that_only_its_checkpoint_object_remembers_is_not_given_up(
    kube: FakeKube, uninstall: Run
) -> None:
    install(kube)
    kube.remove(PODS, "p", namespace="team")
    kube.put(CHECKPOINTS, checkpoint("c2", phase="Complete", annotations={names.RECREATE_FROM: "{}"}))
    done = await uninstall("--yes", "--timeout=8s")
    assert done.returncode == 10, done.stderr
    assert "team/c2" in done.stderr
    assert kube.all(MUTATING_WEBHOOKS) and kube.all(DEPLOYMENTS) and len(kube.all(CHECKPOINTS)) == 2


async def test_a_moved_job_counts_as_on_its_way_for_a_while_and_not_for_ever(
    kube: FakeKube, uninstall: Run
) -> None:
    saved = checkpoint("c2", phase="Complete")
    saved["status"]["completionTime"] = "2020-01-02T03:04:05Z"
    kube.put(CHECKPOINTS, saved)
    old = await uninstall("--dry-run")
    assert "resumed now" not in old.stderr
    kube.update(CHECKPOINTS, "c2", {"status": {"completionTime": datetime.now(UTC).isoformat()}}, namespace="team")
    assert "resumed now: team/c2" in (await uninstall("--dry-run")).stderr


async def test_what_agents_kept_on_their_nodes_is_removed_in_their_place(kube: FakeKube, uninstall: Run) -> None:
    install(kube)
    waiting = agents()
    waiting["status"]["numberAvailable"] = 0
    kube.put(DAEMON_SETS, waiting)
    running = uninstall("--yes")
    await kube.until(lambda: "initContainers" in kube.all(DAEMON_SETS)[0]["spec"]["template"]["spec"])
    (found,) = kube.all(DAEMON_SETS)
    pod = found["spec"]["template"]["spec"]
    before = agents()["spec"]["template"]["spec"]
    (sweep,) = pod["initContainers"]
    assert sweep["image"] == before["containers"][0]["image"]
    assert sweep["command"][-1] == "/host/crikpy"
    assert pod["volumes"] == [{"name": "state", "hostPath": {"path": "/var/lib", "type": "Directory"}}]
    assert (pod["tolerations"], pod["nodeSelector"]) == (before["tolerations"], before["nodeSelector"])
    assert not pod.get("hostPID") and not pod.get("hostNetwork")
    kube.update(DAEMON_SETS, "crikpy-agent", {"status": agents()["status"]}, namespace=SYSTEM)
    done = await running
    assert done.returncode == 0, done.stderr
    assert not kube.all(DAEMON_SETS)


async def test_a_refusal_is_one_line_with_what_can_be_done(kube: FakeKube, uninstall: Run) -> None:
    install(kube)
    kube.trouble("403", verb="delete", plural="mutatingwebhookconfigurations")
    done = await uninstall("--yes")
    assert done.returncode == 82
    assert "Traceback" not in done.stderr
    assert kube.all(DEPLOYMENTS)
