"""A node with more memory than its last seconds can save: the plan is told, kept, and harms nobody."""

from __future__ import annotations

import pytest

from crikpy import names
from crikpy.settings import ControllerSettings
from tests.e2e.aws import AwsNews
from tests.e2e.cluster import Cluster
from tests.e2e.installing import Installation
from tests.e2e.kubectl import Json, settle, wait_for
from tests.e2e.pods import Namespace, Watched, assert_goes_on, phase_of
from tests.e2e.workloads import counting, deployment, template

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

LARGE_MIB = 1024
CHANGING = """
import os, secrets, sys, time
life, last, held = secrets.token_hex(4), int(sys.argv[1]), int(sys.argv[2]) << 20
memory = bytearray(held)
for begin in range(0, held, 1 << 20):
    memory[begin : begin + (1 << 20)] = os.urandom(1 << 20)
for step in range(last):
    memory[::4096] = bytes([step % 256]) * (held >> 12)
    print(f"life={life} step={step} pid={os.getpid()}", flush=True)
    time.sleep(0.25)
"""
"""Counts as the others do, and changes each page of so many MiB of random bytes at every step."""

LUCK = 1.5
"""So many times as fast as measured a dump may be with luck."""

MARGIN_S = ControllerSettings().margin_s
"""Kept between an order's deadline and the machine's end."""


def changing(app: str, mib: int, *, priority: int) -> Json:
    """Return a Deployment of one job that holds so much memory, all of it new whenever it is saved."""
    container = counting(program=CHANGING)
    container["command"].append(str(mib))
    return deployment(app, template(container, app=app, annotations={names.PRIORITY: str(priority)}), replicas=1)


def save(place: Namespace, pod: Watched) -> float:
    """Have a pod saved by hand; return how long it stood still for that, which is as long as it takes, seconds."""
    known = [order["metadata"]["name"] for order in place.kubectl.list("checkpoints", place.name)]
    place.order(pod)

    def complete() -> Json | None:
        found = place.kubectl.list("checkpoints", place.name)
        return next((each for each in found if each["metadata"]["name"] not in known and is_complete(each)), None)

    order = wait_for("the checkpoint", complete, within_s=150)
    return float(order["status"]["frozenDuration"].removesuffix("s"))


def is_complete(order: Json) -> bool:
    """Say whether a checkpoint is complete."""
    return phase_of(order) == "Complete"


@pytest.mark.lengthy
def test_of_more_memory_than_there_is_time_for_the_most_important_is_saved_and_the_rest_runs_on(
    installation: Installation, installed: Cluster, news: AwsNews, place: Namespace
) -> None:
    victim, *others = installed.nodes
    with installed.cordoned(*others):
        place.apply(changing("dear", 8, priority=100), changing("large", LARGE_MIB, priority=0))
        (dear,), (large,) = place.watch("dear"), place.watch("large")
    # The second one tells how much is new after how long; after as long again, all of it counts as new.
    save(place, large)
    took_s = save(place, large)
    settle(took_s + 3)
    saved = installation.saved(place.name)
    # What is left suffices for the small one, and not even with luck for the large one.
    news.spot(installed.instance(victim), in_s=MARGIN_S + 0.85 * took_s / LUCK)
    assert "to be complete by" in place.await_event(dear.name, "SavePlanned")["message"]
    told = place.await_event(large.name, "NotSavedInTime")["message"]
    assert "runs on" in told
    assert "its last checkpoint is of" in told
    assert_told_of_the_whole(installed, victim)
    after = place.replacement("dear", dear)
    assert after["spec"]["nodeName"] != victim
    assert_goes_on(dear.counts(), place.counts(after["metadata"]["name"]))
    assert_ran_on(place, large)
    assert installation.saved(place.name) == saved + 1


def assert_told_of_the_whole(cluster: Cluster, node: str) -> None:
    """See that the node's own event counts who is saved and who is not."""
    told = wait_for("the node's plan", lambda: cluster.kubectl.events("default", name=node, reason="SavePlan"))
    assert any("1 in time" in event["message"] and "1 not in time" in event["message"] for event in told), told


def assert_ran_on(place: Namespace, pod: Watched) -> None:
    """See that a job that could not be saved was left alone until its order was closed, and afterwards."""
    order = place.await_phase(pod, "Expired", "Failed")
    assert "not begun" in order["status"]["message"], order["status"]
    assert phase_of(order) == "Expired"
    before = len(pod.counts())
    wait_for("more steps", lambda: len(pod.counts()) > before + 4)
    steps = [count.step for count in pod.counts()]
    assert steps == list(range(len(steps)))
    raw = place.kubectl.get("pod", pod.name, place.name)
    assert (raw["metadata"]["uid"], raw["status"]["phase"]) == (pod.uid, "Running")
    assert "deletionTimestamp" not in raw["metadata"]
