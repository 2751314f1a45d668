"""What belongs together is found as one; what somebody may still resume is never removed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crikpy.agent.choosing import Cold, OriginState, choose
from crikpy.errors import CheckpointNotFoundError
from crikpy.flows.gathering import find_together, read_manifests, retire_pod, superfluous, thin_out
from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.layout import chunks_prefix, claim_key, manifest_key, new_checkpoint_id
from crikpy.store.opening import open_store
from crikpy.store.records import FINISHED, CheckpointSummary, Claim, Quarantine
from tests.store.images import MIB, manifest_of, noise, store_images

A, B = (Workload(cluster="c", namespace="n", name=f"rs-web.{name}") for name in ("a", "b"))
BOTH = (B, A)
"""In an order that is not theirs."""

OLD, MIDDLE, NEW = "20250101T000000Z-00000001", "20250102T000000Z-00000002", "20250103T000000Z-00000003"


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    made = open_store(str(tmp_path / "store"), StoreSettings())
    made.check()
    return made


def commit(store: ObjectStore, identity: str, pod_uid: str = "uid-1", *workloads: Workload, seed: int = 0) -> None:
    """Complete a checkpoint in some workloads, by default in both, each with a chunk."""
    among = workloads or (A, B)
    together = tuple(workload.name for workload in among) if len(among) > 1 else ()
    for workload in among:
        written = store_images(store, workload, {"pages-1.img": noise(MIB, seed=seed)}) if seed else None
        manifest = manifest_of(workload, identity, written.images if written else ())
        origin = replace(manifest.origin, pod=f"n/{pod_uid}", pod_uid=pod_uid, together=together)
        Checkpoints(store, workload).commit(replace(manifest, origin=origin))


def ids(store: ObjectStore, workload: Workload) -> list[str]:
    return [summary.id for summary in Checkpoints(store, workload).list()]


def test_only_what_is_complete_in_every_workload_is_found_the_newest_first(store: ObjectStore) -> None:
    commit(store, OLD)
    commit(store, NEW, "uid-2")
    commit(store, MIDDLE, "uid-1", A)
    Checkpoints(store, B).begin(Claim.ours(), MIDDLE)
    found = find_together(store, BOTH)
    assert [(one.checkpoint, one.pod, one.pod_uid) for one in found] == [
        (NEW, "n/uid-2", "uid-2"),
        (OLD, "n/uid-1", "uid-1"),
    ]
    assert all(one.resumable for one in found)
    assert found[0].created == "2025-01-31T12:00:00Z"
    assert find_together(store, [replace(A, name="unheard-of"), A]) == ()


@pytest.mark.parametrize("where", [A, B])
def test_a_claim_or_a_quarantine_in_one_workload_counts_for_all(store: ObjectStore, where: Workload) -> None:
    for identity in (OLD, MIDDLE, NEW):
        commit(store, identity)
    Checkpoints(store, where).claim(NEW, Claim.ours(instance="i-0123"))
    Checkpoints(store, where).quarantine(MIDDLE, "CRIU failed")
    newest, middle, old = find_together(store, BOTH)
    assert newest.claim is not None
    assert newest.claim.instance == "i-0123"
    assert middle.quarantine is not None
    assert middle.quarantine.reason == "CRIU failed"
    assert [one.resumable for one in (newest, middle, old)] == [False, False, True]


@pytest.mark.parametrize(("data", "says"), [(b"garbage", "damaged"), (b'{"format":2}', "format 2")])
def test_an_unreadable_part_is_told_and_the_pod_is_still_known(store: ObjectStore, data: bytes, says: str) -> None:
    commit(store, NEW)
    store.put(manifest_key(A, NEW), data)
    (found,) = find_together(store, BOTH)
    assert says in found.fault
    assert found.pod_uid == "uid-1"
    assert not found.resumable


def make_newer(store: ObjectStore, workload: Workload, identity: str) -> None:
    """Have a manifest be of the next format, which has changed all that it may."""
    origin = Checkpoints(store, workload).manifest(identity).origin
    facts = {"pod": origin.pod, "pod_uid": origin.pod_uid, "together": list(origin.together)}
    newer = {"format": 2, "sum": "?", "manifest": {"format": 2, "origin": facts | {"host": 7}, "images": "others"}}
    store.put(manifest_key(workload, identity), json.dumps(newer).encode())


def test_a_checkpoint_of_a_newer_format_is_still_its_pods_newest_and_none_before_it_is_resumed(
    store: ObjectStore,
) -> None:
    commit(store, OLD, "uid-1", A)
    commit(store, NEW, "uid-1", A)
    make_newer(store, A, NEW)
    newest, old = find_together(store, [A])
    assert (newest.pod, newest.pod_uid, newest.resumable) == ("n/uid-1", "uid-1", False)
    assert old.resumable
    choice = choose([newest, old], {"uid-1": OriginState.GONE}, "uid-2")
    assert isinstance(choice, Cold)
    assert "this release of crikpy knows formats up to 1" in choice.reason


def test_a_finished_job_leaves_no_checkpoint_of_a_newer_format_to_be_resumed_once_that_can_be_read(
    store: ObjectStore,
) -> None:
    commit(store, NEW)
    for workload in (A, B):
        make_newer(store, workload, NEW)
    assert retire_pod(store, BOTH, "uid-1", Claim.ours()) == 1
    claims = [Checkpoints(store, workload).summary(NEW).claim for workload in (A, B)]
    assert [claim and claim.outcome for claim in claims] == [FINISHED, FINISHED]


def test_a_checkpoint_of_a_newer_format_is_never_thinned_out(store: ObjectStore) -> None:
    for identity in (OLD, MIDDLE, NEW):
        commit(store, identity, "uid-1", A)
    make_newer(store, A, OLD)
    assert thin_out(store, [A], "uid-1", 1) == 1
    assert ids(store, A) == [NEW, OLD]


@pytest.mark.parametrize("inner", ["[]", "{}", '{"origin":[]}', '{"origin":{"pod_uid":7}}'])
def test_a_newer_format_that_tells_of_no_pod_is_nobodys(store: ObjectStore, inner: str) -> None:
    commit(store, NEW, "uid-1", A)
    store.put(manifest_key(A, NEW), f'{{"format":2,"manifest":{inner}}}'.encode())
    (found,) = find_together(store, [A])
    assert (found.pod_uid, found.resumable) == ("", False)


def test_a_part_of_what_was_saved_together_cannot_be_resumed(store: ObjectStore) -> None:
    commit(store, NEW)
    (found,) = find_together(store, [A])
    assert found.fault == "rs-web.a, rs-web.b were saved together, not rs-web.a"
    commit(store, OLD, "uid-1", A)
    assert [one.resumable for one in find_together(store, [A])] == [False, True]


def test_parts_of_different_pods_are_no_whole(store: ObjectStore) -> None:
    commit(store, NEW)
    part = Checkpoints(store, B).manifest(NEW)
    store.delete(manifest_key(B, NEW))
    Checkpoints(store, B).commit(replace(part, origin=replace(part.origin, pod_uid="uid-2")))
    (found,) = find_together(store, BOTH)
    assert "different pods" in found.fault


def test_manifests_come_in_the_order_of_the_workloads(store: ObjectStore) -> None:
    commit(store, NEW)
    assert [manifest.workload for manifest in read_manifests(store, BOTH, NEW)] == [str(B), str(A)]
    with pytest.raises(CheckpointNotFoundError):
        read_manifests(store, BOTH, OLD)


def test_what_a_finished_pod_leaves_is_retired_and_that_of_others_is_not(store: ObjectStore) -> None:
    commit(store, OLD)
    commit(store, MIDDLE, "uid-1", A)
    commit(store, NEW, "uid-2")
    claim = Claim.ours()
    assert retire_pod(store, BOTH, "uid-1", claim) == 2
    newest, old = find_together(store, BOTH)
    assert newest.claim is None
    assert old.claim is not None
    assert (old.claim.outcome, old.claim.token) == (FINISHED, claim.token)
    for workload, identity in ((A, OLD), (B, OLD), (A, MIDDLE)):
        found = Checkpoints(store, workload).summary(identity).claim
        assert found is not None
        assert found.outcome == FINISHED
    assert retire_pod(store, BOTH, "uid-1", claim) == 0


def test_only_what_was_begun_before_a_moment_is_retired_be_it_the_same_second(store: ObjectStore) -> None:
    begins = datetime(2025, 1, 3, 12, 0, 0, 500_000, tzinfo=UTC)
    before, after = (new_checkpoint_id(begins + timedelta(milliseconds=off)) for off in (-100, 100))
    commit(store, before)
    commit(store, after)
    assert retire_pod(store, BOTH, "uid-1", Claim.ours(), until=begins) == 1
    assert [(one.checkpoint, one.claim is None) for one in find_together(store, BOTH)] == [
        (after, True),
        (before, False),
    ]


def test_a_retirement_that_was_cut_short_is_made_whole(store: ObjectStore) -> None:
    commit(store, NEW)
    Checkpoints(store, A).lay(NEW, Claim.ours().finished())
    retire_pod(store, BOTH, "uid-1", Claim.ours())
    assert Checkpoints(store, B).summary(NEW).claim is not None


def test_checkpoints_that_no_pod_made_are_neither_retired_nor_removed(store: ObjectStore) -> None:
    commit(store, OLD, "")
    commit(store, NEW, "")
    assert retire_pod(store, BOTH, "", Claim.ours()) == 0
    Checkpoints(store, A).claim(OLD, replace(Claim.ours(), time="2025-01-03T00:00:00Z"))
    assert thin_out(store, BOTH, "", 1) == 0
    assert [one.resumable for one in find_together(store, BOTH)] == [True, False]


class ResumingStore:
    """Has somebody resume a checkpoint at the moment when the retirement has looked at it."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner
        self.resumed = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if not self.resumed:
            self.resumed = True
            Checkpoints(self._inner, A).claim(NEW, Claim.ours())
        return self._inner.put_if_absent(key, data)


def test_what_is_being_resumed_is_left_to_those_who_do(store: ObjectStore) -> None:
    commit(store, NEW)
    resuming = ResumingStore(store)
    assert retire_pod(resuming, BOTH, "uid-1", Claim.ours()) == 0  # type: ignore[arg-type]  # by __getattr__
    assert resuming.resumed
    assert Checkpoints(store, B).summary(NEW).claim is None


def test_the_newest_checkpoints_of_a_pod_stay_and_those_of_other_pods(store: ObjectStore) -> None:
    recent = [new_checkpoint_id(datetime.now(UTC) - timedelta(minutes=minute)) for minute in range(5, 0, -1)]
    for number, identity in enumerate(recent):
        commit(store, identity, f"uid-{number % 2}")
    assert thin_out(store, BOTH, "uid-0", 2) == 1
    assert ids(store, A) == ids(store, B) == recent[:0:-1]
    assert thin_out(store, BOTH, "uid-0", 0) == 1
    assert ids(store, A) == [recent[number] for number in (4, 3, 1)]


def test_what_was_claimed_a_day_ago_goes_with_its_elder_siblings_and_its_chunks(
    store: ObjectStore, tmp_path: Path
) -> None:
    commit(store, OLD, "uid-1", seed=1)
    commit(store, MIDDLE, "uid-1", seed=2)
    commit(store, NEW, "uid-2", seed=3)
    yesterday = (datetime.now(UTC) - timedelta(hours=25)).isoformat()
    for workload in BOTH:
        Checkpoints(store, workload).claim(MIDDLE, replace(Claim.ours(), time=yesterday))
    moment = time.time() - 48 * 3600
    for path in (tmp_path / "store").rglob("chunks/*/*"):
        os.utime(path, (moment, moment))
    assert thin_out(store, BOTH, "uid-2", 2) == 2
    assert ids(store, A) == ids(store, B) == [NEW]
    assert len(list(store.list(chunks_prefix(A)))) == 1


@pytest.mark.parametrize("claim", [replace(Claim.ours(), time=""), Claim.ours()])
def test_what_was_claimed_lately_or_nobody_knows_when_stays(store: ObjectStore, claim: Claim) -> None:
    commit(store, OLD)
    commit(store, NEW)
    Checkpoints(store, A).claim(NEW, claim)
    assert thin_out(store, BOTH, "uid-1", 1) == 0


def test_a_damaged_manifest_stays_and_stops_only_the_removal_of_chunks(store: ObjectStore) -> None:
    commit(store, OLD)
    commit(store, MIDDLE)
    commit(store, NEW)
    store.put(manifest_key(A, NEW), b"garbage")
    assert thin_out(store, BOTH, "uid-1", 1) == 1
    assert ids(store, A) == [NEW, MIDDLE]


def test_the_remains_of_a_removal_that_was_cut_short_go_later(store: ObjectStore) -> None:
    commit(store, OLD)
    commit(store, NEW)
    Checkpoints(store, A).remove(OLD)
    assert [one.checkpoint for one in find_together(store, BOTH)] == [NEW]
    assert thin_out(store, BOTH, "uid-1", 2) == 1
    assert ids(store, B) == [NEW]


def test_an_unreadable_claim_stays(store: ObjectStore) -> None:
    commit(store, OLD)
    commit(store, NEW)
    store.put(claim_key(A, OLD), b"garbage")
    assert thin_out(store, BOTH, "uid-1", 1) == 0


# ---- the rules by themselves -----------------------------------------------------------------------------------

NOW = datetime(2025, 6, 1, tzinfo=UTC)
NAMES = frozenset({A.name, B.name})


def _moment(hours: int) -> str:
    return (NOW - timedelta(hours=hours)).isoformat()


@st.composite
def _listings(draw: st.DrawFn) -> dict[str, dict[Workload, CheckpointSummary]]:
    found: dict[str, dict[Workload, CheckpointSummary]] = {}
    for hours in draw(st.lists(st.integers(0, 100), unique=True, max_size=8)):
        identity = new_checkpoint_id(NOW - timedelta(hours=hours))
        pod_uid = draw(st.sampled_from(["mine", "other", "third", ""]))
        together = draw(st.sampled_from([(A.name, B.name), (A.name,), (A.name, "rs-web.unseen")]))
        parts: dict[Workload, CheckpointSummary] = {}
        for workload in (A, B):
            if workload.name not in together or draw(st.integers(0, 9)) == 0:
                continue
            claimed = draw(st.sampled_from([None, None, None, 1, 23, 26, 50]))
            barred = draw(st.sampled_from([None, None, None, None, 2, 60]))
            parts[workload] = CheckpointSummary(
                id=identity,
                complete=True,
                pod_uid=pod_uid,
                together=together if len(together) > 1 else (),
                claim=None if claimed is None else replace(Claim.ours(), time=_moment(claimed)),
                quarantine=None if barred is None else Quarantine(reason="", time=_moment(barred)),
                fault=draw(st.sampled_from(["", "", "", "", "damaged"])),
            )
        if parts:
            found[identity] = parts
    return found


def _usable(parts: Mapping[Workload, CheckpointSummary]) -> bool:
    names = {name for workload, part in parts.items() for name in part.together or (workload.name,)}
    return len(parts) == len(names) and all(part.resumable for part in parts.values())


def _older_than_a_day(identity: str, parts: Mapping[Workload, CheckpointSummary]) -> bool:
    edge = NOW - timedelta(days=1)
    times = [part.claim.time for part in parts.values() if part.claim]
    times += [part.quarantine.time for part in parts.values() if part.quarantine]
    made = datetime.strptime(identity[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return made < edge and all(datetime.fromisoformat(text) < edge for text in times)


@given(_listings(), st.integers(0, 4))
@settings(max_examples=400, deadline=None)
def test_nothing_goes_that_anybody_could_need(
    found: dict[str, dict[Workload, CheckpointSummary]], keep: int
) -> None:
    doomed = superfluous(found, NAMES, "mine", keep, NOW)
    assert list(doomed) == sorted(set(doomed))
    uid = {identity: next(iter(parts.values())).pod_uid for identity, parts in found.items()}
    used_up = {
        identity: _older_than_a_day(identity, parts) and any(part.claim for part in parts.values())
        for identity, parts in found.items()
    }
    for identity in doomed:
        parts = found[identity]
        assert uid[identity], "a checkpoint that no pod made"
        assert not any(part.fault for part in parts.values())
        assert not any("rs-web.unseen" in part.together for part in parts.values())
        if not _usable(parts):
            assert _older_than_a_day(identity, parts), "somebody may be reading it"
            continue
        followed = any(used_up[other] and uid[other] == uid[identity] and other > identity for other in found)
        newer = [other for other in found if uid[other] == "mine" and other > identity and _usable(found[other])]
        assert followed or (uid[identity] == "mine" and len(newer) >= max(1, keep))


@given(_listings(), st.integers(1, 4))
def test_a_pod_keeps_no_more_than_it_is_allowed(
    found: dict[str, dict[Workload, CheckpointSummary]], keep: int
) -> None:
    doomed = superfluous(found, NAMES, "mine", keep, NOW)
    left = [
        identity
        for identity, parts in found.items()
        if identity not in doomed
        and _usable(parts)
        and all(part.pod_uid == "mine" and "rs-web.unseen" not in part.together for part in parts.values())
    ]
    assert len(left) <= keep
