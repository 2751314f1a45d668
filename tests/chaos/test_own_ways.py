"""The job does something of its own while it is saved: it ends, becomes another program, forks wildly."""

from __future__ import annotations

import random
import threading

import pytest

from crikpy.errors import CapsuleError
from crikpy.store.records import Claim
from tests.chaos.moments import at, save
from tests.chaos.recording import Record
from tests.chaos.subject import SAVED, Subject
from tests.integration.capsules import JobCapsule, until
from tests.integration.moving import Bench, Story
from tests.integration.stores import WatchedStore
from tests.jobs import proving

pytestmark = [pytest.mark.criu, pytest.mark.chaos]

_STATUS = 4


def end(job: JobCapsule) -> None:
    """Have the job end by itself, and wait for that; its launcher is held."""
    job.signal(proving.FINISH)
    until(lambda: not job.members(), "the job's end")


def test_when_the_job_ends_just_before_it_would_be_stopped(plain_bench: Bench, record: Record) -> None:
    job = plain_bench.begin("ending", _STATUS)
    story, store = at(plain_bench, "started", lambda: end(job))
    outcome = save(plain_bench, job, story, store)
    assert outcome == CapsuleError.__name__
    assert "frozen" not in story.events
    assert job.wait() == _STATUS
    assert plain_bench.checkpoints.list() == [], "an announcement was left"
    record("save", "the job ends by itself (before it is stopped)", f"ended as it would have: `{outcome}`")


@pytest.mark.parametrize("moment", ["thawed", "streamed", "manifest", "committed"])
def test_when_the_job_ends_while_it_is_stored(plain_bench: Bench, record: Record, moment: str) -> None:
    job = plain_bench.begin("ending", _STATUS)
    story, store = at(plain_bench, moment, lambda: end(job))
    assert save(plain_bench, job, story, store, leave_running=True) == SAVED
    assert job.wait() == _STATUS
    # Whoever attends a job does this at its end (flows/running.py, agent/finishing.py).
    plain_bench.checkpoints.retire(Claim.ours())
    assert plain_bench.checkpoints.newest_resumable() is None
    record(
        "save",
        f"the job ends by itself while it is stored ({moment})",
        "ended as it would have, and nobody resumes it",
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("program", "words"),
    [("changing", "the job becomes another program all the time"), ("storm", "the job forks wildly")],
)
def test_when_the_job_never_holds_still(
    plain_bench: Bench, local: Subject, record: Record, program: str, words: str, seed: int
) -> None:
    job = plain_bench.begin(program)
    threading.Event().wait(random.Random(seed).uniform(0, 0.2))
    outcome = save(plain_bench, job, Story(), WatchedStore(plain_bench.store))
    local.check_saved(job, outcome)
    record("save", words, outcome)


@pytest.mark.parametrize(
    ("program", "words"),
    [("changing", "the job becomes another program"), ("storm", "the job forks wildly")],
)
def test_when_the_job_never_holds_still_while_it_is_stored(
    plain_bench: Bench, local: Subject, record: Record, program: str, words: str
) -> None:
    job = plain_bench.begin(program)
    # Each proof is of a job that has gone on since the last one.
    manifest = plain_bench.save(
        job, Story(thawed=job.prove, streamed=job.prove, committed=job.prove), leave_running=True
    )
    assert job.finish() == 0
    resumed = plain_bench.resume(manifest)
    resumed.prove()
    local.check_used_up(manifest)
    assert resumed.finish() == 0
    record("save", f"{words} while it is stored", "saved, and runs on")
