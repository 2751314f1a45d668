"""`crikpy top pods`: what is shown of live pods, from where, and what of it is unknown."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from crikpy.kube.resources import CHECKPOINTS, PODS
from tests.cli.test_on_a_cluster import Run, crikpy, kube
from tests.fakes.kube import FakeKube
from tests.kube.wholes import fill, metrics_of, pod

__all__ = ["crikpy", "kube"]
GIB = 1024**3
SUMMARY = "/api/v1/nodes/n1/proxy/stats/summary"


def uses(anonymous: int) -> str:
    used = {"workingSetBytes": anonymous + 5, "rssBytes": anonymous}
    one = {"podRef": {"uid": "u-train"}, "containers": [{"memory": used}], "process_stats": {"process_count": 3}}
    return json.dumps({"pods": [one]})


async def rows(crikpy: Run, *words: str) -> list[dict[str, Any]]:
    done = await crikpy("top", "pods", "--output", "json", *words)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


async def test_a_pod_costs_what_its_node_has_measured(kube: FakeKube, crikpy: Run) -> None:
    fill(kube)
    kube.behind[SUMMARY] = uses(60 * GIB)
    rate = 'crikpy_dump_throughput_bytes_per_second{path="%s"} %d\n'
    kube.behind[metrics_of("n1")] = rate % ("read", GIB) + rate % ("write", GIB // 2)
    (row,) = await rows(crikpy)
    assert (row["write_bytes"], row["processes"], row["rates"]) == (60 * GIB, 3, "measured")
    assert row["seconds"] == 122.0
    assert row["share"] > 1.0
    assert {request.verb for request in kube.requests} == {"list"}


async def test_what_nobody_may_read_is_unknown(kube: FakeKube, crikpy: Run) -> None:
    fill(kube)
    (row,) = await rows(crikpy)
    assert (row["memory_bytes"], row["seconds"], row["able"]) == (None, None, True)


async def test_a_pod_without_a_launcher_says_so(kube: FakeKube, crikpy: Run) -> None:
    kube.put(PODS, pod("late", injected=False))
    (row,) = await rows(crikpy)
    assert (row["able"], row["why"]) == (False, "it runs without the launcher")


async def test_the_last_checkpoint_is_what_a_pod_costs_at_least(kube: FakeKube, crikpy: Run) -> None:
    kube.put(PODS, pod("train"))
    spec = {
        "podName": "train",
        "podUID": "u-train",
        "nodeName": "n1",
        "trigger": "Manual",
        "workload": "train",
        "containers": ["main"],
        "deadline": "2026-01-02T03:06:00Z",
    }
    now = datetime.now(UTC).isoformat(timespec="seconds")
    status: dict[str, Any] = {
        "phase": "Complete",
        "checkpoint": "20260102T030405Z-00000000",
        "completionTime": now,
    }
    status["bytes"] = {"memory": GIB, "stored": 5, "reused": 0}
    kube.put(CHECKPOINTS, {"metadata": {"name": "c", "namespace": "team"}, "spec": spec, "status": status})
    (row,) = await rows(crikpy)
    assert row["write_bytes"] == GIB
