"""A checkpoint that its owner wants gone goes from everywhere, and never from under somebody who resumes it."""

from __future__ import annotations

import pytest

from crikpy.errors import CheckpointClaimedError, StoreUnavailableError
from crikpy.flows.discarding import discard
from crikpy.flows.gathering import find_together
from crikpy.store.base import ForwardingStore, ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.layout import chunks_prefix
from crikpy.store.records import Claim
from tests.flows.test_gathering import BOTH, NEW, OLD, A, B, commit, ids, store

__all__ = ["store"]


def chunks(store: ObjectStore) -> int:
    return sum(1 for workload in BOTH for _ in store.list(chunks_prefix(workload)))


def test_it_goes_from_all_of_its_workloads_with_the_chunks_that_only_it_needed(store: ObjectStore) -> None:
    commit(store, OLD, seed=1)
    kept = chunks(store)
    commit(store, NEW, seed=2)
    assert chunks(store) > kept
    discard(store, A, NEW, Claim.ours(), settled=False)
    assert ids(store, A) == ids(store, B) == [OLD]
    assert chunks(store) == kept
    discard(store, A, NEW, Claim.ours(), settled=False)
    assert [one.checkpoint for one in find_together(store, BOTH)] == [OLD]


def test_nothing_of_it_is_touched_while_somebody_may_be_resuming_it(store: ObjectStore) -> None:
    commit(store, NEW, seed=1)
    Checkpoints(store, A).claim(NEW, Claim.ours())
    before = sorted(info.key for info in store.list(""))
    with pytest.raises(CheckpointClaimedError):
        discard(store, A, NEW, Claim.ours(), settled=False)
    assert sorted(info.key for info in store.list("")) == before
    discard(store, A, NEW, Claim.ours(), settled=True)
    assert ids(store, A) == []
    assert chunks(store) == 0


def test_what_a_finished_job_has_left_can_go(store: ObjectStore) -> None:
    commit(store, NEW)
    Checkpoints(store, A).claim(NEW, Claim.ours().finished())
    discard(store, A, NEW, Claim.ours(), settled=False)
    assert ids(store, A) == ids(store, B) == []


class Failing(ForwardingStore):
    """A store of which every so many deletions fails."""

    def __init__(self, inner: ObjectStore, fails_at: int) -> None:
        super().__init__(inner)
        self.left = fails_at

    def delete(self, key: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise StoreUnavailableError("away for a moment")
        super().delete(key)


@pytest.mark.parametrize("fails_at", range(1, 9))
def test_wherever_it_breaks_off_nobody_resumes_the_rest_and_the_next_attempt_ends_it(
    store: ObjectStore, fails_at: int
) -> None:
    commit(store, NEW, seed=1)
    try:
        discard(Failing(store, fails_at), A, NEW, Claim.ours(), settled=False)
    except StoreUnavailableError:
        assert not any(one.resumable for one in find_together(store, BOTH))
        discard(store, A, NEW, Claim.ours(), settled=False)
    assert ids(store, A) == ids(store, B) == []
    assert chunks(store) == 0


def test_the_chunks_of_one_that_is_being_written_stay(store: ObjectStore) -> None:
    commit(store, NEW, seed=1)
    before = chunks(store)
    for workload in BOTH:
        Checkpoints(store, workload).begin(Claim.ours(), OLD)
    discard(store, A, NEW, Claim.ours(), settled=False)
    assert chunks(store) == before
