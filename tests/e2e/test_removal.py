"""crikpy is taken off a cluster, and installed and taken off again by Helm: jobs run on, and nothing is left.

The last test of a run, since it ends the installation that all others share.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crikpy import names
from tests.e2e.cluster import Cluster, Notices
from tests.e2e.installing import SYSTEM, Installation
from tests.e2e.kubectl import Json, wait_for
from tests.e2e.pods import Namespace, Watched, assert_goes_on
from tests.e2e.snapshots import snapshot
from tests.e2e.workloads import counting, job, template
from tests.manifests.charts import CHART, helm_program

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]


def crikpy(cluster: Cluster, *words: str) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CRIKPY_")}
    environ["KUBECONFIG"] = str(cluster.kubectl.kubeconfig)
    program = str(Path(sys.executable).parent / "crikpy")
    done = subprocess.run([program, *words], env=environ, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stderr


def helm(cluster: Cluster, folder: Path, *words: str, values: Json | None = None) -> None:
    command = [helm_program(), *words, "--namespace", SYSTEM, "--kubeconfig", str(cluster.kubectl.kubeconfig)]
    if values is not None:
        path = folder / "values.json"
        path.write_text(json.dumps(values))
        command += ["--values", str(path)]
    homes = {f"HELM_{name}_HOME": str(folder / "helm") for name in ("CACHE", "CONFIG", "DATA")}
    done = subprocess.run(command, env=os.environ | homes, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


def assert_runs_on(pod: Watched) -> None:
    before = pod.counts()
    wait_for(f"{pod.name} to go on", lambda: len(pod.counts()) > len(before) + 2)
    assert_goes_on(before, pod.counts()[len(before) :])


def assert_nothing_is_left(installation: Installation) -> None:
    wait_for("namespace and kind to go", lambda: not installation.cluster.kubectl.find("namespace", SYSTEM))
    before, after = installation.before, snapshot(installation.cluster)
    assert after.objects - before.objects == frozenset()
    assert after.nodes == before.nodes
    assert after.traces == before.traces


def run_of(place: Namespace, app: str, steps: int) -> Watched:
    place.apply(job(app, template(counting(steps=steps), app=app)))
    return place.watch(app)[0]


@pytest.mark.lengthy
def test_crikpy_comes_and_goes_and_jobs_run_on(
    installation: Installation, notices: Notices, place: Namespace, tmp_path: Path
) -> None:
    cluster, kubectl = installation.cluster, installation.cluster.kubectl
    helm_program()
    first = run_of(place, "first", steps=400)
    notices.rebalance(first.node)
    wait_for("the taint", lambda: names.TAINT in str(kubectl.get("node", first.node)["spec"]))

    crikpy(cluster, "uninstall", "--yes")
    notices.withdraw_all(cluster.nodes)
    kubectl("delete", "-f", "-", "--ignore-not-found", "--wait=false", stdin=installation.manifests)
    assert_nothing_is_left(installation)
    assert_runs_on(first)

    installation.make_secrets()
    values = installation.chart_values()
    helm(cluster, tmp_path, "install", "crikpy", str(CHART), values=values)
    installation.await_ready()
    second = run_of(place, "second", steps=100_000)
    crikpy(cluster, "checkpoint", f"pod/{second.name}", "-n", place.name, "--move")
    replaced = place.replacement("second", second)["metadata"]["name"]
    assert_goes_on(second.counts(), place.counts(replaced))
    assert installation.saved(place.name)

    values["settings"]["CRIKPY_RUN_MANUAL_DEADLINE_S"] = 99
    values["uninstall"] = {"checkpoints": "delete", "timeoutS": 200}
    helm(cluster, tmp_path, "upgrade", "crikpy", str(CHART), values=values)
    installation.await_ready()
    config = kubectl.get("configmap", "crikpy-config", SYSTEM)
    assert config["data"]["CRIKPY_RUN_MANUAL_DEADLINE_S"] == "99"

    helm(cluster, tmp_path, "uninstall", "crikpy", "--timeout", "220s")
    kubectl("delete", "namespace", SYSTEM, "--wait=false")
    assert_nothing_is_left(installation)
    counted = place.counts(replaced)
    wait_for("the moved job to go on", lambda: len(place.counts(replaced)) > len(counted) + 2)
    place.apply(job("third", template(counting(steps=4), app="third")))
    for app in ("first", "third"):
        wait_for(f"{app} to end", lambda app=app: succeeded(place, app), within_s=120)  # type: ignore[misc]
    assert names.INJECTED not in str(place.pods("third"))
    assert {count.life for count in first.counts()} == {first.counts()[0].life}


def succeeded(place: Namespace, app: str) -> bool:
    return [pod["status"]["phase"] for pod in place.pods(app)] == ["Succeeded"]
