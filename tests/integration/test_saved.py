"""Saved jobs stand still until somebody decides; they end when they have to, and run on when nobody does."""

from __future__ import annotations

import os
import signal
import threading

import psutil
import pytest

from crikpy.aio.clock import Deadline
from crikpy.model.capsule import JobPhase
from tests.integration.moving import Story
from tests.integration.pods import Pod

pytestmark = pytest.mark.criu

_STOPPED = {psutil.STATUS_STOPPED}


def test_left_without_a_decision_they_run_on(jobs: Pod) -> None:
    story = Story()
    with jobs.save(story):
        assert jobs.states() == _STOPPED
    assert story.events[-1] == "running-on"
    jobs.prove()
    assert jobs.found()[0].resumable
    assert jobs.phases() == [JobPhase.RUNNING, JobPhase.RUNNING]
    assert jobs.finish() == [0, 0]


def test_a_sigterm_asks_for_the_end_and_is_done_with_then(jobs: Pod) -> None:
    with jobs.save() as saved:
        assert not saved.wait_term(Deadline.after(0.1))
        jobs.capsules[1].signal(signal.SIGTERM)
        assert saved.wait_term(Deadline.after(20))
        assert saved.wait_term(Deadline.after(20))
        saved.end()
    assert [capsule.wait() for capsule in jobs.capsules] == [75, 75]
    assert jobs.found()[0].resumable


def test_a_sigterm_that_comes_while_they_are_saved_is_not_forgotten(jobs: Pod) -> None:
    story = Story(streamed=lambda: jobs.capsules[0].signal(signal.SIGTERM))
    with jobs.save(story) as saved:
        assert saved.wait_term(Deadline.after(20))
        saved.end()
    assert [capsule.wait() for capsule in jobs.capsules] == [75, 75]


def test_one_that_was_killed_asks_for_the_end_of_the_others(jobs: Pod) -> None:
    with jobs.save() as saved:
        os.kill(jobs.capsules[0].launcher_pid, signal.SIGKILL)
        assert saved.wait_term(Deadline.after(20))
        saved.end()
    assert jobs.capsules[0].wait() != 75
    assert jobs.capsules[1].wait() == 75


def test_one_whose_job_was_killed_asks_for_the_end_of_the_others(jobs: Pod) -> None:
    with jobs.save() as saved:
        for pid in jobs.capsules[1].members():
            os.kill(pid, signal.SIGKILL)
        assert saved.wait_term(Deadline.after(20))
        saved.end()
    assert [capsule.wait() for capsule in jobs.capsules] == [75, 75]


def test_a_decision_ends_the_waiting_of_another_thread(jobs: Pod) -> None:
    answers: list[bool] = []
    saved = jobs.save()
    waiter = threading.Thread(target=lambda: answers.append(saved.wait_term(Deadline.after(3600))), daemon=True)
    waiter.start()
    saved.run_on()
    waiter.join(20)
    assert answers == [False]
    saved.end()
    assert jobs.phases() == [JobPhase.RUNNING, JobPhase.RUNNING], "the first decision stands"
    jobs.prove()
