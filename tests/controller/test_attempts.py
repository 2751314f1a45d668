"""Acts rest after success and failure, and never for long."""

from __future__ import annotations

import pytest

from crikpy.controller.attempts import Attempts


class Clock:
    """Time that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(clock=clock)


def rest_s(attempts: Attempts, clock: Clock) -> float:
    """Return how long an act rests from now on, to a tenth of a second."""
    began = clock.now
    while not attempts.may_begin("a"):
        clock.now += 0.1
    return round(clock.now - began, 1)


def test_what_was_never_tried_may_begin(attempts: Attempts) -> None:
    assert attempts.may_begin("a")


def test_failures_make_the_rest_longer_up_to_a_bound_and_a_success_ends_the_series(
    attempts: Attempts, clock: Clock
) -> None:
    rests = []
    for number in range(1, 8):
        assert attempts.failed("a") == number
        rests.append(rest_s(attempts, clock))
    assert rests == pytest.approx([1, 2, 4, 8, 10, 10, 10], abs=0.11)
    attempts.succeeded("a")
    assert rest_s(attempts, clock) == pytest.approx(2, abs=0.11)
    assert attempts.failed("a") == 1


def test_one_act_does_not_make_another_rest(attempts: Attempts) -> None:
    attempts.failed("a")
    assert not attempts.may_begin("a")
    assert attempts.may_begin("b")


def test_what_nobody_plans_any_more_is_forgotten_after_its_rest(attempts: Attempts, clock: Clock) -> None:
    attempts.failed("a")
    attempts.forget_except(set())
    assert not attempts.may_begin("a")
    clock.now += 1.5
    attempts.forget_except({"a"})
    assert attempts.failed("a") == 2
    clock.now += 5
    attempts.forget_except(set())
    assert attempts.failed("a") == 1
