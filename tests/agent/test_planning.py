"""The plan of a node: nothing forgotten, nothing begun in vain, the most important first, promises kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from crikpy.agent.planning import Candidate, Picture, Plan, Planned, Rates, UnderWay, Urgency, Verdict, plan

GIB = 1 << 30
NOW = 1000.0
A_GIB_PER_S = Rates(read=GIB, write=GIB, overhead_s=2.0)
PROMISED = (Verdict.NEXT, Verdict.WAITS)


def a_pod(key: str, gib: float = 10.0, *, in_s: float = 100.0, **facts: object) -> Candidate:
    """Return a pod that waits; all of its memory is new."""
    size = int(gib * GIB)
    chosen = {"urgency": Urgency.FINAL, "memory": size, "new": size, "least_new": size, **facts}
    return Candidate(key=key, deadline=NOW + in_s, **chosen)  # type: ignore[arg-type]


def planned(*pods: Candidate, slots: int = 2, rates: Rates = A_GIB_PER_S, best: Rates | None = None) -> Plan:
    """Return the plan of a node that was measured."""
    return plan(
        Picture(now=NOW, slots=slots, expected=rates, best=best or rates, exploring=False, candidates=pods)
    )


def verdicts(made: Plan) -> dict[str, str]:
    """Return what becomes of each."""
    return {entry.key: entry.verdict.value for entry in made.entries}


def test_the_most_pressing_comes_first_then_priority_then_the_work_there_is_to_lose() -> None:
    made = planned(
        a_pod("young", since=9.0),
        a_pod("old", since=1.0),
        a_pod("dear", since=9.0, priority=5),
        a_pod("interval", urgency=Urgency.RUNNING_ON, priority=99),
        a_pod("sigterm", urgency=Urgency.PRESSING, since=9.0),
        slots=1,
    )
    assert [entry.key for entry in made.entries] == ["sigterm", "dear", "old", "young", "interval"]
    assert made.begins == ("sigterm",)


def test_what_does_not_fit_is_not_begun_and_what_comes_after_it_is() -> None:
    made = planned(a_pod("first", 60, priority=3), a_pod("second", 60, priority=2), a_pod("third", 30, priority=1))
    assert verdicts(made) == {"first": "next", "third": "waits", "second": "unsaved"}
    assert made.entries[2].needs_s == 62.0
    assert made.width == 1, "side by side they would be late"


def test_an_earlier_deadline_comes_first_only_where_the_rank_would_lose_a_pod() -> None:
    dear, soon = a_pod("dear", 20, in_s=100, priority=1), a_pod("soon", 20, in_s=30)
    assert planned(dear, soon, slots=1).begins == ("soon",)
    late = replace(soon, deadline=NOW + 50)
    assert planned(dear, late, slots=1).begins == ("dear",)


def test_dumps_that_share_go_one_after_the_other_and_those_that_do_not_side_by_side() -> None:
    pods = [a_pod("a"), a_pod("b")]
    assert planned(*pods).begins == ("a",)
    assert planned(*pods, rates=replace(A_GIB_PER_S, several=2.0)).begins == ("a", "b")


def test_small_pods_overlap_what_each_dump_costs_whatever_its_size() -> None:
    assert planned(a_pod("a", 0.1), a_pod("b", 0.1)).begins == ("a", "b")


def test_while_nobody_knows_what_several_do_to_each_other_it_is_tried_where_it_costs_nothing() -> None:
    for in_s, begun in ((100.0, ("a", "b")), (23.0, ("a",))):
        picture = Picture(
            now=NOW,
            slots=2,
            expected=A_GIB_PER_S,
            best=A_GIB_PER_S,
            exploring=True,
            candidates=(a_pod("a", 11, in_s=in_s), a_pod("b", in_s=in_s)),
        )
        assert plan(picture).begins == begun


def test_what_fits_with_luck_only_is_tried_when_nothing_is_left_that_surely_does() -> None:
    fast = replace(A_GIB_PER_S, read=4 * GIB, write=4 * GIB)
    doubtful, sure = a_pod("doubtful", 120, priority=9), a_pod("sure", 10)
    made = planned(doubtful, sure, best=fast, slots=1)
    assert verdicts(made) == {"sure": "next", "doubtful": "last"}
    assert made.begins == ("sure",)
    assert planned(doubtful, best=fast).begins == ("doubtful",)
    assert planned(doubtful).begins == ()


def test_what_is_not_new_need_not_be_written() -> None:
    slow = replace(A_GIB_PER_S, write=GIB / 10)
    assert verdicts(planned(a_pod("all", 20), rates=slow)) == {"all": "unsaved"}
    assert verdicts(planned(a_pod("little", 20, new=GIB), rates=slow)) == {"little": "next"}
    unknown = planned(a_pod("unknown", 20, least_new=0), rates=slow)
    assert verdicts(unknown) == {"unknown": "last"}


def test_what_cannot_be_saved_takes_nobodys_turn() -> None:
    made = planned(a_pod("refused", 1, priority=9, refusal="a terminal"), a_pod("a", 1), slots=1)
    assert verdicts(made) == {"a": "next", "refused": "refused"}


def test_what_is_under_way_keeps_its_place() -> None:
    half = UnderWay(began=NOW - 7, moved=5 * GIB, seen=NOW)
    made = planned(a_pod("running", under_way=half), a_pod("urgent", urgency=Urgency.PRESSING, in_s=17.0), slots=1)
    assert verdicts(made) == {"running": "running", "urgent": "waits"}
    assert [entry.ends for entry in made.entries] == [NOW + 5, NOW + 17]


def test_a_second_one_is_not_begun_beside_one_that_would_be_late_for_it() -> None:
    half = UnderWay(began=NOW - 7, moved=5 * GIB, seen=NOW)
    made = planned(a_pod("running", under_way=half, in_s=6.0), a_pod("other", 1))
    assert made.begins == ()


# Whatever the picture.

FIGURES = st.floats(0.5, 8.0)


@st.composite
def rates(draw: st.DrawFn) -> Rates:
    """Draw what a node can do."""
    return Rates(
        read=draw(FIGURES) * GIB,
        write=draw(FIGURES) * GIB,
        overhead_s=draw(st.floats(0.1, 5.0)),
        several=draw(st.floats(1.0, 3.0)),
    )


@st.composite
def candidates(draw: st.DrawFn, key: str, *, in_s: float | None = None) -> Candidate:
    """Draw a pod that waits."""
    memory = int(draw(st.floats(0.0, 40.0)) * GIB)
    new = draw(st.integers(0, memory))
    return Candidate(
        key=key,
        urgency=draw(st.sampled_from(Urgency)),
        priority=draw(st.integers(0, 3)),
        since=draw(st.integers(0, 3)),
        deadline=NOW + (draw(st.floats(-5.0, 120.0)) if in_s is None else in_s),
        memory=memory,
        new=new,
        least_new=draw(st.integers(0, new)),
        refusal=draw(st.sampled_from(("", "", "", "", "a terminal"))),
    )


@st.composite
def pictures(
    draw: st.DrawFn, *, most_slots: int = 3, running: bool = True, in_s: float | None = None, sure: bool = False
) -> Picture:
    """Draw a node at one moment."""
    pods = [draw(candidates(f"pod-{number}", in_s=in_s)) for number in range(draw(st.integers(0, 7)))]
    slots = draw(st.integers(1, most_slots))
    busy = draw(st.integers(0, min(slots, len(pods)))) if running else 0
    for number, pod in enumerate(pods[:busy]):
        began = NOW - draw(st.floats(0.0, 60.0))
        moved = draw(st.integers(0, pod.memory))
        pods[number] = replace(pod, refusal="", under_way=UnderWay(began=began, moved=moved, seen=NOW))
    expected = draw(rates())
    luck = 1.0 if sure else draw(st.floats(1.0, 8.0))
    best = replace(expected, read=expected.read * luck, write=expected.write * luck)
    return Picture(
        now=NOW,
        slots=slots,
        expected=expected,
        best=best,
        exploring=draw(st.booleans()),
        candidates=tuple(draw(st.permutations(pods))),
    )


def in_rank(picture: Picture, made: Plan) -> list[tuple[Candidate, Planned]]:
    """Return those that wait and can be saved, the highest rank first, with what is planned for them."""
    entries = {entry.key: entry for entry in made.entries}
    waiting = [pod for pod in picture.candidates if pod.under_way is None and not pod.refusal]
    return [(pod, entries[pod.key]) for pod in sorted(waiting, key=lambda pod: pod.rank)]


@given(pictures())
def test_no_pod_is_forgotten_and_each_has_one_verdict(picture: Picture) -> None:
    made = plan(picture)
    assert sorted(entry.key for entry in made.entries) == sorted(pod.key for pod in picture.candidates)
    of = verdicts(made)
    for pod in picture.candidates:
        assert (of[pod.key] == "running") is (pod.under_way is not None)
        assert (of[pod.key] == "refused") is bool(pod.refusal)


@given(pictures())
def test_the_same_picture_gives_the_same_plan(picture: Picture) -> None:
    assert plan(picture) == plan(picture)


@given(pictures())
def test_nothing_is_promised_past_its_deadline(picture: Picture) -> None:
    for pod, entry in in_rank(picture, plan(picture)):
        if entry.verdict in PROMISED:
            assert entry.ends <= pod.deadline


@given(pictures())
def test_nothing_is_begun_in_vain_while_something_waits_that_surely_fits(picture: Picture) -> None:
    made = plan(picture)
    of = verdicts(made)
    begun = {of[key] for key in made.begins}
    assert begun <= {"next", "last"}
    if "waits" in of.values():
        assert "last" not in begun


@given(pictures())
def test_no_place_stays_free_while_something_waits_that_fits(picture: Picture) -> None:
    made = plan(picture)
    count = {verdict: list(verdicts(made).values()).count(verdict.value) for verdict in Verdict}
    busy = count[Verdict.RUNNING] + len(made.begins)
    assert made.width <= max(picture.slots, count[Verdict.RUNNING])
    assert busy <= max(made.width, count[Verdict.RUNNING])
    if count[Verdict.WAITS]:
        assert busy == made.width
    elif count[Verdict.LAST]:
        assert busy == made.width or len(made.begins) == count[Verdict.NEXT] + count[Verdict.LAST]


@given(pictures(in_s=90.0))
def test_none_is_left_out_for_one_of_lower_rank_that_takes_as_long(picture: Picture) -> None:
    ranked = in_rank(picture, plan(picture))
    for number, (_, left_out) in enumerate(ranked):
        if left_out.verdict not in PROMISED:
            lower = [entry for _, entry in ranked[number + 1 :] if entry.verdict in PROMISED]
            assert all(entry.needs_s < left_out.needs_s for entry in lower)


@given(pictures(), st.floats(1.0, 3.0), st.floats(1.0, 3.0), st.floats(0.2, 1.0))
def test_a_faster_node_never_leaves_out_one_of_higher_rank(
    picture: Picture, read: float, write: float, overhead: float
) -> None:
    slow = picture.expected
    faster = replace(slow, read=slow.read * read, write=slow.write * write, overhead_s=slow.overhead_s * overhead)
    waiting = replace(picture, candidates=tuple(replace(pod, under_way=None) for pod in picture.candidates))
    before = [entry.verdict in PROMISED for _, entry in in_rank(waiting, plan(waiting))]
    waiting = replace(waiting, expected=faster)
    assert [entry.verdict in PROMISED for _, entry in in_rank(waiting, plan(waiting))] >= before


@given(pictures(sure=True), st.floats(0.0, 1.0))
def test_the_order_in_which_pods_were_asked_for_matters_among_equals_only(picture: Picture, turn: float) -> None:
    pods = [replace(pod, since=float(number)) for number, pod in enumerate(picture.candidates)]
    cut = int(turn * len(pods))
    made = plan(replace(picture, candidates=tuple(pods)))
    turned = plan(replace(picture, candidates=(*pods[cut:], *pods[:cut])))
    assert verdicts(made) == verdicts(turned)


def lived_through(picture: Picture) -> Iterator[tuple[Picture, Plan]]:
    """Begin what each plan says, and let everything take exactly as long as planned."""
    while True:
        made = plan(picture)
        yield picture, made
        of = {entry.key: entry for entry in made.entries}
        # What is doubtful is not tried: it might take what was promised to others.
        begun = {key for key in made.begins if of[key].verdict is Verdict.NEXT}
        busy = [entry.ends for entry in made.entries if entry.verdict is Verdict.RUNNING or entry.key in begun]
        if not busy:
            return
        now = min(busy)
        left = []
        for pod in picture.candidates:
            state = pod.under_way or (UnderWay(began=picture.now) if pod.key in begun else None)
            if state is not None:
                if of[pod.key].ends <= now:
                    continue
                state = _moved_on(pod, state, of[pod.key], picture, made, now)
            left.append(replace(pod, under_way=state))
        picture = replace(picture, now=now, candidates=tuple(left))


def _moved_on(
    pod: Candidate, state: UnderWay, entry: Planned, picture: Picture, made: Plan, now: float
) -> UnderWay:
    all_s = picture.expected.moving_s(pod.memory, pod.new, made.width)
    moved = max(0.0, 1.0 - (entry.ends - now) / all_s) if all_s else 0.0
    return replace(state, moved=int(moved * pod.memory), seen=now)


@settings(max_examples=300)
@given(pictures())
def test_a_promise_is_broken_only_for_one_of_higher_rank_when_all_takes_as_long_as_planned(
    picture: Picture,
) -> None:
    # One under way that was taken for late, and can be in time after all, may cost others their turns.
    pods = [replace(pod, deadline=NOW + 1e6) if pod.under_way else pod for pod in picture.candidates]
    before: dict[str, bool] = {}
    deadlines = {pod.key: pod.deadline for pod in pods}
    for seen, made in lived_through(replace(picture, candidates=tuple(pods))):
        now = {pod.key: entry.verdict in PROMISED for pod, entry in in_rank(seen, made)}
        assert list(now.values()) >= [kept for key, kept in before.items() if key in now]
        before = now
        running = [entry for entry in made.entries if entry.verdict is Verdict.RUNNING]
        assert all(entry.ends <= deadlines[entry.key] + 1e-6 for entry in running)


@given(pictures(most_slots=1, running=False))
def test_pods_are_begun_in_the_order_in_which_they_were_promised(picture: Picture) -> None:
    story = list(lived_through(picture))
    first = [entry.key for entry in story[0][1].entries if entry.verdict in PROMISED]
    begun = [key for _, made in story for key in made.begins if verdicts(made)[key] == "next"]
    assert begun[: len(first)] == first
