"""Notices that come by other ways than the node's own metadata service: the queue alone, both, hooks, a storm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from crikpy import names
from tests.e2e import leftovers
from tests.e2e.aws import AwsNews, strange_instance
from tests.e2e.cluster import Cluster, Notices
from tests.e2e.installing import SYSTEM, Installation
from tests.e2e.kubectl import Kubectl, wait_for
from tests.e2e.pods import Namespace, assert_goes_on, phase_of
from tests.e2e.workloads import job, stateful_set, template

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

KNOWN = 100
STRANGE = 100


def test_a_notice_that_only_the_queue_brings_moves_a_job(
    installed: Cluster, news: AwsNews, place: Namespace
) -> None:
    place.apply(job("queued", template(app="queued")))
    (pod,) = place.watch("queued")
    news.spot(installed.instance(pod.node))
    after = place.replacement("queued", pod)
    assert after["spec"]["nodeName"] != pod.node
    assert_goes_on(pod.counts(), place.counts(after["metadata"]["name"]))
    assert place.await_phase(pod, "Restored")["spec"]["trigger"] == "SpotInterruption"
    node = installed.kubectl.get("node", pod.node)
    assert names.REPORTED in node["metadata"]["annotations"]
    assert any(taint["key"] == names.TAINT for taint in node["spec"]["taints"])
    news.await_empty()


def test_an_event_that_two_sources_tell_of_is_one_order_and_one_checkpoint(
    installation: Installation, notices: Notices, news: AwsNews, place: Namespace
) -> None:
    place.apply(job("twice", template(app="twice")))
    (pod,) = place.watch("twice")
    news.spot(installation.cluster.instance(pod.node))
    notices.spot(pod.node)
    after = place.replacement("twice", pod)
    assert_goes_on(pod.counts(), place.counts(after["metadata"]["name"]))
    place.await_phase(pod, "Restored")
    news.await_empty()
    (order,) = place.orders_of(pod)
    assert phase_of(order) == "Restored"
    assert installation.saved(place.name) == 1


def test_a_lifecycle_hook_is_kept_waiting_until_the_jobs_have_moved(
    installed: Cluster, news: AwsNews, place: Namespace
) -> None:
    hook = {"preStop": {"exec": {"command": ["sleep", "6"]}}}
    pod_template = template(app="hooked", terminationGracePeriodSeconds=60)
    pod_template["spec"]["containers"][0]["lifecycle"] = hook
    place.apply(stateful_set("hooked", pod_template))
    (pod,) = place.watch("hooked")
    token = news.terminates(installed.instance(pod.node))
    place.await_phase(pod, "Complete", "Restoring", "Restored")
    wait_for("a heartbeat", lambda: news.heartbeats_of(token))
    result = wait_for("Auto Scaling to be told to go on", lambda: news.result_of(token))
    assert result == "CONTINUE"
    still = place.kubectl.find("pod", pod.name, place.name)
    assert still is None or still["metadata"]["uid"] != pod.uid, "the machine may go while its pod is there"
    after = place.replacement("hooked", pod)
    assert after["spec"]["nodeName"] != pod.node
    assert_goes_on(pod.counts(), place.counts(after["metadata"]["name"]))
    assert place.await_phase(pod, "Restored")["spec"]["trigger"] == "NodeShutdown"
    news.await_empty()


def test_a_hook_of_a_machine_without_our_pods_is_answered_at_once(installed: Cluster, news: AwsNews) -> None:
    token = news.terminates(installed.instance(installed.nodes[0]))
    assert wait_for("the answer", lambda: news.result_of(token), within_s=30) == "CONTINUE"
    news.await_empty()


def test_a_message_that_nobody_understands_or_is_meant_for_holds_up_none(
    installed: Cluster, news: AwsNews, place: Namespace
) -> None:
    place.apply(job("behind", template(app="behind")))
    (pod,) = place.watch("behind")
    news.spot("no instance at all", strange_instance(), installed.instance(pod.node))
    after = place.replacement("behind", pod)
    assert_goes_on(pod.counts(), place.counts(after["metadata"]["name"]))
    news.await_empty()


@contextmanager
def many_nodes(kubectl: Kubectl, count: int) -> Iterator[dict[str, str]]:
    """Register machines that nobody has; their names by their instances. None of them takes pods."""
    found = {f"i-0e2e{number:013x}": f"crikpy-e2e-{number}" for number in range(count)}
    nodes = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": leftovers.MARK},
            "spec": {"providerID": f"aws:///eu-test-1a/{instance}", "unschedulable": True},
        }
        for instance, name in found.items()
    ]
    kubectl.apply(*nodes)
    try:
        yield found
    finally:
        kubectl("delete", "nodes", "-l", leftovers.LABEL, "--wait=false", timeout=180)


def test_in_a_storm_of_notices_the_one_that_matters_is_served(
    installed: Cluster, news: AwsNews, place: Namespace
) -> None:
    place.apply(job("stormy", template(app="stormy")))
    (pod,) = place.watch("stormy")
    with many_nodes(installed.kubectl, KNOWN) as nodes:
        known, strange = list(nodes), [strange_instance() for _ in range(STRANGE)]
        half = KNOWN // 2
        storm = [*known[:half], *strange[:half], installed.instance(pod.node), *strange[half:], *known[half:]]
        news.spot(*storm)
        after = place.replacement("stormy", pod)
        assert_goes_on(pod.counts(), place.counts(after["metadata"]["name"]))
        news.await_empty(within_s=120)
        told = [
            node["metadata"]["name"]
            for node in installed.kubectl.list("nodes", selector=leftovers.LABEL)
            if names.REPORTED in (node["metadata"].get("annotations") or {})
        ]
        assert sorted(told) == sorted(nodes.values())


def test_the_leader_has_said_which_sources_work(installed: Cluster, news: AwsNews) -> None:
    del news  # there is a queue
    said = installed.kubectl("logs", "-n", SYSTEM, "-l", "app=crikpy-controller", "--tail=-1")
    assert "source queue: on, " in said
    assert "source poll: off" in said
