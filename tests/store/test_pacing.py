"""Uploads keep to a bandwidth, whoever sends them."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.aio.clock import Deadline
from crikpy.errors import DeadlineError
from crikpy.store.pacing import Pace


@given(
    rate=st.integers(1, 10**9),
    asked=st.lists(st.tuples(st.integers(0, 10**8), st.floats(0, 1e3)), min_size=1, max_size=50),
)
def test_what_was_let_through_never_exceeds_the_bandwidth(rate: int, asked: list[tuple[int, float]]) -> None:
    pace, now, sent, began = Pace(rate), 0.0, 0, 0.0
    for count, later in asked:
        now += later
        turn = pace.reserve(count, now)
        assert turn >= now
        if turn > now:
            # It waited, so that since the last pause exactly the bandwidth was used.
            assert sent == pytest.approx((turn - began) * rate, rel=1e-6, abs=1)
        else:
            began, sent = now, 0
        sent += count


def test_without_a_bound_nobody_waits() -> None:
    pace = Pace(0)
    pace.wait(10**12, Deadline.after(0))
    pace.wait(10**12, Deadline.after(0))


def test_a_turn_after_the_deadline_is_an_error_at_once() -> None:
    pace = Pace(1)
    pace.wait(10**6, Deadline.after(60))
    with pytest.raises(DeadlineError, match="CRIKPY_STORE_UPLOAD_BYTES_PER_S"):
        pace.wait(1, Deadline.after(60))


def test_a_bound_that_is_lifted_holds_nobody_up_any_more() -> None:
    pace = Pace(1)
    pace.wait(10**6, Deadline.after(60))
    waiting = threading.Thread(target=pace.wait, args=(1, Deadline.after(10**7)))
    waiting.start()
    pace.lift()
    waiting.join(timeout=30)
    assert not waiting.is_alive()
    pace.wait(10**12, Deadline.after(0))


def nice_of_this_thread() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_threads_come_after_others_from_when_it_eases_until_it_is_lifted() -> None:
    usual = nice_of_this_thread()
    pace = Pace(0, nice=usual + 7)
    seen: list[int] = []

    def work() -> None:
        pace.settle()
        seen.append(nice_of_this_thread())
        for change in (pace.ease, pace.lift):
            change()
            pace.settle()
            seen.append(nice_of_this_thread())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [usual, usual + 7, usual]
    assert nice_of_this_thread() == usual


def test_whoever_was_started_with_less_priority_never_gets_more() -> None:
    seen: list[int] = []

    def work() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
        pace = Pace(0, nice=1)
        for change in (pace.settle, pace.ease, pace.settle, pace.lift, pace.settle):
            change()
            seen.append(nice_of_this_thread())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert set(seen) == {5}


def test_what_is_only_nice_waits_for_nothing() -> None:
    pace = Pace(0, nice=7)
    pace.wait(1 << 40, Deadline.after(0))


def test_without_any_bound_priorities_stay_as_they_are() -> None:
    pace = Pace(0)
    pace.ease()
    before = nice_of_this_thread()
    pace.settle()
    assert nice_of_this_thread() == before
