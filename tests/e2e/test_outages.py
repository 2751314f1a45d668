"""What crikpy rests on goes away, one thing at a time: no job is worse off than without crikpy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from crikpy import names
from tests.chaos.recording import record
from tests.e2e.cluster import Cluster, Notices
from tests.e2e.installing import SYSTEM, Installation
from tests.e2e.kubectl import Kubectl, settle, wait_for
from tests.e2e.pods import Namespace, assert_goes_on
from tests.e2e.workloads import deployment, job, template

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]


@contextmanager
def controller_down(kubectl: Kubectl) -> Iterator[None]:
    """Take every replica of the controller, and with them the webhook, away until the context ends."""
    replicas = kubectl.get("deployment", "crikpy-controller", SYSTEM)["spec"]["replicas"]
    kubectl("scale", "deployment/crikpy-controller", "-n", SYSTEM, "--replicas=0")
    try:
        wait_for(
            "the controller's end", lambda: not kubectl.list("pods", SYSTEM, selector="app=crikpy-controller")
        )
        yield
    finally:
        kubectl("scale", "deployment/crikpy-controller", "-n", SYSTEM, f"--replicas={replicas}")
        kubectl("rollout", "status", "deployment/crikpy-controller", "-n", SYSTEM, "--timeout=120s", timeout=130)


def test_a_notice_while_the_controller_is_down_is_acted_on_by_the_node_and_finished_later(
    installed: Cluster, notices: Notices, place: Namespace
) -> None:
    place.apply(job("alone", template(app="alone")))
    (pod,) = place.watch("alone")
    try:
        with controller_down(installed.kubectl):
            notices.spot(pod.node)
            place.await_event(pod.name, "CheckpointComplete")
        after = place.replacement("alone", pod)
        assert_goes_on(pod.counts(), place.counts(after["metadata"]["name"]))
        place.await_phase(pod, "Restored")
        record(
            "kubernetes",
            "there is no controller when a notice comes",
            "saved by its node, moved once one was back",
        )
    finally:
        notices.withdraw_all([pod.node])


def test_a_notice_while_the_api_server_is_down_is_acted_on_by_the_node_and_finished_later(
    installation: Installation, notices: Notices, place: Namespace
) -> None:
    installed = installation.cluster
    installed.need_own("stops the API server")
    victim, *others = installed.nodes
    apps = ("mute", "deaf")
    with installed.cordoned(*others):
        place.apply(*(job(app, template(app=app)) for app in apps))
        before = {app: place.watch(app)[0] for app in apps}
    try:
        with installed.api_server_down():
            notices.spot(victim)
            wait_for("both checkpoints", lambda: installation.saved(place.name) == len(apps))
            settle(1)
            back_at = datetime.now(UTC)
        for app, pod in before.items():
            after = place.replacement(app, pod)
            assert after["spec"]["nodeName"] != victim
            counts = place.counts(after["metadata"]["name"])
            assert counts[0].pid == pod.counts()[0].pid
            assert counts[0].step > pod.counts()[-1].step, "the outage has cut off what was written down before"
            order = place.await_phase(pod, "Restored")
            assert order["spec"]["trigger"] == "SpotInterruption"
            assert datetime.fromisoformat(order["status"]["completionTime"]) < back_at
        record(
            "kubernetes",
            "the API server is killed when a notice comes",
            "saved by its node, moved once it was back",
        )
    finally:
        notices.withdraw_all([victim])


def test_a_pod_made_while_the_webhook_is_down_runs_unsaved_and_says_so(
    installed: Cluster, place: Namespace
) -> None:
    with controller_down(installed.kubectl):
        place.apply(deployment("early", template(app="early"), replicas=1))
        (pod,) = place.watch("early")
    raw = place.kubectl.get("pod", pod.name, place.name)
    assert names.INJECTED not in raw["metadata"]["annotations"]
    place.await_event(pod.name, "NotInjected")
    record(
        "kubernetes",
        "the webhook does not answer when a pod is made",
        "it runs as without crikpy, and an event says so",
    )


@pytest.mark.lengthy
def test_pods_whose_node_dies_without_notice_go_on_from_their_last_checkpoint_or_begin_anew(
    installed: Cluster, place: Namespace
) -> None:
    installed.need_own("cuts a node's power")
    victim, *others = installed.nodes
    with installed.cordoned(*others):
        place.apply(
            deployment("crashed", template(app="crashed", annotations={names.INTERVAL: "1m"}), replicas=1),
            deployment("unsaved", template(app="unsaved"), replicas=1),
        )
        (pod,), (unsaved,) = place.watch("crashed"), place.watch("unsaved")
    assert place.await_phase(pod, "Complete", within_s=150)["spec"]["trigger"] == "Interval"
    installed.hack("crash", victim)
    try:
        # What the cloud's controller does once the instance is gone.
        installed.kubectl("delete", "node", victim)
        after = place.replacement("crashed", pod, within_s=150)
        counts = wait_for("steps", lambda: place.counts(after["metadata"]["name"]))
        assert counts[0].step > 0
        assert counts[0].pid == pod.counts()[0].pid
        (anew,) = place.watch("unsaved")
        assert anew.counts()[0].step == 0
        assert anew.counts()[0].life != unsaved.counts()[0].life
        assert "no checkpoint" in place.await_event(anew.name, "ColdStart")["message"]
        fault = "a node dies without notice"
        record("kubernetes", fault, "resumed elsewhere from the last periodic checkpoint; without one, begun anew")
    finally:
        installed.hack("start", victim)
        wait_for("the node", lambda: installed.healthy(victim))


def test_a_notice_that_is_withdrawn_leaves_node_and_job_as_they_were(
    installed: Cluster, notices: Notices, place: Namespace
) -> None:
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "stays"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "stays"}}},
    }
    place.apply(deployment("stays", template(app="stays"), replicas=1), budget)
    (pod,) = place.watch("stays")
    notices.spot(pod.node, in_s=300)
    place.await_phase(pod, "Complete")
    notices.withdraw_all([pod.node])
    before = len(pod.counts())
    wait_for("more steps of the same process", lambda: len(pod.counts()) > before + 4)
    assert {count.life for count in pod.counts()} == {pod.counts()[0].life}
    (still,) = place.pods("stays")
    assert still["metadata"]["uid"] == pod.uid
    record("kubernetes", "a notice is withdrawn when the job is saved", "runs on where it was")
