"""Checkpoints as a whole: complete or not, resumed at most once, out of the way when they are bad."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from crikpy.errors import (
    CheckpointClaimedError,
    CheckpointNotFoundError,
    FormatVersionError,
    IntegrityError,
    StoreError,
    StoreUnavailableError,
)
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints, list_workloads
from crikpy.store.layout import claim_key, manifest_key, new_checkpoint_id, started_key
from crikpy.store.records import FINISHED, Claim
from crikpy.store.trusting import Known, chunks_of
from tests.store.faulty import FaultyStore
from tests.store.images import MIB, manifest_of, noise, store_images

OLD, MIDDLE, NEW = "20250101T000000Z-00000001", "20250102T000000Z-00000002", "20250103T000000Z-00000003"


@pytest.fixture
def checkpoints(local_store: ObjectStore, workload: Workload) -> Checkpoints:
    local_store.check()
    return Checkpoints(local_store, workload)


def commit(checkpoints: Checkpoints, *ids: str) -> None:
    for checkpoint in ids:
        checkpoints.commit(manifest_of(checkpoints.workload, checkpoint))


def damage(checkpoints: Checkpoints, checkpoint: str) -> None:
    key = manifest_key(checkpoints.workload, checkpoint)
    checkpoints.store.put(key, checkpoints.store.get(key)[:-20])


def make_newer(checkpoints: Checkpoints, checkpoint: str) -> None:
    checkpoints.store.put(manifest_key(checkpoints.workload, checkpoint), b'{"format":2,"novelty":true}')


def test_a_committed_manifest_comes_back(store: ObjectStore, workload: Workload) -> None:
    checkpoints = Checkpoints(store, workload)
    written = store_images(store, workload, {"pages-1.img": noise(MIB)})
    manifest = manifest_of(workload, NEW, written.images, written.sizes)
    checkpoints.commit(manifest)
    assert checkpoints.manifest(NEW) == manifest
    assert checkpoints.newest_resumable() == manifest
    summary = checkpoints.newest_complete()
    assert summary is not None
    assert (summary.id, summary.host, summary.trigger, summary.sizes) == (NEW, "node-a", "Manual", written.sizes)
    assert summary.resumable


def test_a_checkpoint_without_a_manifest_is_not_one(checkpoints: Checkpoints) -> None:
    identity, known = checkpoints.begin(Claim.ours())
    assert known == Known()
    assert checkpoints.newest_complete() is None
    assert checkpoints.newest_resumable() is None
    with pytest.raises(CheckpointNotFoundError, match=identity):
        checkpoints.manifest(identity)
    assert [(summary.id, summary.complete) for summary in checkpoints.list()] == [(identity, False)]
    checkpoints.give_up(identity)
    assert checkpoints.list() == []
    with pytest.raises(CheckpointNotFoundError):
        checkpoints.summary(identity)


def test_a_checkpoint_may_share_its_id_with_those_of_other_workloads(checkpoints: Checkpoints) -> None:
    other = Checkpoints(checkpoints.store, Workload(cluster="plain", namespace="default", name="other"))
    identity, _ = checkpoints.begin(Claim.ours())
    assert other.begin(Claim.ours(), identity)[0] == identity
    assert [summary.id for summary in other.list()] == [identity]


def test_what_is_withdrawn_is_in_quarantine_if_it_was_complete_and_gone_if_not(checkpoints: Checkpoints) -> None:
    identity, _ = checkpoints.begin(Claim.ours())
    checkpoints.withdraw(identity, "the other container's failed")
    assert checkpoints.list() == []
    commit(checkpoints, NEW)
    checkpoints.withdraw(NEW, "the other container's failed")
    found = checkpoints.summary(NEW).quarantine
    assert found is not None
    assert found.reason == "the other container's failed"


def test_committing_the_same_again_is_fine_and_other_content_is_not(checkpoints: Checkpoints) -> None:
    manifest = manifest_of(checkpoints.workload, NEW)
    checkpoints.commit(manifest)
    checkpoints.commit(manifest)
    with pytest.raises(StoreError, match="other content"):
        checkpoints.commit(replace(manifest, release="0.2.0"))
    assert checkpoints.manifest(NEW) == manifest


def test_a_commit_whose_answer_is_lost_counts(local_store: ObjectStore, workload: Workload) -> None:
    faulty = FaultyStore(local_store)
    faulty.lost_answer = StoreUnavailableError("the line went dead")
    commit(Checkpoints(faulty, workload), NEW)
    assert Checkpoints(local_store, workload).newest_resumable() is not None


def test_a_commit_that_did_not_happen_says_so(local_store: ObjectStore, workload: Workload) -> None:
    local_store.check()
    faulty = FaultyStore(local_store)
    faulty.write_fault = StoreUnavailableError("the line is dead")
    with pytest.raises(StoreUnavailableError, match="may not be complete: the line is dead"):
        commit(Checkpoints(faulty, workload), NEW)


def test_the_newest_is_found_whatever_the_order_of_writing(checkpoints: Checkpoints) -> None:
    commit(checkpoints, MIDDLE, NEW, OLD)
    assert [summary.id for summary in checkpoints.list()] == [NEW, MIDDLE, OLD]
    assert [summary.id for summary in checkpoints.list({OLD, NEW, "absent"})] == [NEW, OLD]
    newest = checkpoints.newest_resumable()
    assert newest is not None
    assert newest.checkpoint == NEW


def test_of_eight_that_claim_a_checkpoint_exactly_one_gets_it(store: ObjectStore, workload: Workload) -> None:
    checkpoints = Checkpoints(store, workload)
    commit(checkpoints, NEW)

    def claim(number: int) -> int | None:
        try:
            checkpoints.claim(NEW, replace(Claim.ours(), host=f"node-{number}", token=str(number)))
        except CheckpointClaimedError as refused:
            assert "node-" in str(refused)
            return None
        return number

    with ThreadPoolExecutor(8) as claimers:
        won = [number for number in claimers.map(claim, range(8)) if number is not None]
    assert len(won) == 1
    found = checkpoints.summary(NEW).claim
    assert found is not None
    assert found.host == f"node-{won[0]}"


def test_a_second_claim_is_refused_and_names_the_first(checkpoints: Checkpoints) -> None:
    commit(checkpoints, NEW)
    checkpoints.claim(NEW, Claim.ours(instance="i-0123"))
    with pytest.raises(CheckpointClaimedError, match=r"resumed on .*i-0123.*PID \d+"):
        checkpoints.claim(NEW, Claim.ours())


def test_a_claim_that_is_tried_again_is_still_ours_and_a_renewed_one_is_not(checkpoints: Checkpoints) -> None:
    commit(checkpoints, NEW)
    claim = Claim.ours()
    checkpoints.claim(NEW, claim)
    checkpoints.claim(NEW, claim)
    with pytest.raises(CheckpointClaimedError):
        checkpoints.claim(NEW, claim.anew())


def test_a_claimed_or_quarantined_checkpoint_gives_way_to_an_older_one(checkpoints: Checkpoints) -> None:
    commit(checkpoints, OLD, MIDDLE, NEW)
    checkpoints.claim(NEW, Claim.ours())
    checkpoints.quarantine(MIDDLE, "CRIU failed")
    found = checkpoints.newest_resumable()
    assert found is not None
    assert found.checkpoint == OLD
    checkpoints.claim(OLD, Claim.ours())
    assert checkpoints.newest_resumable() is None


def test_a_manifest_that_was_damaged_on_its_way_is_read_once_more(checkpoints: Checkpoints) -> None:
    commit(checkpoints, OLD, NEW)
    faulty = FaultyStore(checkpoints.store)
    faulty.flips = 1
    found = Checkpoints(faulty, checkpoints.workload).newest_resumable()
    assert found is not None
    assert found.checkpoint == NEW


def test_the_first_reason_of_a_quarantine_stays(checkpoints: Checkpoints) -> None:
    commit(checkpoints, NEW)
    checkpoints.quarantine(NEW, "first")
    checkpoints.quarantine(NEW, "second")
    found = checkpoints.summary(NEW).quarantine
    assert found is not None
    assert found.reason == "first"


def test_the_complete_and_the_unclaimed_are_told_apart(checkpoints: Checkpoints) -> None:
    commit(checkpoints, OLD, NEW)
    begun, _ = checkpoints.begin(Claim.ours())
    checkpoints.claim(OLD, Claim.ours())
    assert checkpoints.complete() == {OLD, NEW}
    assert checkpoints.complete(unclaimed=True) == {NEW}
    assert begun not in checkpoints.complete()


def test_a_summary_says_whose_pod_it_was(checkpoints: Checkpoints) -> None:
    manifest = manifest_of(checkpoints.workload, NEW)
    origin = replace(manifest.origin, pod="n/web-0", pod_uid="uid", together=("train", "web"))
    checkpoints.commit(replace(manifest, origin=origin))
    summary = checkpoints.summary(NEW)
    assert (summary.pod, summary.pod_uid, summary.together) == ("n/web-0", "uid", ("train", "web"))


def test_nothing_of_a_finished_job_is_resumed(checkpoints: Checkpoints) -> None:
    commit(checkpoints, OLD, NEW)
    checkpoints.claim(OLD, Claim.ours())
    checkpoints.retire(Claim.ours())
    assert checkpoints.newest_resumable() is None
    found = checkpoints.summary(NEW).claim
    assert found is not None
    assert found.outcome == FINISHED
    with pytest.raises(CheckpointClaimedError, match="finished"):
        checkpoints.claim(NEW, Claim.ours())


def test_an_unreadable_claim_still_is_one(checkpoints: Checkpoints) -> None:
    commit(checkpoints, NEW)
    checkpoints.store.put(claim_key(checkpoints.workload, NEW), b"\0garbage")
    assert checkpoints.newest_resumable() is None
    assert not checkpoints.summary(NEW).resumable
    with pytest.raises(CheckpointClaimedError):
        checkpoints.claim(NEW, Claim.ours())


def test_a_claim_of_a_later_release_is_one_whatever_came_of_it(checkpoints: Checkpoints) -> None:
    commit(checkpoints, NEW)
    later = msgspec.json.decode(msgspec.json.encode(Claim.ours())) | {
        "outcome": "forwarded",
        "novelty": {"deep": 1},
    }
    checkpoints.store.put(claim_key(checkpoints.workload, NEW), msgspec.json.encode(later))
    found = checkpoints.summary(NEW).claim
    assert found is not None
    assert found.outcome == "forwarded"
    assert checkpoints.newest_resumable() is None
    with pytest.raises(CheckpointClaimedError):
        checkpoints.claim(NEW, Claim.ours())


def test_a_damaged_manifest_gives_way_to_an_older_one_and_is_shown(checkpoints: Checkpoints) -> None:
    commit(checkpoints, OLD, NEW)
    damage(checkpoints, NEW)
    found = checkpoints.newest_resumable()
    assert found is not None
    assert found.checkpoint == OLD
    with pytest.raises(IntegrityError):
        checkpoints.manifest(NEW)
    newest = checkpoints.list()[0]
    assert "damaged" in newest.fault
    assert not newest.resumable


def test_when_all_manifests_are_damaged_the_newest_one_is_the_error(checkpoints: Checkpoints) -> None:
    commit(checkpoints, OLD)
    damage(checkpoints, OLD)
    with pytest.raises(IntegrityError):
        checkpoints.newest_resumable()


def test_a_newer_format_is_never_passed_over(checkpoints: Checkpoints) -> None:
    commit(checkpoints, OLD, NEW)
    make_newer(checkpoints, NEW)
    with pytest.raises(FormatVersionError):
        checkpoints.newest_resumable()
    assert "format 2" in checkpoints.list()[0].fault


def test_the_manifest_of_something_else_is_refused(checkpoints: Checkpoints) -> None:
    commit(checkpoints, OLD)
    data = checkpoints.store.get(manifest_key(checkpoints.workload, OLD))
    checkpoints.store.put(manifest_key(checkpoints.workload, NEW), data)
    other = Workload(cluster="plain", namespace="default", name="other")
    checkpoints.store.put(manifest_key(other, OLD), data)
    for wrong, checkpoint in ((checkpoints, NEW), (Checkpoints(checkpoints.store, other), OLD)):
        with pytest.raises(IntegrityError, match="is that of"):
            wrong.manifest(checkpoint)


def test_the_chunks_of_the_newest_good_checkpoints_are_known(checkpoints: Checkpoints) -> None:
    chunks = {}
    for seed, checkpoint in enumerate((OLD, MIDDLE, NEW)):
        written = store_images(checkpoints.store, checkpoints.workload, {"pages-1.img": noise(MIB, seed=seed)})
        manifest = manifest_of(checkpoints.workload, checkpoint, written.images)
        checkpoints.commit(manifest)
        chunks[checkpoint] = chunks_of(manifest)
    assert checkpoints.known(1).chunks == chunks[NEW]
    assert checkpoints.known().chunks == chunks[NEW] | chunks[MIDDLE]
    checkpoints.quarantine(NEW, "a chunk is damaged")
    assert checkpoints.known(1).chunks == chunks[MIDDLE]
    damage(checkpoints, MIDDLE)
    assert checkpoints.known().chunks == chunks[OLD]


def test_what_a_good_checkpoint_has_in_common_with_one_in_quarantine_is_written_anew(
    checkpoints: Checkpoints,
) -> None:
    def commit_images(checkpoint: str, *seeds: int) -> frozenset[str]:
        images = {f"pages-{seed}.img": noise(MIB, seed=seed) for seed in seeds}
        written = store_images(checkpoints.store, checkpoints.workload, images)
        manifest = manifest_of(checkpoints.workload, checkpoint, written.images)
        checkpoints.commit(manifest)
        return chunks_of(manifest)

    old, new = commit_images(OLD, 1, 2), commit_images(NEW, 2, 3)
    checkpoints.quarantine(NEW, "a chunk is damaged")
    known = checkpoints.known()
    assert known.chunks == old - new
    assert len(known.chunks) == 1
    assert known.base is None
    healed = commit_images(new_checkpoint_id(datetime.now(UTC) + timedelta(seconds=2)), 2, 3)
    assert healed == new
    known = checkpoints.known()
    assert known.chunks == old | new
    assert known.base is not None
    assert known.base.checkpoint > NEW


def test_the_chunks_of_a_pods_own_last_checkpoint_are_known_among_those_of_many_others(
    checkpoints: Checkpoints,
) -> None:
    chunks: dict[str, frozenset[str]] = {}
    for number in range(12):
        identity = f"20250101T0000{number:02}Z-00000000"
        written = store_images(checkpoints.store, checkpoints.workload, {"pages-1.img": noise(MIB, seed=number)})
        manifest = manifest_of(checkpoints.workload, identity, written.images)
        pod_uid = "mine" if number < 2 else f"other-{number}"
        checkpoints.commit(replace(manifest, origin=replace(manifest.origin, pod_uid=pod_uid)))
        chunks[identity[13:15]] = chunks_of(manifest)
    assert checkpoints.known().chunks == chunks["11"] | chunks["10"]
    assert checkpoints.known(pod_uid="mine").chunks == chunks["11"] | chunks["10"] | chunks["01"]
    assert checkpoints.known(pod_uid="nobody").chunks == chunks["11"] | chunks["10"]
    known = checkpoints.begin(Claim.ours(), pod_uid="mine")[1]
    assert known == checkpoints.known(pod_uid="mine")
    assert known.base is not None
    assert known.base.origin.pod_uid == "mine"


def test_removing_takes_everything_but_the_chunks(store: ObjectStore, workload: Workload) -> None:
    checkpoints = Checkpoints(store, workload)
    identity, _ = checkpoints.begin(Claim.ours())
    written = store_images(store, workload, {"pages-1.img": noise(MIB)})
    checkpoints.commit(manifest_of(workload, identity, written.images))
    checkpoints.claim(identity, Claim.ours())
    checkpoints.quarantine(identity, "because")
    checkpoints.remove(identity)
    assert checkpoints.list() == []
    assert ["chunks" in info.key for info in store.list("")] == [True]
    checkpoints.remove(identity)


def test_workloads_are_found_by_cluster_and_namespace(store: ObjectStore) -> None:
    found = [
        Workload(cluster=cluster, namespace=namespace, name=name)
        for cluster, namespace, name in (
            ("a", "x", "one"),
            ("a", "x", "two"),
            ("a", "y", "one"),
            ("b", "x", "one"),
        )
    ]
    for workload in found:
        store.put(started_key(workload, NEW), b"{}")
    assert list_workloads(store) == found
    assert list_workloads(store, cluster="a") == found[:3]
    assert list_workloads(store, cluster="a", namespace="x") == found[:2]
    assert list_workloads(store, namespace="y") == [found[2]]
    assert list_workloads(store, cluster="absent") == []
