"""The fake API server in what the contract does not show: slow ends, finalizers, generations, and as a program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crikpy import errors
from crikpy.kube.api import PatchKind
from crikpy.kube.client import KubeClient
from crikpy.kube.raw import Json
from crikpy.kube.resources import CHECKPOINTS, NODES, PODS
from crikpy.settings import KubeSettings
from tests.fakes.imds import tell
from tests.fakes.kube import FakeKube


def thing(name: str, **more: object) -> Json:
    return {"metadata": {"name": name, "namespace": "ns"}, **more}


async def test_a_pod_on_a_node_ends_when_its_kubelet_says_so(kube: FakeKube, api: KubeClient) -> None:
    kube.put(PODS, thing("p", spec={"nodeName": "n"}))
    await api.delete(PODS, "p", namespace="ns", grace_period_s=5)
    pod = await api.get(PODS, "p", namespace="ns")
    assert pod["metadata"]["deletionTimestamp"]
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 5
    kube.remove(PODS, "p", namespace="ns")
    with pytest.raises(errors.KubeNotFoundError):
        await api.get(PODS, "p", namespace="ns")


@pytest.mark.parametrize("body", [thing("p"), thing("p", spec={"nodeName": "n"}, status={"phase": "Failed"})])
async def test_a_pod_that_runs_nowhere_ends_at_once(kube: FakeKube, api: KubeClient, body: Json) -> None:
    kube.put(PODS, body)
    await api.delete(PODS, "p", namespace="ns")
    assert kube.all(PODS) == []


async def test_an_object_with_finalizers_waits_for_them(kube: FakeKube, api: KubeClient) -> None:
    order = thing("o")
    order["metadata"]["finalizers"] = ["crikpy.io/x"]
    kube.put(CHECKPOINTS, order)
    await api.delete(CHECKPOINTS, "o", namespace="ns")
    assert (await api.get(CHECKPOINTS, "o", namespace="ns"))["metadata"]["deletionTimestamp"]
    await api.patch(CHECKPOINTS, "o", {"metadata": {"finalizers": []}}, namespace="ns")
    assert kube.all(CHECKPOINTS) == []


async def test_the_generation_counts_changes_of_the_specification(kube: FakeKube, api: KubeClient) -> None:
    await api.create(CHECKPOINTS, thing("o", spec={"x": 1}, status={"phase": "Complete"}))
    await api.patch(CHECKPOINTS, "o", {"status": {"phase": "Failed"}}, namespace="ns", subresource="status")
    await api.patch(CHECKPOINTS, "o", {"spec": {"x": 2}}, namespace="ns")
    order = await api.get(CHECKPOINTS, "o", namespace="ns")
    assert order["metadata"]["generation"] == 2
    assert order["status"] == {"phase": "Failed"}


async def test_our_own_kind_takes_no_strategic_patch(kube: FakeKube, api: KubeClient) -> None:
    kube.put(CHECKPOINTS, thing("o"))
    with pytest.raises(errors.KubeInvalidError, match="415"):
        await api.patch(CHECKPOINTS, "o", {}, namespace="ns", kind=PatchKind.STRATEGIC)


async def test_taints_are_replaced_whole_and_conditions_merged(kube: FakeKube, api: KubeClient) -> None:
    first = {"taints": [{"key": "a"}]}, {"conditions": [{"type": "A", "status": "True", "reason": "Old"}]}
    kube.put(NODES, {"metadata": {"name": "n"}, "spec": first[0], "status": first[1]})
    taints = {"spec": {"taints": [{"key": "b"}]}}
    node = await api.patch(NODES, "n", taints, kind=PatchKind.STRATEGIC)
    assert node["spec"] == {"taints": [{"key": "b"}]}
    conditions = {"status": {"conditions": [{"type": "A", "status": "False"}, {"type": "B"}]}}
    node = await api.patch(NODES, "n", conditions, subresource="status", kind=PatchKind.STRATEGIC)
    assert node["status"]["conditions"] == [{"type": "A", "status": "False", "reason": "Old"}, {"type": "B"}]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Run the fake as a program; gives its control socket and kubeconfig."""
    control, config = tmp_path / "control.sock", tmp_path / "config"
    argv = [
        sys.executable,
        "-m",
        "tests.fakes.kube",
        "serve",
        "--control",
        str(control),
        "--kubeconfig",
        str(config),
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as running:
        try:
            assert running.stdout is not None
            assert json.loads(running.stdout.readline())["control"] == str(control)
            yield control, config
        finally:
            os.kill(running.pid, signal.SIGTERM)
            assert running.wait(20) == 0
    assert not control.exists()


async def test_it_is_a_program_too(program: tuple[Path, Path]) -> None:
    control, config = program
    tell(control, {"do": "put", "resource": "pods", "body": thing("p")})
    async with await KubeClient.connect(KubeSettings(kubeconfig=str(config))) as api:
        assert (await api.get(PODS, "p", namespace="ns"))["metadata"]["name"] == "p"
        tell(control, {"do": "trouble", "kind": "503"})
        with pytest.raises(errors.KubeUnavailableError):
            await api.get(PODS, "p", namespace="ns")
        tell(control, {"do": "stop"})
        with pytest.raises(errors.KubeUnavailableError):
            await api.get(PODS, "p", namespace="ns")
        tell(control, {"do": "start"})
        assert len((await api.list(PODS)).items) == 1
    with pytest.raises(ValueError, match="no such order"):
        tell(control, {"do": "dance"})
