"""What is learnt from dumps: rates, overheads, what several do to each other, and how much of a pod is new."""

from __future__ import annotations

import os
import shlex
import sys
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.agent.measuring import Crowd, Meter, Sample
from crikpy.agent.sessions import CapsuleSession, PodSession
from crikpy.agent.sizing import Past, Sizes, estimate, held_bytes
from crikpy.metrics import Metrics
from crikpy.model import manifest
from crikpy.model.pods import Pod, PodOptions
from crikpy.model.saving import Mode, SaveOptions
from crikpy.settings import MIB
from tests.capsule.namespaces import inside, until

GIB = 1024 * MIB
ASSUMED = 256 * MIB


def a_meter(*samples: Sample) -> Meter:
    """Return a meter that has learnt from these dumps."""
    meter = Meter(ASSUMED, Metrics())
    for sample in samples:
        meter.learn(sample)
    return meter


def a_dump(
    gib: float, new: float, seconds: float, *, crowd: float = 1.0, overhead_s: float = 1.0, leisurely: bool = False
) -> Sample:
    """Return a dump of so many GiB."""
    return Sample(
        memory=int(gib * GIB),
        new=int(new * GIB),
        total_s=seconds + overhead_s,
        moving_s=seconds,
        crowd=crowd,
        leisurely=leisurely,
    )


def test_as_long_as_nothing_was_saved_an_assumption_stands_in_and_far_more_is_thought_possible() -> None:
    meter = a_meter()
    assert (meter.expected().read, meter.expected().write) == (ASSUMED, ASSUMED)
    assert meter.best().read >= 8 * ASSUMED
    assert meter.exploring


def test_a_small_dump_says_what_each_costs_and_nothing_of_rates() -> None:
    meter = a_meter(Sample(memory=MIB, new=MIB, total_s=0.8, moving_s=0.5))
    assert meter.expected().overhead_s == 0.8
    assert meter.expected().read == ASSUMED


def test_what_was_all_new_says_how_fast_is_written_and_only_that_reading_is_not_slower() -> None:
    meter = a_meter(a_dump(10, 10, 10.0))
    assert (meter.expected().read, meter.expected().write) == (GIB, GIB)
    assert meter.best().read >= 2 * GIB
    assert meter.best().write == 1.5 * GIB
    meter.learn(a_dump(10, 0.5, 2.0))
    assert (meter.expected().read, meter.expected().write) == (5 * GIB, GIB)
    assert meter.best().read == 7.5 * GIB


def test_what_was_stored_at_leisure_says_only_that_neither_is_slower() -> None:
    meter = a_meter(a_dump(10, 10, 20.0, leisurely=True))
    assert (meter.expected().read, meter.expected().write) == (GIB / 2, GIB / 2)
    assert meter.best().read >= 2 * GIB
    assert meter.best().write >= 2 * GIB
    meter.learn(a_dump(10, 10, 10.0))
    assert (meter.expected().read, meter.expected().write) == (GIB, GIB)
    assert meter.best().write == 1.5 * GIB
    meter.learn(a_dump(10, 10, 50.0, leisurely=True))
    assert (meter.expected().read, meter.expected().write) == (GIB, GIB)


def test_one_of_which_little_was_new_says_nothing_of_writing() -> None:
    meter = a_meter(a_dump(10, 0.1, 2.0))
    assert meter.expected().read == 5 * GIB
    assert meter.expected().write == ASSUMED


def test_the_newest_dumps_count_most() -> None:
    meter = a_meter(a_dump(10, 10, 10.0), *[a_dump(10, 10, 20.0)] * 6)
    assert meter.expected().write == pytest.approx(GIB / 2, rel=0.05)
    assert meter.expected().overhead_s == 1.0


@pytest.mark.parametrize(("seconds", "several"), [(20.0, 1.0), (10.0, 2.0), (5.0, 2.0)])
def test_several_at_once_say_how_many_the_node_bears(seconds: float, several: float) -> None:
    meter = a_meter(a_dump(10, 0, 10.0), a_dump(10, 0, seconds, crowd=2.0))
    assert meter.expected().several == pytest.approx(several)
    assert meter.expected().read == GIB
    assert not meter.exploring


def test_one_under_way_counts_until_one_is_complete() -> None:
    meter = a_meter()
    meter.glimpse(32 * MIB, 1.0)
    assert meter.expected().read == ASSUMED
    meter.glimpse(GIB, 2.0)
    assert (meter.expected().read, meter.expected().write) == (GIB / 2, GIB / 2)
    meter.learn(a_dump(10, 10, 10.0))
    assert meter.expected().read == GIB


def test_the_metrics_say_what_was_measured() -> None:
    metrics = Metrics()
    Meter(ASSUMED, metrics).learn(a_dump(10, 10, 10.0))
    for path in ("read", "write"):
        assert metrics.registry.get_sample_value("crikpy_dump_throughput_bytes_per_second", {"path": path}) == GIB


@given(
    st.lists(
        st.builds(
            Sample,
            memory=st.integers(0, 100 * GIB),
            new=st.integers(0, 100 * GIB),
            total_s=st.floats(0.1, 1000.0),
            moving_s=st.floats(0.0, 1000.0),
            crowd=st.floats(1.0, 4.0),
        ),
        max_size=8,
    )
)
def test_whatever_was_seen_the_rates_can_be_planned_with(samples: list[Sample]) -> None:
    meter = a_meter(*samples)
    expected, best = meter.expected(), meter.best()
    assert best.read >= expected.read > 0
    assert best.write >= expected.write > 0
    assert expected.overhead_s >= best.overhead_s >= 0
    assert expected.several >= 1


def test_a_crowd_is_counted_over_the_time_of_each() -> None:
    now = 0.0
    crowd = Crowd(lambda: now)
    first = crowd.enter()
    now = 4.0
    second = crowd.enter()
    now = 6.0
    assert crowd.leave(second) == 2.0
    now = 8.0
    assert crowd.leave(first) == 1.25
    assert crowd.leave(crowd.enter()) == 1.0


# How much there is.


def a_past(*, gib: float = 10.0, new: float = 2.0, held: float = 9.0, since_s: float | None = 600.0) -> Past:
    """Return a checkpoint made at second 1000."""
    return Past(
        completed=datetime.now(UTC),
        at=1000.0,
        memory=int(gib * GIB),
        new=int(new * GIB),
        held=int(held * GIB),
        since_s=since_s,
    )


def test_without_a_past_all_may_be_new_or_nothing() -> None:
    size = estimate(5 * GIB, None, 1000.0)
    assert (size.memory, size.new, size.least_new) == (5 * GIB, 5 * GIB, 0)
    assert estimate(None, None, 1000.0).memory > 0


def test_files_that_travelled_the_last_time_are_expected_to_do_so_again() -> None:
    assert estimate(12 * GIB, a_past(), 1600.0).memory == 13 * GIB
    assert estimate(None, a_past(), 1600.0).memory == 10 * GIB


def test_what_was_new_is_so_again_and_more_of_it_after_a_longer_time_but_never_more_than_there_is() -> None:
    soon, later, late = (estimate(9 * GIB, a_past(), at) for at in (1300.0, 2200.0, 1e6))
    assert (soon.new, soon.least_new) == (2 * GIB, GIB)
    assert (later.new, later.least_new) == (4 * GIB, 4 * GIB)
    assert (late.new, late.least_new) == (late.memory, late.memory)
    first = estimate(9 * GIB, a_past(since_s=None), 1300.0)
    assert (first.new, first.least_new) == (10 * GIB, 0)


def test_a_checkpoint_is_remembered_by_its_parts_and_the_time_since_the_one_before() -> None:
    sizes = Sizes()
    parts = [
        manifest.Sizes(image_bytes=100, zero_bytes=10, reused_bytes=20, stored_bytes=9, chunks=1),
        manifest.Sizes(image_bytes=50, zero_bytes=0, reused_bytes=50, stored_bytes=0, chunks=0),
    ]
    first = sizes.remember("uid", parts)
    assert (first.memory, first.new, first.since_s) == (150, 70, None)
    assert sizes.remember("uid", parts).since_s is not None
    assert sizes.last("other") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make namespaces")
async def test_of_a_job_that_saves_itself_its_memory_says_nothing() -> None:
    def session(mode: Mode) -> PodSession:
        pod = Pod(namespace="n", name="p", uid="u", options=PodOptions(saving=SaveOptions(mode=mode)))
        made = PodSession("u", {"u": pod})
        made.capsules["main"] = cast("CapsuleSession", SimpleNamespace(launcher_pid=os.getpid()))
        return made

    sizes = Sizes()
    by_criu, by_itself = await sizes.of(session(Mode.PROCESS)), await sizes.of(session(Mode.APPLICATION))
    assert by_itself == estimate(None, None, 0.0) != by_criu
    sizes.remember("u", [manifest.Sizes(image_bytes=7, zero_bytes=0, reused_bytes=0, stored_bytes=7, chunks=1)])
    assert (await sizes.of(session(Mode.APPLICATION))).memory == 7


def test_what_jobs_hold_is_counted_without_their_launcher_and_what_they_share_once() -> None:
    program = (
        "import mmap, os; own = b'x' * (40 << 20);"
        "shared = mmap.mmap(-1, 60 << 20);"
        "[shared.write(b'y' * (1 << 20)) for _ in range(60)];"  # without a copy, which would count for a moment
        "os.fork() or [shared[at] for at in range(0, 60 << 20, 4096)]; __import__('signal').pause()"
    )
    with inside(f"{sys.executable} -c {shlex.quote(program)} &") as init:
        until(lambda: (held_bytes([init]) or 0) >= 140 * MIB, "the memory of the jobs")
        held = held_bytes([init])
    assert held is not None
    # The child counts what it still shares with its parent since the fork, but not the shared mapping again.
    assert 140 * MIB <= held < 200 * MIB
    assert held_bytes([init]) is None
    assert held_bytes([]) is None
