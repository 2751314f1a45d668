"""`crikpy` on a cluster, as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.kubectl import wait_for
from tests.e2e.pods import Namespace, assert_goes_on, namespace
from tests.e2e.workloads import bare_pod, job, template

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def place(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    with namespace(installed.kubectl, "crikpy-e2e-cli", tmp_path_factory.mktemp("logs")) as made:
        yield made


def crikpy(place: Namespace, *words: str) -> subprocess.CompletedProcess[str]:
    """Run crikpy with the cluster's kubeconfig."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CRIKPY_")}
    environ["KUBECONFIG"] = str(place.kubectl.kubeconfig)
    program = str(Path(sys.executable).parent / "crikpy")
    return subprocess.run([program, *words], env=environ, capture_output=True, text=True, timeout=120)


def test_a_pod_is_saved_by_hand_and_runs_on(place: Namespace) -> None:
    place.apply(job("kept", template(app="kept")))
    (pod,) = place.watch("kept")
    done = crikpy(place, "checkpoint", f"pod/{pod.name}", "-n", place.name, "--output", "json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["phase"] == "Complete"
    assert facts["memory_bytes"] > 0
    before = len(pod.counts())
    wait_for("more steps", lambda: len(pod.counts()) > before + 2)
    listed = crikpy(place, "list", "-n", place.name)
    assert facts["name"] in listed.stdout
    assert [
        order["name"] for order in json.loads(crikpy(place, "list", "-n", place.name, "--output", "json").stdout)
    ]


def test_a_pod_is_moved_by_hand(place: Namespace) -> None:
    place.apply(job("moved", template(app="moved")))
    (pod,) = place.watch("moved")
    done = crikpy(place, "checkpoint", f"pod/{pod.name}", "-n", place.name, "--move")
    assert done.returncode == 0, done.stderr
    after = place.replacement("moved", pod)
    assert_goes_on(pod.counts(), place.counts(after["metadata"]["name"]))


def test_why_tells_what_a_pod_went_through(place: Namespace) -> None:
    place.apply(bare_pod("asked", template(app="asked")))
    (pod,) = place.watch("asked")
    crikpy(place, "checkpoint", f"pod/{pod.name}", "-n", place.name)
    done = crikpy(place, "why", f"pod/{pod.name}", "-n", place.name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "can be saved" in done.stdout
    assert "CheckpointComplete" in done.stdout


def test_why_tells_what_keeps_a_pod_from_being_saved(place: Namespace) -> None:
    place.apply(bare_pod("outside", template(app="outside", opted_in=False)))
    (pod,) = place.watch("outside")
    done = crikpy(place, "why", f"pod/{pod.name}", "-n", place.name)
    assert done.returncode == 30
    assert "crikpy.io/checkpoint" in done.stdout


def test_a_pod_that_is_not_there_is_named_in_one_line(place: Namespace) -> None:
    done = crikpy(place, "checkpoint", "pod/nobody", "-n", place.name)
    assert done.returncode == 83
    assert "there is no pod" in done.stderr.splitlines()[0]


def test_kubectl_finds_the_plug_in(place: Namespace) -> None:
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environ["KUBECONFIG"] = str(place.kubectl.kubeconfig)
    words = [place.kubectl.argv()[0], "crikpy", "list", "-n", place.name]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_what_saving_pods_would_cost_is_shown(place: Namespace) -> None:
    place.apply(job("costly", template(app="costly")))
    (pod,) = place.watch("costly")

    def costs() -> list[dict[str, object]]:
        done = crikpy(place, "top", "pods", "-n", place.name, "--output", "json")
        assert done.returncode == 0, done.stderr
        return [row for row in json.loads(done.stdout) if row["job"] == f"pod/{pod.name}" and row["memory_bytes"]]

    (row,) = wait_for("kubelet to say what the pod uses", costs)
    assert row["able"] is True
    assert 0 < float(str(row["seconds"])) < 120


def test_a_cluster_that_lacks_nothing_is_told_so(place: Namespace) -> None:
    def check() -> str | None:
        done = crikpy(place, "check", "--cluster")
        return done.stdout if done.returncode == 0 else None

    told = wait_for("nothing to be missing", check)
    assert "FAIL" not in told
    assert "jobs can be saved on" in told
