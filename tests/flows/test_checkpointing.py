"""A job is saved by its name only as long as that is its own, from the first look until after the commit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from crikpy import names
from crikpy.errors import JobRunningError, StoreError
from crikpy.flows.checkpointing import unless_taken_over
from crikpy.model.manifest import Manifest
from crikpy.model.workload import Workload
from crikpy.store.leases import Lease
from crikpy.store.local import LocalStore
from crikpy.store.records import Claim
from tests.store.images import manifest_of

_TTL_S = 600.0
_GROUP, _PART = names.PLAIN_GROUP
JOB = Workload(cluster=_GROUP, namespace=_PART, name="train")
MANIFEST = manifest_of(JOB, "20250131T120000Z-00000000")


class Place:
    """A store, a name in it that was taken and let go, and what is called at the commit."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.root = root
        self.store = LocalStore(root)
        self.ours = Claim.ours()
        self.marked: list[Manifest] = []
        self.take(self.ours)

    def take(self, claim: Claim) -> None:
        """Take the name, and give it back."""
        Lease.acquire(self.store, JOB, claim, _TTL_S).release()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A name that was ours last."""
    return Place(tmp_path / "store")


def test_a_name_that_nobody_has_taken_since_is_marked(place: Place) -> None:
    committed = unless_taken_over(place.store, JOB, place.ours.token, place.marked.append)
    committed(MANIFEST)
    assert place.marked == [MANIFEST]


def test_a_name_that_another_has_taken_is_not_saved_by(place: Place) -> None:
    place.take(Claim.ours())
    with pytest.raises(JobRunningError):
        unless_taken_over(place.store, JOB, place.ours.token, place.marked.append)


def test_one_that_is_taken_during_the_save_undoes_the_commit(place: Place) -> None:
    committed = unless_taken_over(place.store, JOB, place.ours.token, place.marked.append)
    place.take(Claim.ours())
    with pytest.raises(JobRunningError):
        committed(MANIFEST)
    assert place.marked == []


def test_a_store_that_goes_away_after_the_commit_undoes_nothing(place: Place) -> None:
    committed = unless_taken_over(place.store, JOB, place.ours.token, place.marked.append)
    shutil.rmtree(place.root)
    committed(MANIFEST)
    assert place.marked == [MANIFEST]


def test_a_store_that_does_not_tell_before_is_an_error(place: Place) -> None:
    shutil.rmtree(place.root)
    with pytest.raises(StoreError):
        unless_taken_over(place.store, JOB, place.ours.token, place.marked.append)
