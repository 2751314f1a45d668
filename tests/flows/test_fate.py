"""What becomes of jobs once they are read: kept, let run on, overtaken, in any order of the two threads."""

from __future__ import annotations

import pytest

from crikpy.aio.clock import Deadline
from crikpy.errors import CapsuleError
from crikpy.flows.fate import Fate


@pytest.fixture
def given_up() -> list[str]:
    return []


def test_jobs_that_were_to_run_on_are_kept_as_long_as_nobody_has_asked(given_up: list[str]) -> None:
    fate = Fate(leave_running=True)
    assert fate.keep()
    assert not fate.opens(given_up.append)


def test_jobs_that_run_on_are_not_kept(given_up: list[str]) -> None:
    fate = Fate(leave_running=True)
    assert fate.opens(given_up.append)
    assert fate.running_on
    assert not fate.keep()


def test_another_attempt_decides_anew(given_up: list[str]) -> None:
    fate = Fate(leave_running=True)
    assert fate.opens(given_up.append)
    fate.begin()
    assert not fate.running_on
    assert fate.keep()
    assert not fate.opens(given_up.append)


def test_giving_way_gives_up_the_attempt_that_stores_and_not_one_before_it(given_up: list[str]) -> None:
    fate = Fate(leave_running=True)
    fate.opens(lambda _: pytest.fail("that attempt has ended"))
    fate.begin()
    fate.give_way()
    assert not given_up
    fate.opens(given_up.append)
    assert len(given_up) == 1


def test_an_overtaken_dump_does_not_try_again(given_up: list[str]) -> None:
    fate = Fate(leave_running=True)
    fate.opens(given_up.append)
    fate.overtake()
    with pytest.raises(CapsuleError, match="gave way"):
        fate.begin()


def test_jobs_that_stand_still_are_never_given_up_by_giving_way(given_up: list[str]) -> None:
    fate = Fate(leave_running=False)
    fate.opens(given_up.append)
    fate.give_way()
    assert not given_up


def test_each_attempt_is_paced_as_its_jobs_then_deserve() -> None:
    fate = Fate(leave_running=True)
    first = fate.paced(1, nice=10)
    fate.keep()
    first.wait(1 << 30, Deadline.after(60))  # lifted: no bound holds it up
    fate.paced(1, nice=10).wait(1 << 30, Deadline.after(60))
