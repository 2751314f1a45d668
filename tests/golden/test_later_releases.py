"""What a later release says, before this one is updated or after it was taken back, misleads nobody here.

Words that this release does not know are kept as they are; nobody here acts upon an order in a phase of that kind.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crikpy.agent.reporting import Teller, merged, resumed
from crikpy.controller.acting import Actor
from crikpy.controller.actions import ExpireOrder, MakeOrder
from crikpy.controller.marking import wanted_marks
from crikpy.controller.placing import waiting_for
from crikpy.controller.planning import plan
from crikpy.controller.viewing import KnownOrder
from crikpy.kube.client import KubeClient
from crikpy.kube.events import EventRecorder
from crikpy.kube.nodes import parse_node, render_report_patch, render_reports
from crikpy.kube.orders import parse_order, render_order, render_status
from crikpy.kube.pods import parse_pod
from crikpy.kube.resources import CHECKPOINTS
from crikpy.kube.signals import why_going
from crikpy.metrics import Metrics
from crikpy.model.notices import Trigger
from crikpy.model.orders import Order, OrderPhase, OrderStatus
from crikpy.model.pods import PodOptions
from tests.agent.cluster import NAMESPACE, NODE, order, put_node, put_order, put_pod, running
from tests.controller.clusters import a_node, a_notice, a_pod, a_view, an_order, with_options
from tests.fakes.kube import FakeKube

NOW = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
MELTING = "Melting"
WHIM = "Whim"


def strange(known: KnownOrder, **changes: Any) -> KnownOrder:
    """Return an order as a later release could have left it."""
    status = {**render_status(known.order.status, [], NOW), "phase": MELTING, "novelty": {"deep": [1]}}
    raw = {**render_order(known.order), "novelty": 1, "status": status}
    raw["metadata"] |= {"creationTimestamp": known.order.created.isoformat(), "uid": known.order.uid}  # type: ignore[union-attr]
    raw["spec"] |= {"novelty": True, **changes}
    return replace(known, order=parse_order(raw))


def test_words_that_are_not_known_are_kept() -> None:
    found = strange(an_order(), trigger=WHIM).order
    assert (found.status.phase, found.spec.trigger) == (MELTING, WHIM)
    assert render_order(found)["spec"]["trigger"] == WHIM
    assert render_status(found.status, [], NOW)["phase"] == MELTING
    assert not found.status.phase.final
    assert not found.status.phase.open
    assert all(phase.final is not phase.open for phase in OrderPhase)
    assert MELTING not in set(OrderPhase)
    assert WHIM not in set(Trigger)


@pytest.mark.parametrize("recreates", [False, True])
@pytest.mark.parametrize("notice", ["", "spot-1"])
@pytest.mark.parametrize("with_pod", [False, True])
def test_the_controller_leaves_an_order_in_an_unknown_phase_alone(
    notice: str, with_pod: bool, recreates: bool
) -> None:
    known = strange(an_order(notice=notice, recreates=recreates))
    pods = [a_pod()] if with_pod else []
    for node in (a_node(notice=a_notice(deadline_s=10**8)), a_node()):
        for now_s in (5.0, 10.0**7):
            acts = plan(a_view(node, *pods, known, now_s=now_s))
            assert not [act for act in acts if getattr(act, "order", None) == known.order]


def test_a_pod_with_an_order_in_an_unknown_phase_is_not_ordered_to_be_saved_twice() -> None:
    node = a_node(notice=a_notice())
    acts = plan(a_view(node, a_pod(), strange(an_order()), now_s=5))
    assert not [act for act in acts if isinstance(act, MakeOrder)]


def test_a_pod_with_an_order_in_an_unknown_phase_keeps_its_periodic_checkpoints() -> None:
    pod = a_pod(**with_options(interval_s=600.0))
    known = strange(an_order(pod, notice="", leave_running=True, created_s=0, completed_s=10))
    assert not plan(a_view(a_node(), pod, known, now_s=300))
    (act,) = plan(a_view(a_node(), pod, known, now_s=1000))
    assert isinstance(act, MakeOrder)
    assert act.order.spec.trigger is Trigger.INTERVAL


def test_a_replacement_is_kept_to_nodes_that_fit_what_an_unknown_phase_may_have_saved() -> None:
    pod = {"metadata": {"namespace": "default", "name": "a"}}
    waiting = replace(strange(an_order()).order, cpu="abc", spec=replace(an_order().order.spec, workload="pod-a"))
    assert waiting_for(pod, "default", [waiting]) == [waiting]


def test_an_agent_changes_no_order_in_an_unknown_phase() -> None:
    now = strange(an_order(checkpoint="c-1")).order.status
    for phase in OrderPhase:
        assert merged(now, OrderStatus(phase=phase, checkpoint="c-1", reason="New")) == now
        assert resumed(now, phase, "New", "new", by="a/b/c") == now


def test_conditions_that_are_not_known_are_kept() -> None:
    verified = {"type": "Verified", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "x"}
    status = OrderStatus(phase=OrderPhase.COMPLETE, checkpoint="c-1")
    conditions = render_status(status, [verified], NOW)["conditions"]
    assert [found["type"] for found in conditions] == ["Complete", "Restored", "Verified"]
    assert conditions[-1] == verified
    assert render_status(status, conditions, NOW)["conditions"] == conditions


REPORT = "Meltdown m-1: melt at 2026-11-24T10:02:00Z (queue:melt) seen 2026-11-24T10:00:00Z"


def test_reports_that_are_not_known_are_kept() -> None:
    note = f"{render_reports([a_notice()])}\n{REPORT}"
    raw = {"metadata": {"name": "n1", "resourceVersion": "7", "annotations": {"crikpy.io/reported-notice": note}}}
    node = parse_node(raw)
    assert [notice.id for notice in node.reported] == ["spot-1"]
    fewer = render_report_patch(node, [])["metadata"]["annotations"]["crikpy.io/reported-notice"]
    assert fewer == REPORT
    same = render_report_patch(node, node.reported)["metadata"]["annotations"]["crikpy.io/reported-notice"]
    assert sorted(same.splitlines()) == sorted(note.splitlines())


def test_a_notice_of_an_unknown_kind_marks_no_node_and_our_taint_for_one_still_says_that_it_goes() -> None:
    condition = {
        "type": "CrikpyInterruptionNotice",
        "status": "True",
        "reason": "Meltdown",
        "message": "m-1: melt at 2026-11-24T10:02:00Z (imds:melt)",
        "lastTransitionTime": "2026-11-24T10:00:00Z",
    }
    taint = {"key": "crikpy.io/interruption", "value": "Meltdown", "effect": "NoSchedule"}
    raw = {"metadata": {"name": "n1"}, "spec": {"taints": [taint]}, "status": {"conditions": [condition]}}
    node = parse_node(raw)
    assert node.notice is None
    assert not wanted_marks(node, None).taints
    assert why_going(node, None) is Trigger.DRAIN


def test_an_annotation_that_a_later_release_understands_counts_as_left_out_and_the_others_as_written() -> None:
    notes = {"checkpoint": "true", "injected": "main", "on-rebalance": "ponder", "interval": "1h", "novelty": "x"}
    annotations = {f"crikpy.io/{name}": value for name, value in notes.items()}
    pod = parse_pod({"metadata": {"name": "a", "namespace": "n", "annotations": annotations}})
    assert pod.opted_in
    assert pod.injected == ("main",)
    assert pod.options == PodOptions(interval_s=3600.0)
    assert "on-rebalance" in pod.fault
    assert "novelty" not in pod.fault


class Neighbours:
    """An API server with orders of a later release, and what this release does about them."""

    def __init__(self, kube: FakeKube, api: KubeClient) -> None:
        self.kube = kube
        recorder = EventRecorder(api, component="crikpy-agent", host=NODE)
        self.teller = Teller(api, recorder, Metrics(), node=NODE)
        self.perform = Actor(api, recorder, Metrics()).perform

    def leave(self, name: str) -> Any:
        """Have a later release leave an order in an unknown phase; return it as it stands."""
        status = {"phase": MELTING, "checkpoint": "c-1", "novelty": 1}
        self.kube.update(CHECKPOINTS, name, {"status": status}, namespace=NAMESPACE)
        return self.raw(name)

    def raw(self, name: str) -> Any:
        """Return an object as it stands."""
        return json.loads(json.dumps(self.kube.get(CHECKPOINTS, name, namespace=NAMESPACE)))


@pytest.fixture
async def neighbours(tmp_path: Path) -> AsyncIterator[Neighbours]:
    async with FakeKube().serving() as kube, await KubeClient.connect(kube.settings(tmp_path)) as api:
        made = Neighbours(kube, api)
        put_node(kube)
        async with running(made.teller.run()):
            yield made


async def test_an_order_in_an_unknown_phase_keeps_no_other_from_being_told(neighbours: Neighbours) -> None:
    pod = put_pod(neighbours.kube, "p", uid="u1")
    for name in ("melting", "ours"):
        put_order(neighbours.kube, pod, name)
    status = render_status(OrderStatus(phase=OrderPhase.COMPLETE, checkpoint="c-1"), [], NOW)
    neighbours.kube.update(CHECKPOINTS, "ours", {"status": status}, namespace=NAMESPACE)
    left = neighbours.leave("melting")
    new = parse_pod(put_pod(neighbours.kube, "q", uid="u2"))
    neighbours.teller.tell_restored(new, checkpoint="c-1", origin_uid="u1", seconds=1.0)
    await FakeKube.until(lambda: order(neighbours.kube, "ours").status.phase is OrderPhase.RESTORED)
    assert neighbours.raw("melting") == left


async def test_an_order_in_an_unknown_phase_is_not_closed_by_a_controller_that_saw_it_before(
    neighbours: Neighbours,
) -> None:
    seen: Order = put_order(neighbours.kube, put_pod(neighbours.kube, "p"), "o")
    left = neighbours.leave("o")
    await neighbours.perform(ExpireOrder(order=seen, message="nobody took it"))
    assert neighbours.raw("o") == left


async def test_a_status_keeps_the_fields_that_a_later_release_has_put_beside_it(neighbours: Neighbours) -> None:
    put_order(neighbours.kube, put_pod(neighbours.kube, "p"), "o")
    status = {"phase": "Dumping", "novelty": {"deep": [1]}}
    neighbours.kube.update(CHECKPOINTS, "o", {"status": status}, namespace=NAMESPACE)
    told = OrderStatus(phase=OrderPhase.COMPLETE, checkpoint="c-1", completed=NOW - timedelta(hours=1))
    neighbours.teller.tell_status(NAMESPACE, "o", told)
    await FakeKube.until(lambda: order(neighbours.kube, "o").status.phase is OrderPhase.COMPLETE)
    assert neighbours.raw("o")["status"]["novelty"] == {"deep": [1]}
