"""`crikpy check --cluster`: what it says of a whole cluster, and of one that lacks something."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crikpy.aio.clock import Deadline
from crikpy.kube.client import KubeClient
from crikpy.kube.judging import judge
from crikpy.kube.resources import (
    CONFIG_MAPS,
    DAEMON_SETS,
    DEFINITIONS,
    ENDPOINT_SLICES,
    EVENTS,
    LEASES,
    MUTATING_WEBHOOKS,
    NAMESPACES,
    NODES,
    PODS,
)
from crikpy.kube.surveying import survey
from crikpy.model.health import Finding, Verdict
from crikpy.settings import from_env
from tests.cli.test_on_a_cluster import Run, crikpy
from tests.fakes.kube import FakeKube
from tests.kube.wholes import HOME, LEVEL, fill, metrics_of, node, pod

__all__ = ["crikpy"]
OK, WARNING, FAILED = Verdict.OK, Verdict.WARNING, Verdict.FAILED


@pytest.fixture
async def kube() -> AsyncIterator[FakeKube]:
    async with FakeKube().serving() as server:
        fill(server)
        yield server


async def look(kube: FakeKube, folder: Path) -> dict[str, Finding]:
    async with await KubeClient.connect(kube.settings(folder)) as api:
        seen = await survey(api, from_env({}), HOME, Deadline.after(20))
    findings = judge(seen, datetime.now(UTC), "0.1.0")
    found = {finding.name: finding for finding in findings}
    assert len(found) == len(findings), "names are unique in a report"
    assert all(finding.remedy for finding in findings if finding.verdict is not OK), "each has a remedy"
    return found


async def test_a_whole_cluster_lacks_nothing(kube: FakeKube, tmp_path: Path) -> None:
    found = await look(kube, tmp_path)
    assert {name: one for name, one in found.items() if one.verdict is not OK} == {}
    assert found["api"].fact == "Kubernetes v1.34.1"
    assert found["metadata"].fact == "agents that it answers: 2"
    assert found["cpu"].fact == "a job of any of 2 nodes can be resumed on another"


async def test_only_what_is_read_is_asked(kube: FakeKube, tmp_path: Path) -> None:
    await look(kube, tmp_path)
    assert {request.verb for request in kube.requests} == {"get", "list"}
    assert not kube.seen(plural="secrets")


Change = Callable[[FakeKube], object]
LACKS: dict[str, tuple[Change, str, Verdict, str]] = {
    "an old API server": (
        lambda kube: kube.behind.update({"/version": '{"gitVersion": "v1.30.9-eks-1"}'}),
        "api",
        FAILED,
        "v1.30.9-eks-1, which is too old",
    ),
    "no CRD": (lambda kube: kube.remove(DEFINITIONS, "checkpoints.crikpy.io"), "crd", FAILED, "there is no CRD"),
    "another release's CRD": (
        lambda kube: kube.update(DEFINITIONS, "checkpoints.crikpy.io", {"spec": {"versions": [{"name": "v9"}]}}),
        "crd",
        FAILED,
        "serves v9, and this release needs v1alpha1",
    ),
    "a strict namespace": (
        lambda kube: kube.update(NAMESPACES, HOME, {"metadata": {"labels": {LEVEL: "restricted"}}}),
        "namespace",
        FAILED,
        "permits only restricted pods",
    ),
    "no store": (
        lambda kube: kube.update(CONFIG_MAPS, "crikpy-config", {"data": None}, namespace=HOME),
        "store",
        FAILED,
        "has no CRIKPY_STORE",
    ),
    "an agent that is not ready": (
        lambda kube: kube.update(DAEMON_SETS, "crikpy-agent", {"status": {"numberReady": 1}}, namespace=HOME),
        "agents",
        FAILED,
        "1 of 2 are ready",
    ),
    "a leader that fell silent": (
        lambda kube: kube.update(
            LEASES, "crikpy-controller", {"spec": {"renewTime": "2026-01-02T03:04:05Z"}}, namespace=HOME
        ),
        "leader",
        FAILED,
        "crikpy-controller-a has not renewed its lease",
    ),
    "no webhook": (
        lambda kube: kube.remove(MUTATING_WEBHOOKS, "crikpy-webhook"),
        "webhook",
        FAILED,
        "no pod gets the launcher",
    ),
    "a webhook without an authority": (
        lambda kube: kube.update(MUTATING_WEBHOOKS, "crikpy-webhook", {"webhooks": [{"name": "a"}]}),
        "webhook",
        FAILED,
        "no certificate authority",
    ),
    "an authority that has ended": (
        lambda kube: fill(kube, certified_for=timedelta(days=-1)),
        "webhook",
        FAILED,
        "its certificate authority ended at",
    ),
    "a webhook that nobody answers": (
        lambda kube: kube.update(
            ENDPOINT_SLICES, "s", {"endpoints": [{"conditions": {"ready": False}}]}, namespace=HOME
        ),
        "webhook-service",
        FAILED,
        "no ready endpoint",
    ),
    "a node that cannot reach the store": (
        lambda kube: kube.put(NODES, node("n2", ready=False)),
        "node-n2",
        FAILED,
        "StoreUnavailable: the store s3://b cannot be reached",
    ),
    "a node without an agent": (
        lambda kube: kube.put(NODES, {"metadata": {"name": "n3"}}),
        "node-n3",
        FAILED,
        "no agent has reported",
    ),
    "a node whose CPU has more than any other": (
        lambda kube: kube.put(NODES, node("n3", features="avx avx2 amx")),
        "cpu-n3",
        WARNING,
        "even n1 lacks amx",
    ),
    "a metadata service that does not answer": (
        lambda kube: kube.behind.update({metrics_of("n2"): "crikpy_metadata_reachable 0.0\n"}),
        "metadata",
        WARNING,
        "does not answer agents on n2",
    ),
    "a pod without the launcher": (
        lambda kube: kube.put(PODS, pod("late", injected=False)),
        "pods-launcher",
        WARNING,
        "1 of 2 pods run without the launcher: team/late",
    ),
    "a job that cannot be saved": (
        lambda kube: kube.put(
            EVENTS,
            {
                "metadata": {"name": "e", "namespace": "team"},
                "involvedObject": {"kind": "Pod", "uid": "u-train"},
                "reason": "CannotBeSaved",
                "message": "it uses io_uring",
                "lastTimestamp": "2026-01-02T03:04:05Z",
            },
        ),
        "pods-jobs",
        WARNING,
        "team/train: it uses io_uring",
    ),
    "an agent of a far release": (
        lambda kube: kube.update(
            DAEMON_SETS,
            "crikpy-agent",
            {"spec": {"template": {"spec": {"containers": [{"image": "r:5000/agent:0.3.1@sha256:1"}]}}}},
            namespace=HOME,
        ),
        "versions",
        WARNING,
        "too far from each other: crikpy 0.1.0, agent 0.3.1",
    ),
}


@pytest.mark.parametrize("lack", LACKS)
async def test_what_a_cluster_lacks_is_told(lack: str, kube: FakeKube, tmp_path: Path) -> None:
    change, name, verdict, words = LACKS[lack]
    change(kube)
    finding = (await look(kube, tmp_path))[name]
    assert (finding.verdict, words in finding.fact) == (verdict, True), finding.fact


async def test_what_may_not_be_read_is_a_warning_and_the_rest_is_judged(kube: FakeKube, tmp_path: Path) -> None:
    for plural in ("nodes", "leases", "customresourcedefinitions"):
        kube.trouble("403", plural=plural)
    found = await look(kube, tmp_path)
    assert {name for name, one in found.items() if one.verdict is not OK} == {
        "rights-nodes",
        "rights-leader",
        "rights-crd",
    }
    assert found["rights-leader"].verdict is WARNING
    assert found["agents"].verdict is OK


async def test_a_whole_cluster_is_exit_0_and_one_that_lacks_something_11(kube: FakeKube, crikpy: Run) -> None:
    done = await crikpy("check", "--cluster")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("This cluster can save jobs.\n")
    kube.remove(DAEMON_SETS, "crikpy-agent", namespace=HOME)
    done = await crikpy("check", "--cluster", "--output", "json")
    assert done.returncode == 11
    facts = json.loads(done.stdout)
    assert facts["able"] is False
    assert [one["name"] for one in facts["findings"] if one["verdict"] == "failed"] == ["agents"]


async def test_an_api_server_that_is_away_is_a_finding(kube: FakeKube, crikpy: Run) -> None:
    await kube.stop()
    done = await crikpy("check", "--cluster")
    assert done.returncode == 11
    assert "FAIL  api" in done.stdout
