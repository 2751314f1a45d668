"""Distributed jobs on a real cluster: all pods of a group are saved, moved and resumed as one, or none is."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from crikpy import names
from tests.e2e.cluster import Cluster, Notices
from tests.e2e.kubectl import Json, settle, wait_for
from tests.e2e.pods import Namespace, Watched, assert_goes_on, running
from tests.e2e.workloads import Counted, bare_pod, counting, job, stateful_set, template

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

EXCHANGE = """
import socket
exchange, seen = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), {}
exchange.bind(("0.0.0.0", 7000))
while True:
    said, whose = exchange.recvfrom(64)
    rank, step = said.split()
    seen[rank] = int(step)
    exchange.sendto(b" ".join(b"%s:%d" % one for one in seen.items()), whose)
"""
"""Knows how far each rank is, by datagrams; it is in no group and stays where it is."""

RANK = """
import os, secrets, socket, sys, time
life, last, ranks, where = secrets.token_hex(4), int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rank = os.environ.get("JOB_COMPLETION_INDEX") or socket.gethostname().rpartition("-")[2]
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
line.settimeout(0.5)
for step in range(last):
    while True:
        try:
            line.sendto(f"{rank} {step}".encode(), (where, 7000))
            seen = dict(one.split(":") for one in line.recv(1024).decode().split())
        except OSError:
            continue
        behind = [other for other in map(str, range(ranks)) if int(seen.get(other, -1)) < step]
        if not behind:
            break
        time.sleep(0.02)
    print(f"life={life} step={step} pid={os.getpid()}", flush=True)
    time.sleep(0.2)
"""
"""Takes a step only once all ranks have come to it, so that no two ranks are ever more than one step apart."""

APART: Json = {
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"part": "rank"}},
        }
    ]
}


def ranks(app: str, number: int, where: str, notes: Mapping[str, str]) -> Json:
    """Return the template of ranks that step together, on different nodes where possible."""
    container = counting(program=RANK)
    container["command"] += [str(number), where]
    made = template(container, app=app, annotations=notes, **APART)
    made["metadata"]["labels"]["part"] = "rank"
    return made


@pytest.fixture
def exchange(installed: Cluster, place: Namespace) -> str:
    """Address of the program by which ranks know of each other, on the node that stays."""
    pod = template(counting(program=EXCHANGE), app="exchange", opted_in=False, nodeName=installed.nodes[-1])
    place.apply(bare_pod("exchange", pod))

    def address() -> str:
        found = [one for one in place.pods("exchange") if running(one)]
        return str(found[0]["status"].get("podIP") or "") if found else ""

    return wait_for("the exchange", address)


def last_steps(pods: list[Watched]) -> list[int]:
    return [pod.counts()[-1].step for pod in pods]


def go_on(place: Namespace, app: str, before: list[Watched]) -> list[list[Counted]]:
    """See that each pod is continued by another, all from the same moment; return what those have counted."""
    found = []
    for pod in before:
        name = place.replacement(app, pod, within_s=180)["metadata"]["name"]

        def enough(name: str = name) -> list[Counted] | None:
            counts = place.counts(name)
            return counts if len(counts) >= 4 else None

        after = wait_for(f"{name} to count", enough)
        assert_goes_on(pod.counts(), after)
        found.append(after)
    firsts = [counts[0].step for counts in found]
    assert max(firsts) - min(firsts) <= 1, f"members went on from different moments: {firsts}"
    return found


def sets_of(place: Namespace, pods: list[Watched]) -> set[str]:
    orders = [order for pod in pods for order in place.orders_of(pod)]
    return {order["spec"]["group"]["set"] for order in orders}


def test_ranks_on_two_nodes_move_together_when_one_node_is_interrupted(
    installed: Cluster, notices: Notices, place: Namespace, exchange: str
) -> None:
    pod = ranks("ddp", 3, exchange, {names.GROUP: "ddp", names.GROUP_SIZE: "3"})
    place.apply(job("ddp", pod, completions=3, parallelism=3, completionMode="Indexed"))
    before = place.watch("ddp", number=3)
    victim = installed.nodes[0]
    assert {one.node for one in before} == set(installed.nodes), "the ranks are on both nodes"
    notices.spot(victim)
    try:
        go_on(place, "ddp", before)
        assert len(sets_of(place, before)) == 1
        for one in before:
            place.await_phase(one, "Restored")
    finally:
        notices.withdraw_all(installed.nodes)


def test_when_one_member_is_evicted_all_of_a_stateful_set_follow(place: Namespace, exchange: str) -> None:
    place.apply(stateful_set("state", ranks("state", 2, exchange, {names.GROUP: "state"}), replicas=2))
    before = place.watch("state", number=2)
    place.evict(before[0])
    go_on(place, "state", before)
    triggers = {order["spec"]["trigger"] for pod in before for order in place.orders_of(pod)}
    assert triggers == {"Drain"}


def test_a_group_with_a_pod_that_has_not_opted_in_is_left_alone_and_its_users_are_told_before_any_notice(
    installed: Cluster, notices: Notices, place: Namespace
) -> None:
    for name, opted_in in (("one", True), ("two", False)):
        pod = template(app="mixed", annotations={names.GROUP: "mixed"}, opted_in=opted_in)
        place.apply(bare_pod(name, pod))
    before = place.watch("mixed", number=2)
    said = place.await_event("one", "GroupNotSaved")
    assert "two of it has not opted in" in said["message"]
    victim = next(pod.node for pod in before if pod.name == "one")
    notices.spot(victim)
    try:
        settle(6)
        assert not [pod for pod in before if place.orders_of(pod)]
        steps = last_steps(before)
        wait_for(
            "more steps", lambda: all(now > was + 4 for now, was in zip(last_steps(before), steps, strict=True))
        )
    finally:
        notices.withdraw_all(installed.nodes)
