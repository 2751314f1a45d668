"""Deadlines: absolute, never negative, and named when they have passed."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.aio.clock import Deadline
from crikpy.errors import DeadlineError

PAST = Deadline(time.monotonic() - 1)
FAR = Deadline(time.monotonic() + 10_000)


def test_a_deadline_ahead_leaves_time() -> None:
    deadline = Deadline.after(1000)
    assert 0 < deadline.remaining() <= 1000
    assert not deadline.expired()
    deadline.check("waiting")


def test_a_deadline_behind_leaves_none() -> None:
    assert PAST.remaining() == 0
    assert PAST.expired()


def test_no_time_at_all_has_passed_at_once() -> None:
    assert Deadline.after(0).expired()


def test_a_passed_deadline_names_what_was_being_done() -> None:
    with pytest.raises(DeadlineError, match="out of time while counting sheep"):
        PAST.check("counting sheep")


def test_the_earlier_of_two_is_taken() -> None:
    assert FAR.earlier(100_000) == FAR
    assert FAR.earlier(10).at < FAR.at
    assert PAST.earlier(10) == PAST


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-7))])
def test_a_wall_clock_time_becomes_the_same_point(zone: timezone) -> None:
    deadline = Deadline.from_datetime(datetime.now(zone) + timedelta(seconds=1000))
    assert 0 < deadline.remaining() <= 1000


def test_a_wall_clock_time_that_has_passed_is_a_passed_deadline() -> None:
    assert Deadline.from_datetime(datetime(2020, 1, 1, tzinfo=UTC)).expired()


def test_a_wall_clock_time_without_a_zone_is_refused() -> None:
    with pytest.raises(TypeError):
        Deadline.from_datetime(datetime(2030, 1, 1))  # noqa: DTZ001 - what the test is about


@given(at=st.floats(allow_nan=False))
def test_what_remains_is_never_negative_and_is_nothing_once_expired(at: float) -> None:
    deadline = Deadline(at)
    assert deadline.remaining() >= 0
    if deadline.expired():
        assert deadline.remaining() == 0
