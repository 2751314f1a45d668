"""Trying again: only what says that it may help, only until the deadline, and the last error is told."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from crikpy.aio import retrying
from crikpy.aio.clock import Deadline
from crikpy.errors import IntegrityError, MetadataError, StoreForbiddenError, StoreUnavailableError

LONG = Deadline.after(86_400)


class Act:
    """Fails in the given ways, one after the other, then succeeds.

    Attributes:
        attempts: how often it was tried.
    """

    def __init__(self, faults: Iterable[Exception]) -> None:
        self._faults = list(faults)
        self.attempts = 0

    def __call__(self) -> str:
        self.attempts += 1
        if self._faults:
            raise self._faults.pop(0)
        return "done"


def test_what_succeeds_is_done_once() -> None:
    act = Act([])
    assert retrying.call(act, deadline=LONG) == "done"
    assert act.attempts == 1


def test_what_may_pass_is_tried_until_it_succeeds() -> None:
    act = Act([StoreUnavailableError("busy"), MetadataError("silent"), StoreUnavailableError("busy")])
    assert retrying.call(act, deadline=LONG, first_wait_s=0.001) == "done"
    assert act.attempts == 4


@pytest.mark.parametrize(
    "fault", [IntegrityError("flipped"), StoreForbiddenError("no"), OSError("x"), ValueError()]
)
def test_what_fails_for_good_is_not_tried_again(fault: Exception) -> None:
    act = Act([fault])
    with pytest.raises(type(fault)) as caught:
        retrying.call(act, deadline=LONG)
    assert caught.value is fault
    assert act.attempts == 1


def test_a_failure_for_good_ends_the_attempts_midway() -> None:
    act = Act([StoreUnavailableError("busy"), IntegrityError("flipped"), StoreUnavailableError("busy")])
    with pytest.raises(IntegrityError):
        retrying.call(act, deadline=LONG, first_wait_s=0.001)
    assert act.attempts == 2


def test_at_the_deadline_the_last_error_is_raised() -> None:
    faults = [StoreUnavailableError(str(number)) for number in range(10_000)]
    act = Act(faults)
    with pytest.raises(StoreUnavailableError) as caught:
        retrying.call(act, deadline=Deadline.after(0.2), first_wait_s=0.01, longest_wait_s=0.02)
    assert act.attempts > 1
    assert caught.value is faults[act.attempts - 1]


def test_nobody_waits_for_an_attempt_that_would_come_too_late() -> None:
    act = Act([StoreUnavailableError("busy")])
    with pytest.raises(StoreUnavailableError):
        retrying.call(act, deadline=Deadline.after(60), first_wait_s=3600, longest_wait_s=7200)
    assert act.attempts == 1


def test_one_attempt_is_made_even_after_the_deadline() -> None:
    assert retrying.call(Act([]), deadline=Deadline.after(0)) == "done"
