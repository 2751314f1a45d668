"""Nothing that a checkpoint needs is ever removed; everything else goes once it is old."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from crikpy.errors import FormatVersionError, IntegrityError
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.gc import apply_gc, plan_gc
from crikpy.store.layout import chunks_prefix, claim_key, manifest_key
from crikpy.store.records import Claim
from tests.store.images import MIB, load_images, manifest_of, noise, store_images

OLD, NEW = "20250101T000000Z-00000001", "20250103T000000Z-00000003"


@pytest.fixture
def root(tmp_path: Path, local_store: ObjectStore) -> Path:
    local_store.check()
    return tmp_path / "store"


def make_old(root: Path) -> None:
    """Make everything that is in the store now two days old."""
    moment = time.time() - 48 * 3600
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (moment, moment))


def checkpoint(store: ObjectStore, workload: Workload, identity: str, *seeds: int) -> None:
    images = {f"pages-{seed}.img": noise(MIB, seed=seed) for seed in seeds}
    written = store_images(store, workload, images)
    Checkpoints(store, workload).commit(manifest_of(workload, identity, written.images))


def number_of_chunks(store: ObjectStore, workload: Workload) -> int:
    return len(list(store.list(chunks_prefix(workload))))


def test_chunks_of_a_removed_checkpoint_go_and_those_of_others_stay(
    store: ObjectStore, workload: Workload
) -> None:
    checkpoints = Checkpoints(store, workload)
    checkpoint(store, workload, OLD, 1, 2)
    checkpoint(store, workload, NEW, 2, 3)
    assert number_of_chunks(store, workload) == 3
    checkpoints.remove(OLD)
    plan = plan_gc(store, workload, min_age=timedelta(minutes=-1))
    assert len(plan.chunks) == 1
    assert plan.chunk_bytes >= MIB
    assert number_of_chunks(store, workload) == 3
    outcome = apply_gc(store, plan)
    assert (outcome.chunks, outcome.chunk_bytes, outcome.interrupted) == (1, plan.chunk_bytes, False)
    assert number_of_chunks(store, workload) == 2
    images = checkpoints.manifest(NEW).images
    assert load_images(store, workload, images) == {f"pages-{seed}.img": noise(MIB, seed=seed) for seed in (2, 3)}


def test_young_chunks_stay(root: Path, local_store: ObjectStore, workload: Workload) -> None:
    store_images(local_store, workload, {"pages-1.img": noise(MIB)})
    assert plan_gc(local_store, workload).chunks == ()
    make_old(root)
    assert len(plan_gc(local_store, workload).chunks) == 1


def test_while_a_checkpoint_is_being_written_nothing_is_removed(
    root: Path, local_store: ObjectStore, workload: Workload
) -> None:
    store_images(local_store, workload, {"pages-1.img": noise(MIB)})
    make_old(root)
    identity, _ = Checkpoints(local_store, workload).begin(Claim.ours())
    plan = plan_gc(local_store, workload)
    assert plan.writing == (identity,)
    outcome = apply_gc(local_store, plan)
    assert outcome.interrupted
    assert outcome.chunks == 0
    assert number_of_chunks(local_store, workload) == 1


def test_no_age_that_is_asked_for_takes_anything_from_a_checkpoint_that_is_being_written(
    root: Path, local_store: ObjectStore, workload: Workload
) -> None:
    identity, _ = Checkpoints(local_store, workload).begin(Claim.ours())
    store_images(local_store, workload, {"pages-1.img": noise(MIB)})
    plan = plan_gc(local_store, workload, min_age=timedelta(minutes=-1))
    assert (plan.writing, plan.incomplete) == ((identity,), ())
    outcome = apply_gc(local_store, plan)
    assert (outcome.chunks, outcome.incomplete, outcome.interrupted) == (0, 0, True)
    make_old(root)
    assert plan_gc(local_store, workload, min_age=timedelta(minutes=-1)).incomplete == (identity,)


def test_a_checkpoint_begun_after_the_plan_stops_the_removal(
    root: Path, local_store: ObjectStore, workload: Workload
) -> None:
    store_images(local_store, workload, {"pages-1.img": noise(MIB)})
    make_old(root)
    plan = plan_gc(local_store, workload)
    Checkpoints(local_store, workload).begin(Claim.ours())
    assert apply_gc(local_store, plan).interrupted
    assert number_of_chunks(local_store, workload) == 1


def test_a_manifest_committed_after_the_plan_keeps_its_chunks(
    root: Path, local_store: ObjectStore, workload: Workload
) -> None:
    store_images(local_store, workload, {"pages-1.img": noise(MIB, seed=1), "pages-2.img": noise(MIB, seed=2)})
    make_old(root)
    plan = plan_gc(local_store, workload)
    assert len(plan.chunks) == 2
    checkpoint(local_store, workload, NEW, 2)
    outcome = apply_gc(local_store, plan)
    assert outcome.chunks == 1
    assert load_images(local_store, workload, Checkpoints(local_store, workload).manifest(NEW).images)


def test_what_is_left_of_a_checkpoint_that_was_given_up_goes_when_it_is_old(
    root: Path, local_store: ObjectStore, workload: Workload
) -> None:
    checkpoints = Checkpoints(local_store, workload)
    identity, _ = checkpoints.begin(Claim.ours())
    local_store.put(claim_key(workload, OLD), b"{}")
    make_old(root)
    plan = plan_gc(local_store, workload)
    assert plan.incomplete == tuple(sorted((OLD, identity)))
    assert plan.writing == ()
    assert apply_gc(local_store, plan).incomplete == 2
    assert checkpoints.list() == []


def test_a_checkpoint_completed_after_the_plan_stays(
    root: Path, local_store: ObjectStore, workload: Workload
) -> None:
    checkpoints = Checkpoints(local_store, workload)
    identity, _ = checkpoints.begin(Claim.ours())
    make_old(root)
    plan = plan_gc(local_store, workload)
    checkpoint(local_store, workload, identity, 1)
    assert apply_gc(local_store, plan).incomplete == 0
    assert checkpoints.newest_resumable() is not None


@pytest.mark.parametrize(
    ("data", "expected"), [(b"garbage", IntegrityError), (b'{"format":2}', FormatVersionError)]
)
def test_a_manifest_that_cannot_be_read_stops_everything(
    data: bytes, expected: type[Exception], root: Path, local_store: ObjectStore, workload: Workload
) -> None:
    store_images(local_store, workload, {"pages-1.img": noise(MIB)})
    make_old(root)
    plan = plan_gc(local_store, workload)
    local_store.put(manifest_key(workload, NEW), data)
    with pytest.raises(expected):
        plan_gc(local_store, workload)
    with pytest.raises(expected):
        apply_gc(local_store, plan)
    assert number_of_chunks(local_store, workload) == 1


def test_other_workloads_are_not_touched(root: Path, local_store: ObjectStore, workload: Workload) -> None:
    other = Workload(cluster="plain", namespace="default", name="train-2")
    store_images(local_store, other, {"pages-1.img": noise(MIB)})
    make_old(root)
    assert plan_gc(local_store, workload).chunks == ()
    assert len(plan_gc(local_store, other).chunks) == 1
