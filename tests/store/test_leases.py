"""A job's name belongs to one machine at a time, and comes free when that machine is gone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import msgspec
import pytest

from crikpy.aio.clock import Deadline
from crikpy.errors import JobRunningError, StoreUnavailableError
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.layout import holder_key
from crikpy.store.leases import Lease, require_untaken
from crikpy.store.records import Claim, Holder
from tests.store.faulty import FaultyStore

LONG_S = 600.0
SHORT_S = 0.6


def claim_of(host: str) -> Claim:
    return replace(Claim.ours(), host=host)


def record(store: ObjectStore, workload: Workload) -> Holder:
    return msgspec.json.decode(store.get(holder_key(workload)), type=Holder)


def leave_behind(store: ObjectStore, workload: Workload, ttl_s: float) -> None:
    """Leave what a machine leaves that dies while it holds the name."""
    holder = Holder(claim=claim_of("dead"), beat=4, ttl_s=ttl_s, released=False)
    store.put(holder_key(workload), msgspec.json.encode(holder))


def await_true(condition: threading.Event) -> None:
    assert condition.wait(20), "it never happened"


def await_held(lease: Lease, *, held: bool) -> None:
    deadline = Deadline.after(20)
    while lease.held != held:
        deadline.check(f"waiting for held to become {held}")
        time.sleep(0.05)


def test_a_second_one_is_told_who_holds_the_name(store: ObjectStore, workload: Workload) -> None:
    lease = Lease.acquire(store, workload, claim_of("node-a"), LONG_S)
    assert lease.held
    with pytest.raises(JobRunningError, match=r"plain/default/train runs on node-a, PID \d+, since 20"):
        Lease.acquire(store, workload, claim_of("node-b"), LONG_S)
    lease.release()


def test_a_name_given_back_is_free_at_once(store: ObjectStore, workload: Workload) -> None:
    for host in ("node-a", "node-b", "node-c"):
        lease = Lease.acquire(store, workload, claim_of(host), LONG_S)
        assert record(store, workload).claim.host == host
        lease.release()
    assert record(store, workload).released
    assert [info.key for info in store.list("")] == [holder_key(workload)]


def test_of_eight_that_want_a_name_exactly_one_gets_it(store: ObjectStore, workload: Workload) -> None:
    def take(number: int) -> Lease | None:
        try:
            return Lease.acquire(store, workload, claim_of(f"node-{number}"), LONG_S)
        except JobRunningError:
            return None

    with ThreadPoolExecutor(8) as takers:
        won = [lease for lease in takers.map(take, range(8)) if lease is not None]
    assert len(won) == 1
    won[0].release()


def test_the_name_of_a_dead_machine_is_refused_first_and_free_later(
    store: ObjectStore, workload: Workload
) -> None:
    leave_behind(store, workload, SHORT_S)
    with pytest.raises(JobRunningError, match="dead"):
        Lease.acquire(store, workload, claim_of("node-b"), LONG_S)
    deadline = Deadline.after(20)
    while True:
        try:
            lease = Lease.acquire(store, workload, claim_of("node-b"), LONG_S)
            break
        except JobRunningError:
            deadline.check("waiting for the name")
            time.sleep(0.2)
    assert record(store, workload).claim.host == "node-b"
    lease.release()


def test_a_renewed_name_stays_taken_beyond_its_time(local_store: ObjectStore, workload: Workload) -> None:
    local_store.check()
    lease = Lease.acquire(local_store, workload, claim_of("node-a"), SHORT_S)
    deadline = Deadline.after(20)
    while record(local_store, workload).beat < 12:
        deadline.check("waiting for renewals")
        time.sleep(0.05)
    assert lease.held
    with pytest.raises(JobRunningError):
        Lease.acquire(local_store, workload, claim_of("node-b"), SHORT_S)
    lease.release()


def test_a_holder_learns_that_somebody_else_has_the_name(local_store: ObjectStore, workload: Workload) -> None:
    local_store.check()
    lost = threading.Event()
    lease = Lease.acquire(local_store, workload, claim_of("node-a"), SHORT_S, lost.set)
    leave_behind(local_store, workload, LONG_S)
    await_true(lost)
    assert not lease.held
    lease.release()
    assert record(local_store, workload).claim.host == "dead"
    assert not record(local_store, workload).released


def test_a_holder_that_cannot_renew_does_not_count_on_the_name_until_it_can(
    local_store: ObjectStore, workload: Workload
) -> None:
    local_store.check()
    faulty = FaultyStore(local_store)
    lease = Lease.acquire(faulty, workload, claim_of("node-a"), SHORT_S)
    faulty.write_fault = StoreUnavailableError("the line is dead")
    await_held(lease, held=False)
    faulty.write_fault = None
    await_held(lease, held=True)
    lease.release()


def test_a_release_that_fails_raises_nothing(local_store: ObjectStore, workload: Workload) -> None:
    local_store.check()
    faulty = FaultyStore(local_store)
    lease = Lease.acquire(faulty, workload, claim_of("node-a"), LONG_S)
    faulty.write_fault = StoreUnavailableError("the line is dead")
    lease.release()
    assert not record(local_store, workload).released


def test_a_damaged_record_means_that_somebody_holds_the_name(local_store: ObjectStore, workload: Workload) -> None:
    local_store.put(holder_key(workload), b"\0garbage")
    with pytest.raises(JobRunningError, match="somebody unreadable"):
        Lease.acquire(local_store, workload, claim_of("node-b"), LONG_S)


def test_a_name_that_was_let_lapse_is_still_untaken_until_another_takes_it(
    store: ObjectStore, workload: Workload
) -> None:
    ours, theirs = claim_of("node-a").anew(), claim_of("node-b").anew()
    require_untaken(store, workload, ours.token)
    Lease.acquire(store, workload, ours, LONG_S).release()
    require_untaken(store, workload, ours.token)
    Lease.acquire(store, workload, theirs, LONG_S).release()
    with pytest.raises(JobRunningError, match="taken over by node-b"):
        require_untaken(store, workload, ours.token)
    require_untaken(store, workload, theirs.token)
