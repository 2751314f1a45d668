"""One thing wrong with the store, at each step of a save and of a restore."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crikpy.store.checkpoints import Checkpoints
from tests.chaos.recording import Record
from tests.chaos.s3 import FOR_EVER, Fate, Trouble, What
from tests.chaos.subject import Subject

pytestmark = [pytest.mark.criu, pytest.mark.s3, pytest.mark.chaos]

_WRITES = (What.STARTED, What.CHUNK, What.MANIFEST)
_WRITING = (Fate.ERROR, Fate.SLOW_DOWN, Fate.EXPIRED, Fate.SKEWED, Fate.RESET, Fate.STALL, Fate.LOST)
_READING = (Fate.ERROR, Fate.SLOW_DOWN, Fate.EXPIRED, Fate.SKEWED, Fate.RESET, Fate.STALL, Fate.CUT)
_CHUNKS = (*_READING, Fate.FLIP, Fate.ABSENT)


def saves() -> Iterator[Trouble]:
    """Yield what can be wrong while a job is saved."""
    for times in (1, FOR_EVER):
        for fate in _WRITING:
            for what in _WRITES:
                yield Trouble(what=what, method="PUT", fate=fate, times=times)
        for fate in _READING:
            yield Trouble(what=What.LIST, method="GET", fate=fate, times=times)


def restores() -> Iterator[Trouble]:
    """Yield what can be wrong while a job is resumed."""
    for times in (1, FOR_EVER):
        for fate in _CHUNKS:
            yield Trouble(what=What.CHUNK, method="GET", fate=fate, times=times)
        for fate in _WRITING:
            yield Trouble(what=What.CLAIM, method="PUT", fate=fate, times=times)


@pytest.mark.parametrize("trouble", list(saves()), ids=str)
def test_a_job_is_saved_or_runs_on(subject: Subject, record: Record, trouble: Trouble) -> None:
    job = subject.bench.begin("memory", 24, 1)
    outcome = subject.save(job, trouble)
    assert subject.troubles.met, "it never happened"
    subject.check_saved(job, outcome)
    record("save", str(trouble), outcome)


@pytest.mark.parametrize("trouble", list(restores()), ids=str)
def test_a_job_is_resumed_or_starts_from_its_beginning(subject: Subject, record: Record, trouble: Trouble) -> None:
    job = subject.bench.begin("memory", 24, 1)
    manifest = subject.bench.save(job)
    outcome = subject.resume(manifest, trouble)
    assert subject.troubles.met, "it never happened"
    record("restore", str(trouble), outcome)


def test_a_list_of_before_the_claim_lets_nobody_resume_a_checkpoint_again(
    subject: Subject, record: Record
) -> None:
    job = subject.bench.begin("memory", 24, 1)
    manifest = subject.bench.save(job)
    seen = Checkpoints(subject.shaky, subject.bench.workload)
    assert seen.newest_resumable() == manifest
    resumed = subject.bench.resume(manifest)
    assert seen.newest_resumable() is None
    old = Trouble(what=What.LIST, method="GET", fate=Fate.OLD, times=FOR_EVER)
    subject.troubles.begin(old)
    try:
        assert seen.newest_resumable() == manifest
        subject.check_used_up(manifest)
    finally:
        subject.troubles.end()
    resumed.prove()
    assert resumed.finish() == 0
    record("restore", "the store lists what was there before the claim", "refused: nobody resumes it again")


def test_a_list_of_before_the_last_checkpoint_only_has_more_stored(subject: Subject, record: Record) -> None:
    job = subject.bench.begin("memory", 24, 1)
    seen = Checkpoints(subject.shaky, subject.bench.workload)
    assert seen.newest_resumable() is None
    manifest = subject.bench.save(job)
    resumed = subject.bench.resume(manifest)
    outcome = subject.save(resumed, Trouble(what=What.LIST, method="GET", fate=Fate.OLD, times=FOR_EVER))
    assert subject.troubles.met, "it never happened"
    subject.check_saved(resumed, outcome)
    record("save", "the store lists what was there before the last checkpoint", outcome)
