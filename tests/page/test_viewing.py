"""What the page says: of nodes under notice, of what cannot be saved, of one namespace, and of too much."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from crikpy.model.nodes import Node
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.model.orders import OrderPhase
from crikpy.page.facts import Facts
from crikpy.page.viewing import MOST_CHECKPOINTS, MOST_JOBS, view_of
from tests.page.facts import BEGIN, at, facts, order, pod


def noticed(seen: Facts, *, left_s: float | None, node: str = "n1") -> Facts:
    """Return facts in which a node is under notice."""
    notice = InterruptionNotice(
        id="spot-1",
        trigger=Trigger.SPOT_INTERRUPTION,
        source="imds:test",
        instance="i-1",
        deadline=None if left_s is None else seen.now + timedelta(seconds=left_s),
        action="terminate",
        seen=seen.now,
    )
    nodes = {**seen.nodes, node: Node(name=node, uid=node, served=True, instance_type="m7i.large")}
    return replace(seen, notices={**seen.notices, node: notice}, nodes=nodes)


def test_a_node_under_notice_has_its_time_and_how_it_stands_with_each_pod() -> None:
    seen = facts(
        pod("u1", name="ordered"),
        order("u1", OrderPhase.DUMPING, None, name="ordered"),
        order("u2", OrderPhase.RESTORED, 19, by="u9", restored=19.5, name="gone"),
        pod("u3", name="hopeless"),
        pod("u4", name="fresh"),
        pod("u5", name="over", phase="Succeeded"),
        pod("u6", name="elsewhere", node="n2"),
    )
    seen = replace(noticed(seen, left_s=103), refusals={"u3": "it has an io_uring open"})
    (row,) = view_of(seen).nodes
    assert (row.what, row.left, row.instance_type) == ("SpotInterruption (terminate)", "1 min 43 s", "m7i.large")
    assert [(rescue.pod, rescue.state, rescue.detail) for rescue in row.rescues] == [
        ("team/fresh", "has no order yet", ""),
        ("team/gone", "saved and resumed", "by team/gone"),
        ("team/hopeless", "cannot be saved", "it has an io_uring open"),
        ("team/ordered", "is being saved", ""),
    ]


def test_the_most_pressing_node_comes_first_and_one_without_a_time_last() -> None:
    seen = noticed(noticed(noticed(facts(), left_s=None, node="n1"), left_s=900, node="n2"), left_s=-5, node="n3")
    assert [(row.name, row.left) for row in view_of(seen).nodes] == [("n3", ""), ("n2", "15 min 0 s"), ("n1", "")]


def test_what_cannot_be_saved_is_told_with_every_reason() -> None:
    seen = facts(pod("u1", injected=False, name="bare"), pod("u2", name="odd"), pod("u3", node="n2", name="well"))
    nodes = {
        "n1": Node(name="n1", uid="n1", unable="its kernel is too old"),
        "n2": Node(name="n2", uid="n2", served=True),
        "n3": Node(name="n3", uid="n3"),
    }
    seen = replace(seen, nodes=nodes, refusals={"u2": "it is traced"})
    view = view_of(seen)
    assert view.unable == (("n1", "its kernel is too old"),), "a node without our pods and agent is none of ours"
    assert [obstacle.pod.name for obstacle in view.obstacles] == ["bare", "odd"]
    bare, odd = view.obstacles
    assert "launcher" in bare.why[0] and bare.why[1] == "n1: its kernel is too old"
    assert odd.why == ("n1: its kernel is too old", "it is traced")
    assert odd.remedies == ("kubectl describe node n1", "crikpy why pod/odd -n team")


def test_of_one_namespace_nothing_of_others_is_told() -> None:
    other = replace(order("u9", OrderPhase.COMPLETE, 3, node="n9", name="secret"), namespace="other")
    seen = noticed(
        noticed(facts(pod("u1"), order("u1", OrderPhase.COMPLETE, 2), other), left_s=60), left_s=9, node="n9"
    )
    seen = replace(seen, pods=(*seen.pods, replace(pod("u8", node="n9", name="hidden"), namespace="other")))
    seen = replace(seen, refusals={"u8": "hidden", "u1": "odd"})
    assert set(seen.within("team").refusals) == {"u1"}
    view = view_of(seen, "team")
    shown = repr(view)
    assert not [word for word in ("secret", "hidden", "n9", "other") if word in shown]
    assert [row.name for row in view.nodes] == ["n1"]
    assert "secret" in repr(view_of(seen))


def test_a_checkpoint_is_told_with_its_sizes_and_times() -> None:
    (row,) = view_of(facts(order("u1", OrderPhase.RESTORED, 3, by="u2", restored=4))).checkpoints
    assert (row.size, row.stored, row.reused, row.frozen, row.total) == (
        "3.0 GiB",
        "1.0 GiB",
        "2.0 GiB",
        "1.5 s",
        "12.2 s",
    )
    assert (row.when, row.resumed_by, row.kind) == (at(3), "team/a", "good")


def test_a_job_is_told_in_words() -> None:
    seen = facts(order("u1", OrderPhase.RESTORED, 3, by="u2", restored=4), pod("u2", node="n2", begun=3.5))
    (job,) = view_of(seen).jobs
    assert (job.fate, job.moves) == ("runs", 1)
    assert job.steps == (
        "2026-11-24 10:00:00: began as a on n1",
        "2026-11-24 13:00:00: SpotInterruption: 3.0 GiB saved, stood still for 1.5 s",
        "2026-11-24 13:00:00: moved on, after 3 h 0 min of work there",
        "2026-11-24 14:00:00: went on as a on n2",
    )


def test_what_is_too_much_is_counted_and_the_newest_is_kept() -> None:
    count = MOST_CHECKPOINTS + 7
    seen = facts(*(order(f"u{number}", OrderPhase.COMPLETE, number / 10) for number in range(count)))
    view = view_of(seen)
    assert (len(view.jobs), view.more_jobs) == (MOST_JOBS, count - MOST_JOBS)
    assert (len(view.checkpoints), view.more_checkpoints) == (MOST_CHECKPOINTS, 7)
    assert view.checkpoints[0].when == BEGIN + timedelta(hours=(count - 1) / 10)
