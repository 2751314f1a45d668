"""What nobody comes back to goes after a while; what somebody may resume, or lean on, stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.expiring import Expired, Terms, expired, remove_expired
from crikpy.store.layout import new_checkpoint_id
from crikpy.store.records import FINISHED, RESUMED, CheckpointSummary, Claim, Quarantine
from tests.store.images import manifest_of

NOW = datetime(2025, 3, 31, 12, tzinfo=UTC)
TERMS = Terms(used=timedelta(days=1), quarantined=timedelta(days=7), resumable=timedelta(days=30))


def ago(**age: float) -> datetime:
    return NOW - timedelta(**age)


def text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def taken(moment: datetime) -> CheckpointSummary:
    """Return a checkpoint that was taken then."""
    return CheckpointSummary(id=new_checkpoint_id(moment), complete=True, created=text(moment))


def resumed(summary: CheckpointSummary, moment: datetime, *, finished: bool = False) -> CheckpointSummary:
    outcome = FINISHED if finished else RESUMED
    return replace(summary, claim=replace(Claim.ours(), time=text(moment), outcome=outcome))


def quarantined(summary: CheckpointSummary, moment: datetime) -> CheckpointSummary:
    return replace(summary, quarantine=Quarantine(reason="damaged", time=text(moment)))


def gone(*newest_first: CheckpointSummary, terms: Terms = TERMS) -> list[str]:
    return [each.checkpoint for each in expired(newest_first, terms, NOW)]


def test_what_was_resumed_goes_a_day_later_but_for_the_newest() -> None:
    newest = resumed(taken(ago(days=3)), ago(days=2))
    old, fresh = resumed(taken(ago(days=4)), ago(days=2)), resumed(taken(ago(days=5)), ago(hours=2))
    assert gone(newest, old, fresh) == [old.id]


def test_what_a_finished_job_has_left_goes_altogether() -> None:
    newest = resumed(taken(ago(days=3)), ago(days=2), finished=True)
    assert gone(newest) == [newest.id]


def test_what_somebody_may_resume_stays_for_its_time() -> None:
    young, old = taken(ago(days=29)), taken(ago(days=31))
    assert gone(young, old) == [old.id]
    assert gone(young, old, terms=replace(TERMS, resumable=None)) == []


def test_a_quarantine_can_be_looked_into_for_a_week() -> None:
    young, old = quarantined(taken(ago(days=50)), ago(days=6)), quarantined(taken(ago(days=50)), ago(days=8))
    assert gone(young, old) == [old.id]


def test_what_cannot_be_judged_stays() -> None:
    damaged = replace(taken(ago(days=99)), fault="damaged")
    incomplete = replace(taken(ago(days=99)), complete=False)
    senseless = replace(taken(ago(days=99)), quarantine=Quarantine(reason="why", time="yesterday"))
    naive = replace(taken(ago(days=99)), quarantine=Quarantine(reason="why", time="2025-01-01T00:00:00"))
    assert gone(damaged, incomplete, senseless, naive) == []


@pytest.fixture
def checkpoints(local_store: ObjectStore, workload: Workload) -> Checkpoints:
    local_store.check()
    return Checkpoints(local_store, workload)


def test_what_is_removed_is_gone(checkpoints: Checkpoints) -> None:
    identity = new_checkpoint_id(ago(days=31))
    checkpoints.commit(manifest_of(checkpoints.workload, identity))
    doomed = list(expired(checkpoints.list(), TERMS, NOW))
    assert [each.checkpoint for each in remove_expired(checkpoints, doomed)] == [identity]
    assert checkpoints.list() == []


def test_what_somebody_resumes_in_the_last_moment_stays(checkpoints: Checkpoints) -> None:
    identity = new_checkpoint_id(ago(days=31))
    checkpoints.commit(manifest_of(checkpoints.workload, identity))
    doomed = list(expired(checkpoints.list(), TERMS, NOW))
    assert doomed == [Expired(checkpoint=identity, why=doomed[0].why, claimed=False)]
    checkpoints.claim(identity, Claim.ours())
    assert remove_expired(checkpoints, doomed) == []
    assert checkpoints.complete() == {identity}
