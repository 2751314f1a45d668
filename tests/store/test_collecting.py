"""Chunks are removed while checkpoints are written: whatever comes between what, what is complete is whole."""

from __future__ import annotations

import random
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from crikpy.errors import StoreUnavailableError
from crikpy.model.manifest import Extent, StoredImage
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.collecting import is_under_way, say_no_more, say_so
from crikpy.store.gc import apply_gc, plan_gc
from crikpy.store.layout import chunk_key, chunks_prefix, is_chunk_key
from crikpy.store.local import LocalStore
from crikpy.store.records import Claim
from crikpy.store.trusting import chunks_of
from tests.store.images import manifest_of

WORKLOAD = Workload(cluster="plain", namespace="default", name="train")
NOW = timedelta(minutes=-1)
"""Everything is old enough."""

CHUNKS = [f"{number:064x}" for number in range(40)]


class Hesitating:
    """A store that takes its time before each act, so that others come in between."""

    def __init__(self, store: ObjectStore, seed: int) -> None:
        self._store = store
        self._chance = random.Random(seed)

    def __getattr__(self, name: str) -> Any:
        act = getattr(self._store, name)

        def hesitating(*words: object) -> object:
            time.sleep(self._chance.choice([0, 0, 0, 0.0002, 0.001, 0.003]))
            return act(*words)

        return hesitating if callable(act) else act


def manifest_with(chunks: list[str]) -> tuple[StoredImage, ...]:
    extents = tuple(Extent(chunk, 0, 4096) for chunk in chunks)
    return (StoredImage(name="pages-1.img", size=4096 * len(chunks), extents=extents),)


def write(store: ObjectStore, chunks: list[str], committed: list[str]) -> None:
    """Write a checkpoint as a writer does: what is known to be there is not stored again."""
    checkpoints = Checkpoints(store, WORKLOAD)
    identity, known = checkpoints.begin(Claim.ours())
    for chunk in chunks:
        if chunk not in known.chunks:
            store.put(chunk_key(WORKLOAD, chunk), b"chunk")
    try:
        checkpoints.commit(manifest_of(WORKLOAD, identity, manifest_with(chunks)))
    except StoreUnavailableError:
        checkpoints.give_up(identity)
        return
    committed.append(identity)


@pytest.mark.parametrize("seed", range(25))
def test_whatever_comes_between_what_no_complete_checkpoint_lacks_a_chunk(store: ObjectStore, seed: int) -> None:
    chance = random.Random(seed)
    for chunk in CHUNKS:
        store.put(chunk_key(WORKLOAD, chunk), b"left behind by somebody")
    committed: list[str] = []
    over = threading.Event()

    def collect() -> None:
        slow: Any = Hesitating(store, -1 - seed)
        while not over.is_set():
            apply_gc(slow, plan_gc(slow, WORKLOAD, min_age=NOW))

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for _ in range(8):
            slow: Any = Hesitating(store, chance.getrandbits(32))
            write(slow, chance.sample(CHUNKS, chance.randint(1, 20)), committed)
            if len(committed) > 1 and chance.random() < 0.4:
                Checkpoints(slow, WORKLOAD).remove(committed.pop(0))
    finally:
        over.set()
        collector.join()
    assert committed
    there = {info.key.rpartition("/")[2] for info in store.list(chunks_prefix(WORKLOAD))}
    for identity in committed:
        assert chunks_of(Checkpoints(store, WORKLOAD).manifest(identity)) <= there
    assert not is_under_way(store, WORKLOAD)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    made = LocalStore(tmp_path / "store")
    made.check()
    return made


def test_a_checkpoint_whose_chunk_was_removed_while_it_was_written_is_not_committed(store: ObjectStore) -> None:
    checkpoints = Checkpoints(store, WORKLOAD)
    say_so(store, WORKLOAD)
    identity, _ = checkpoints.begin(Claim.ours())
    for chunk in CHUNKS[:2]:
        store.put(chunk_key(WORKLOAD, chunk), b"chunk")
    say_no_more(store, WORKLOAD)
    manifest = manifest_of(WORKLOAD, identity, manifest_with(CHUNKS[:2]))
    store.delete(chunk_key(WORKLOAD, CHUNKS[1]))
    with pytest.raises(StoreUnavailableError, match="1 chunks were collected"):
        checkpoints.commit(manifest)
    store.put(chunk_key(WORKLOAD, CHUNKS[1]), b"chunk")
    checkpoints.commit(manifest)


def test_without_a_collection_nobody_looks_for_chunks(store: ObjectStore) -> None:
    checkpoints = Checkpoints(store, WORKLOAD)
    identity, _ = checkpoints.begin(Claim.ours())
    checkpoints.commit(manifest_of(WORKLOAD, identity, manifest_with(CHUNKS[:1])))


def test_who_collects_says_so_only_where_there_is_something_to_remove(store: ObjectStore) -> None:
    apply_gc(store, plan_gc(store, WORKLOAD, min_age=NOW))
    assert not is_under_way(store, WORKLOAD)
    store.put(chunk_key(WORKLOAD, CHUNKS[0]), b"left behind")
    apply_gc(store, plan_gc(store, WORKLOAD, min_age=NOW))
    assert not [info for info in store.list("") if is_chunk_key(info.key)]
    assert not is_under_way(store, WORKLOAD)
