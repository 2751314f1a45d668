"""The workloads of the end-to-end tests: all count, so that a line of their logs tells who counts and how far."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crikpy import names

Json = dict[str, Any]

JOB_IMAGE = os.environ.get("CRIKPY_E2E_JOB_IMAGE", "crikpy.test/job:1")
"""An image with Python 3 and a shell."""

COUNT = """
import os, secrets, sys, time
life, last = secrets.token_hex(4), int(sys.argv[1])
for step in range(last):
    print(f"life={life} step={step} pid={os.getpid()}", flush=True)
    time.sleep(0.25)
print(f"life={life} done", flush=True)
"""
"""Counts in a life of its own: a process that was begun anew has another."""

_LINE = re.compile(r"life=(\w+) step=(\d+) pid=(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One line of a log."""

    life: str
    step: int
    pid: int


def read_counts(log: str) -> list[Counted]:
    """Return the lines of a log that count; whole lines only."""
    whole = log[: log.rfind("\n") + 1]
    return [Counted(life=found[1], step=int(found[2]), pid=int(found[3])) for found in _LINE.finditer(whole)]


def counting(
    *,
    name: str = "main",
    steps: int = 100_000,
    program: str = COUNT,
    mounts: Mapping[str, str] | None = None,
    **more: Any,
) -> Json:
    """Return a container that counts to `steps`; mounts are volume → path."""
    return {
        "name": name,
        "image": JOB_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        # Without -u, by which Python would write a line and its end one after the other, and be frozen in between.
        "command": ["python3", "-c", program, str(steps)],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        **({"volumeMounts": [{"name": key, "mountPath": path} for key, path in mounts.items()]} if mounts else {}),
        **more,
    }


def template(
    *containers: Json, app: str, annotations: Mapping[str, str] | None = None, opted_in: bool = True, **spec: Any
) -> Json:
    """Return a pod template that has opted in."""
    ours = {names.OPT_IN: "true"} if opted_in else {}
    return {
        "metadata": {"labels": {"app": app}, "annotations": {**ours, **(annotations or {})}},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "containers": list(containers) or [counting()],
            **spec,
        },
    }


IGNORE_DISRUPTIONS: Json = {
    "rules": [{"action": "Ignore", "onPodConditions": [{"type": names.DISRUPTION_TARGET, "status": "True"}]}]
}


def job(app: str, pod: Json, **spec: Any) -> Json:
    """Return a Job that does not count disruptions as failures."""
    pod["spec"].setdefault("restartPolicy", "Never")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": app},
        "spec": {"backoffLimit": 0, "podFailurePolicy": IGNORE_DISRUPTIONS, "template": pod, **spec},
    }


def deployment(app: str, pod: Json, *, replicas: int) -> Json:
    """Return a Deployment."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": app},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": app}}, "template": pod},
    }


def stateful_set(app: str, pod: Json, *, replicas: int = 1) -> Json:
    """Return a StatefulSet."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": app},
        "spec": {
            "replicas": replicas,
            "serviceName": app,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": app}},
            "template": pod,
        },
    }


def bare_pod(app: str, pod: Json) -> Json:
    """Return a pod without a controller."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": app, **pod["metadata"]}, "spec": pod["spec"]}
