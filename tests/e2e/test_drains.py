"""Nodes that others empty or shut down, and pods that go for reasons of their own: who is saved, who is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pytest

from tests.chaos.recording import record
from tests.e2e.cluster import Cluster
from tests.e2e.installing import SYSTEM, Installation
from tests.e2e.kubectl import Kubectl, settle, wait_for
from tests.e2e.pods import Namespace, Watched, assert_goes_on, phase_of
from tests.e2e.test_endings import ENDS_ON_TERM
from tests.e2e.workloads import counting, deployment, job, stateful_set, template

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]


@contextmanager
def tainted(kubectl: Kubectl, node: str, taint: str) -> Iterator[None]:
    """Have a node bear somebody else's taint until the context ends."""
    kubectl("taint", "node", node, taint)
    try:
        yield
    finally:
        kubectl("taint", "node", node, f"{taint}-")


def test_an_evicted_pod_has_a_checkpoint_object_that_tells_of_its_move(
    installed: Cluster, place: Namespace
) -> None:
    place.apply(deployment("evicted", template(app="evicted"), replicas=1))
    (pod,) = place.watch("evicted")
    place.evict(pod)
    after = place.replacement("evicted", pod)
    assert_goes_on(pod.counts(), place.counts(after["metadata"]["name"]))
    place.await_phase(pod, "Restored")
    (order,) = place.orders_of(pod)
    assert (order["spec"]["trigger"], order["spec"].get("leaveRunning", False)) == ("Drain", False)
    assert order["status"]["bytes"]["memory"] > 0
    assert order["status"]["restoredBy"].startswith(f"{place.name}/{after['metadata']['name']}")
    assert installed.healthy(pod.node), "the drain of one pod says nothing of its node"


def test_a_cordon_alone_saves_nothing(installed: Cluster, place: Namespace) -> None:
    place.apply(job("cordoned", template(app="cordoned")))
    (pod,) = place.watch("cordoned")
    with installed.cordoned(pod.node):
        settle(4)
        assert place.order_of(pod) is None
        before = len(pod.counts())
        wait_for("more steps", lambda: len(pod.counts()) > before + 4)
    assert not place.kubectl.events(place.name, reason="CheckpointComplete")


def test_a_deployment_that_is_scaled_down_ends_its_jobs_and_saves_nothing(
    installation: Installation, place: Namespace
) -> None:
    place.apply(deployment("smaller", template(counting(program=ENDS_ON_TERM), app="smaller"), replicas=2))
    pods = place.watch("smaller", number=2)
    place.kubectl("scale", "deployment/smaller", "-n", place.name, "--replicas=0")
    wait_for("the end of both", lambda: not place.pods("smaller"))
    for pod in pods:
        wait_for("the job to be asked to end", lambda pod=pod: "asked to end" in pod.log.read_text())  # type: ignore[misc]
        assert place.order_of(pod) is None
    assert installation.saved(place.name) == 0


def test_a_node_that_the_autoscaler_empties_has_its_jobs_saved_while_they_run_and_moved_when_they_are_ended(
    installed: Cluster, place: Namespace
) -> None:
    emptied, *others = installed.nodes
    with installed.cordoned(*others):
        place.apply(deployment("drained", template(app="drained"), replicas=1))
        (pod,) = place.watch("drained")
    with tainted(installed.kubectl, emptied, "ToBeDeletedByClusterAutoscaler:NoSchedule"):
        first = place.await_phase(pod, "Complete")
        assert (first["spec"]["trigger"], first["spec"]["leaveRunning"]) == ("Drain", True)
        before = len(pod.counts())
        wait_for("more steps after it was saved", lambda: len(pod.counts()) > before + 4)
        assert not installed.kubectl.get("node", emptied)["spec"].get("unschedulable"), "that is not for us to do"
        place.evict(pod)
        after = place.replacement("drained", pod)
    assert after["spec"]["nodeName"] != emptied
    assert_goes_on(pod.counts(), place.counts(after["metadata"]["name"]))
    place.await_order(pod, lambda order: not order["spec"].get("leaveRunning"), "one that ends it")
    last = place.orders_of(pod)[-1]
    assert last["spec"]["trigger"] == "Drain"
    assert wait_for("that to be resumed", lambda: phase_of(place.orders_of(pod)[-1]) == "Restored")


def test_a_pod_that_is_deleted_while_its_node_only_might_go_ends_as_it_would_without_crikpy(
    installed: Cluster, place: Namespace
) -> None:
    place.apply(deployment("candidate", template(counting(program=ENDS_ON_TERM), app="candidate"), replicas=1))
    (pod,) = place.watch("candidate")
    with tainted(installed.kubectl, pod.node, "DeletionCandidateOfClusterAutoscaler:PreferNoSchedule"):
        place.kubectl("delete", "pod", pod.name, "-n", place.name, "--wait=true")
    assert "asked to end" in pod.log.read_text()
    assert place.order_of(pod) is None


IN_KUBELET = (
    'for one in /proc/[0-9]*; do [ "$(cat $one/comm)" = kubelet ] && kill -STOP "${one#/proc/}"; done; true'
)
"""Run in a node, where only that node's processes are to be seen."""


def shut_down(cluster: Cluster, place: Namespace, pod: Watched) -> None:
    """Do what kubelet's graceful shutdown does, in its place: say so, and have the runtime end a pod's containers.

    kubelet learns of a shutdown from systemd-logind, which the nodes of hack/cluster lack. So it is stopped, lest
    it say that all is well, and what it would say and do is done for it (KEP-2000). Its node has to be crashed
    afterwards.
    """
    cluster.hack("exec", pod.node, "sh", "-c", IN_KUBELET)
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "KubeletNotReady",
        "message": "node is shutting down",
        "lastTransitionTime": now,
        "lastHeartbeatTime": now,
    }
    patch = json.dumps({"status": {"conditions": [condition]}})
    cluster.kubectl("patch", "node", pod.node, "--subresource=status", "--type=strategic", "-p", patch)
    statuses = place.kubectl.get("pod", pod.name, place.name)["status"]["containerStatuses"]
    for status in statuses:
        container = status["containerID"].rpartition("/")[2]
        cluster.hack("exec", pod.node, "ctr", "-n", "k8s.io", "task", "kill", "-s", "SIGTERM", container)


def answering(kubectl: Kubectl) -> list[str]:
    """Return the nodes on which the webhook answers, as far as the API server knows."""
    slices = kubectl.list("endpointslices", SYSTEM, selector="kubernetes.io/service-name=crikpy-webhook")
    ends = [end for each in slices for end in each["endpoints"] or ()]
    return [end["nodeName"] for end in ends if end["conditions"].get("ready")]


@contextmanager
def without_a_controller(cluster: Cluster, node: str) -> Iterator[None]:
    """Keep the controller off a node that is to die: the API server would go on asking a dead webhook."""
    kubectl, controller = cluster.kubectl, "deployment/crikpy-controller"
    with cluster.cordoned(node):
        chosen = ("-l", "app=crikpy-controller", "--field-selector", f"spec.nodeName={node}")
        kubectl("delete", "pods", "-n", SYSTEM, *chosen, "--wait=true", timeout=90)
        kubectl("rollout", "status", controller, "-n", SYSTEM, "--timeout=120s", timeout=130)
        wait_for("the webhook to be asked elsewhere", lambda: node not in answering(kubectl))
    try:
        yield
    finally:
        kubectl("rollout", "restart", controller, "-n", SYSTEM)
        kubectl("rollout", "status", controller, "-n", SYSTEM, "--timeout=120s", timeout=130)


@pytest.mark.lengthy
def test_a_machine_that_shuts_down_by_itself_has_its_jobs_saved_and_resumed_elsewhere(
    installation: Installation, place: Namespace
) -> None:
    cluster = installation.cluster
    cluster.need_own("shuts a node down")
    victim, *others = cluster.nodes
    with without_a_controller(cluster, victim):
        with cluster.cordoned(*others):
            place.apply(stateful_set("shut", template(app="shut")))
            (pod,) = place.watch("shut")
        try:
            shut_down(cluster, place, pod)
            order = place.await_phase(pod, "Complete", "Restoring", "Restored")
            assert (order["spec"]["trigger"], order["spec"].get("leaveRunning", False)) == ("NodeShutdown", False)
            cluster.hack("crash", victim)
            # What the cloud's controller does once the instance is gone.
            cluster.kubectl("delete", "node", victim)
            after = place.replacement("shut", pod, within_s=150)
            assert after["spec"]["nodeName"] != victim
            counts = place.counts(after["metadata"]["name"])
            assert counts[0].pid == pod.counts()[0].pid
            assert counts[0].step > pod.counts()[-1].step, "with kubelet stops what was written down before"
            assert installation.saved(place.name) == 1
            assert len(place.orders_of(pod)) == 1
            record(
                "kubernetes", "a machine shuts down by itself, without a controller", "the job went on elsewhere"
            )
        finally:
            with suppress(AssertionError):  # it is off already
                cluster.hack("crash", victim)
            cluster.hack("start", victim)
            wait_for("the node", lambda: cluster.healthy(victim))
