"""Jobs are put together from what is recorded of their pods, and hours are counted once and never guessed."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from crikpy.model.orders import NOT_STARTED, SPARED, OrderPhase
from crikpy.page.facts import Facts
from crikpy.page.hours import Hours, count_hours
from crikpy.page.lives import Fate, Life, jobs_of, lives_of
from crikpy.page.timelines import draw
from crikpy.page.viewing import view_of
from tests.page.facts import at, facts, order, pod

HOUR = 3600.0


def only(seen: Facts) -> Life:
    (life,) = lives_of(seen)
    return life


def hours(seen: Facts) -> Hours:
    return count_hours(lives_of(seen))


def test_a_pod_that_was_never_saved_runs_since_its_containers_were_started() -> None:
    life = only(facts(pod("u1", begun=3)))
    assert (life.fate, life.begin, life.end) == (Fate.RUNS, at(3), None)


def test_pods_that_resumed_each_other_are_one_job_and_each_ones_work_counts_once() -> None:
    seen = facts(
        order("u1", OrderPhase.RESTORED, 5, by="u2", restored=5.5),
        order("u2", OrderPhase.RESTORED, 8, begun=5.25, by="u3", restored=9, node="n2"),
        pod("u3", node="n3", begun=8.5),
    )
    (job,) = jobs_of(lives_of(seen))
    assert [(life.node, life.fate) for life in job.lives] == [
        ("n1", Fate.MOVED),
        ("n2", Fate.MOVED),
        ("n3", Fate.RUNS),
    ]
    assert [life.begin for life in job.lives] == [at(0), at(5.5), at(9)], "a resumed pod works since it went on"
    found = count_hours(job.lives)
    assert (found.saved_s, found.saves, found.lost_s, found.losses) == ((5 + 2.5) * HOUR, 2, 0.0, 0)


def test_what_was_saved_and_waits_is_neither_saved_nor_lost_yet() -> None:
    seen = facts(order("u1", OrderPhase.COMPLETE, 5), pod("u1"))
    assert only(seen).fate is Fate.WAITS
    assert hours(seen).saves == hours(seen).losses == 0


def test_a_job_whose_save_failed_is_lost_once_its_pod_is_gone() -> None:
    failed = order("u1", OrderPhase.FAILED, 6, begun=2)
    assert only(facts(failed, pod("u1", begun=2))).fate is Fate.RUNS
    gone = facts(failed)
    assert only(gone).fate is Fate.LOST
    assert (hours(gone).lost_s, hours(gone).losses) == (4 * HOUR, 1)


def test_a_job_whose_checkpoint_could_not_be_resumed_is_lost() -> None:
    for periodic in (True, False):
        unresumed = order("u1", OrderPhase.FAILED, 6, checkpoint="c", periodic=periodic)
        assert hours(facts(unresumed)).lost_s == 6 * HOUR


def test_a_periodic_checkpoint_that_failed_loses_nothing() -> None:
    seen = facts(order("u1", OrderPhase.FAILED, 6, periodic=True))
    assert only(seen).fate is Fate.ENDED


def test_a_job_that_had_not_begun_has_nothing_to_lose() -> None:
    assert only(facts(order("u1", OrderPhase.FAILED, 6, reason=NOT_STARTED))).fate is Fate.ENDED


def test_a_job_that_was_spared_runs() -> None:
    assert only(facts(order("u1", OrderPhase.COMPLETE, 6, reason=SPARED), pod("u1"))).fate is Fate.RUNS


def test_what_was_done_after_the_checkpoint_that_was_resumed_is_lost() -> None:
    seen = facts(
        order("u1", OrderPhase.RESTORED, 4, periodic=True, by="u2", restored=7),
        order("u1", OrderPhase.FAILED, 6),
        pod("u2", begun=6.5),
    )
    assert (hours(seen).saved_s, hours(seen).lost_s) == (4 * HOUR, 2 * HOUR)


def test_nothing_is_counted_of_a_pod_of_which_nobody_recorded_when_it_began() -> None:
    seen = facts(order("u1", OrderPhase.RESTORED, 4, begun=None, by="u2", restored=5), pod("u2", begun=4.5))
    assert (hours(seen).saves, hours(seen).saved_s, hours(seen).unknown) == (0, 0.0, 1)


def test_work_before_a_start_in_place_is_not_counted() -> None:
    seen = facts(
        order("u1", OrderPhase.COMPLETE, 2, begun=0, periodic=True),
        order("u1", OrderPhase.RESTORED, 6, begun=5, by="u2", restored=6.5),
    )
    assert hours(seen).saved_s == 1 * HOUR


def test_a_pod_that_began_afresh_follows_the_lost_one_of_its_workload() -> None:
    seen = facts(order("u1", OrderPhase.FAILED, 6), pod("u2", begun=6.5))
    (job,) = jobs_of(lives_of(seen))
    assert [life.fate for life in job.lives] == [Fate.LOST, Fate.RUNS]


def test_replicas_that_run_at_once_are_jobs_of_their_own() -> None:
    assert len(jobs_of(lives_of(facts(pod("u1"), pod("u2"))))) == 2
    both = facts(order("u1", OrderPhase.FAILED, 6), order("u2", OrderPhase.FAILED, 6), pod("u3", begun=7))
    assert len(jobs_of(lives_of(both))) == 3, "nobody can say whose place the third has taken"


def test_a_claim_of_another_namespace_is_not_believed() -> None:
    taken = order("u1", OrderPhase.RESTORED, 4, by="u2", restored=5)
    stranger = replace(pod("u2", begun=5), namespace="elsewhere")
    lives = {(life.namespace, life.uid): life for life in lives_of(facts(taken, stranger))}
    assert lives["elsewhere", "u2"].resumed_from is None


_UIDS = st.sampled_from(["u1", "u2", "u3", "u4"])
_HOURS = st.none() | st.floats(-10, 30)
_ORDERS = st.builds(
    order,
    uid=_UIDS,
    phase=st.sampled_from([*OrderPhase, OrderPhase.read("Novel")]),
    completed=_HOURS,
    begun=_HOURS,
    by=st.just("") | _UIDS,
    restored=_HOURS,
    periodic=st.booleans(),
)
_PODS = st.builds(
    pod, uid=_UIDS, begun=st.floats(-10, 30), phase=st.sampled_from(["Running", "Failed", "Pending"])
)


@example(
    things=[
        pod("u1", begun=2),
        order("u1", OrderPhase.RESTORED, 0, by="u2"),
        order("u1", OrderPhase.FAILED, 1),
    ]
)
@given(things=st.lists(_ORDERS | _PODS, max_size=12))
def test_whatever_is_recorded_each_pod_is_in_one_job_and_no_picture_leaves_its_frame(
    things: list[object],
) -> None:
    seen = facts(*things)  # type: ignore[arg-type]
    assert view_of(seen).now == seen.now
    lives = lives_of(seen)
    jobs = jobs_of(lives)
    assert sorted(id(life) for job in jobs for life in job.lives) == sorted(map(id, lives))
    counted = count_hours(lives)
    assert counted.saved_s >= 0 and counted.lost_s >= 0
    for job in jobs:
        picture = draw(job, seen.now)
        for lane in picture.lanes:
            assert lane.x >= 0 and lane.x + lane.width <= 100
            assert all(0 <= mark.x <= 100 and mark.y < picture.height for mark in lane.marks)
