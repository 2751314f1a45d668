"""A cluster in which crikpy lacks nothing, as raw objects, for tests that take something away from it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from crikpy import names
from crikpy.kube.certificates import issue, with_bundle
from crikpy.kube.resources import (
    CONFIG_MAPS,
    DAEMON_SETS,
    DEFINITIONS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    LEASES,
    MUTATING_WEBHOOKS,
    NAMESPACES,
    NODES,
    PODS,
    VALIDATING_WEBHOOKS,
)
from crikpy.kube.times import render_time
from tests.fakes.kube import FakeKube

Json = dict[str, Any]
HOME = "crikpy-system"
LEVEL = "pod-security.kubernetes.io/enforce"


def node(name: str, *, ready: bool = True, features: str = "avx avx2") -> Json:
    """Return a node with an agent."""
    condition = {
        "type": names.CONDITION_READY,
        "status": "True" if ready else "False",
        "reason": "CanSave" if ready else "StoreUnavailable",
        "message": "jobs can be saved" if ready else "the store s3://b cannot be reached",
    }
    notes = {names.CPU_FEATURES: features}
    labels = {names.LABEL_WELL_KNOWN_ARCH: "amd64", names.LABEL_CPU: features.replace(" ", "-")}
    metadata = {"name": name, "annotations": notes, "labels": labels}
    return {"metadata": metadata, "status": {"conditions": [condition]}}


def pod(name: str, *, injected: bool = True, node_name: str = "n1") -> Json:
    """Return a pod that opted in."""
    notes = {names.OPT_IN: "true"} | ({names.INJECTED: "main"} if injected else {})
    return {
        "metadata": {"name": name, "namespace": "team", "uid": f"u-{name}", "annotations": notes},
        "spec": {"nodeName": node_name, "containers": [{"name": "main", "command": ["work"]}]},
        "status": {"phase": "Running"},
    }


def ours(name: str, app: str, node_name: str) -> Json:
    """Return a pod of crikpy's own."""
    return {
        "metadata": {"name": name, "namespace": HOME, "labels": {"app": app}},
        "spec": {"nodeName": node_name},
        "status": {"phase": "Running"},
    }


def workload(name: str, image: str, status: Json, **spec: Any) -> Json:
    """Return a DaemonSet or Deployment."""
    containers = [{"name": "main", "image": image, "envFrom": [{"configMapRef": {"name": "crikpy-config"}}]}]
    whole = {"template": {"spec": {"containers": containers}}, **spec}
    return {"metadata": {"name": name, "namespace": HOME}, "spec": whole, "status": status}


def metrics_of(name: str) -> str:
    """Return the path of the metrics of a node's agent."""
    return f"/api/v1/namespaces/{HOME}/pods/crikpy-agent-{name}:9477/proxy/metrics"


def fill(kube: FakeKube, *, certified_for: timedelta = timedelta(days=90)) -> None:
    """Put a whole cluster into an API server: two nodes, one saved pod."""
    now = datetime.now(UTC)
    kube.behind["/version"] = json.dumps({"gitVersion": "v1.34.1"})
    version = {"name": "v1alpha1", "served": True, "selectableFields": [{"jsonPath": ".spec.nodeName"}]}
    kube.put(DEFINITIONS, {"metadata": {"name": "checkpoints.crikpy.io"}, "spec": {"versions": [version]}})
    kube.put(NAMESPACES, {"metadata": {"name": HOME, "labels": {LEVEL: "privileged"}}})
    config = {"metadata": {"name": "crikpy-config", "namespace": HOME}, "data": {"CRIKPY_STORE": "s3://b/jobs"}}
    kube.put(CONFIG_MAPS, config)
    ready = {"desiredNumberScheduled": 2, "numberReady": 2}
    kube.put(DAEMON_SETS, workload("crikpy-agent", "ghcr.io/crikpy/agent:0.1.0", ready))
    two = {"readyReplicas": 2}
    kube.put(DEPLOYMENTS, workload("crikpy-controller", "ghcr.io/crikpy/controller:0.1.0", two, replicas=2))
    lease = {"holderIdentity": "crikpy-controller-a_1", "leaseDurationSeconds": 15, "renewTime": render_time(now)}
    kube.put(LEASES, {"metadata": {"name": "crikpy-controller", "namespace": HOME}, "spec": lease})
    begun = now if certified_for > timedelta(0) else now - timedelta(days=30)
    bundle = issue(["crikpy-webhook"], life=now + certified_for - begun, now=begun).authorities
    for kind in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
        hooks: Json = {
            "metadata": {"name": "crikpy-webhook"},
            "webhooks": [{"name": "a", "failurePolicy": "Ignore"}],
        }
        kube.put(kind, with_bundle(hooks, bundle))
    metadata = {"name": "s", "namespace": HOME, "labels": {"kubernetes.io/service-name": "crikpy-webhook"}}
    kube.put(ENDPOINT_SLICES, {"metadata": metadata, "endpoints": [{"conditions": {"ready": True}}]})
    for name in ("n1", "n2"):
        kube.put(NODES, node(name))
        kube.put(PODS, ours(f"crikpy-agent-{name}", "crikpy-agent", name))
        kube.behind[metrics_of(name)] = "# HELP\ncrikpy_metadata_reachable 1.0\n"
    kube.put(PODS, pod("train"))
