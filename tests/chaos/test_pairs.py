"""Two things wrong at once, chosen by chance; the seed is in the test's name, and brings the same again."""

from __future__ import annotations

import os
import random

import pytest

from tests.chaos.recording import Record
from tests.chaos.s3 import FOR_EVER, Fate, Trouble, What
from tests.chaos.subject import Subject
from tests.integration.moving import Story

pytestmark = [pytest.mark.criu, pytest.mark.s3, pytest.mark.chaos]

SEEDS = range(*map(int, os.environ.get("CRIKPY_CHAOS_SEEDS", "0:8").split(":")))
_SAVING = (
    *((what, "PUT") for what in (What.STARTED, What.CHUNK, What.CHUNK, What.MANIFEST, What.QUARANTINE)),
    (What.LIST, "GET"),
    (What.STARTED, "DELETE"),
)
_RESTORING = ((What.CHUNK, "GET"), (What.CHUNK, "GET"), (What.CLAIM, "PUT"), (What.QUARANTINE, "PUT"))


def _may_be(fate: Fate, what: What, method: str) -> bool:
    if fate is Fate.OLD:
        return what is What.LIST
    return method == "GET" or fate not in {Fate.CUT, Fate.FLIP, Fate.ABSENT}


def trouble(chance: random.Random, among: tuple[tuple[What, str], ...]) -> Trouble:
    """Return something that can go wrong."""
    what, method = chance.choice(among)
    fates = [fate for fate in Fate if _may_be(fate, what, method)]
    return Trouble(
        what=what,
        method=method,
        fate=chance.choice(fates),
        first=chance.choice([0, 0, 1, 2, 3]),
        times=chance.choice([1, 2, 4, FOR_EVER]),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_job_is_saved_or_runs_on(subject: Subject, record: Record, seed: int) -> None:
    chance = random.Random(seed)
    troubles = [trouble(chance, _SAVING), trouble(chance, _SAVING)]
    job = subject.bench.begin("memory", 40, 1)
    outcome = subject.save(job, *troubles, story=Story(), within_s=chance.uniform(1, 6))
    subject.check_saved(job, outcome)
    record("save", f"{troubles[0]}; {troubles[1]}", outcome)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_job_is_resumed_or_starts_from_its_beginning(subject: Subject, record: Record, seed: int) -> None:
    chance = random.Random(-1 - seed)
    troubles = [trouble(chance, _RESTORING), trouble(chance, _RESTORING)]
    job = subject.bench.begin("memory", 40, 1)
    manifest = subject.bench.save(job)
    outcome = subject.resume(manifest, *troubles, within_s=chance.uniform(1, 6))
    record("restore", f"{troubles[0]}; {troubles[1]}", outcome)
