"""Verification names every fault of a checkpoint and goes on to the end."""

from __future__ import annotations

import pytest

from crikpy.errors import StoreUnavailableError
from crikpy.model.manifest import Extent, StoredImage
from crikpy.model.streams import TransferProgress
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.chunks import CHUNK_BYTES
from crikpy.store.layout import chunk_key
from crikpy.store.verifying import verify
from tests.store.faulty import FaultyStore
from tests.store.images import MIB, SMALL, noise, store_images, stored_bytes


def chunks(image: StoredImage) -> list[str]:
    return [extent.chunk for extent in image.extents if extent.chunk]


def test_a_good_checkpoint_has_no_faults_and_is_read_once(store: ObjectStore, workload: Workload) -> None:
    faulty = FaultyStore(store)
    written = store_images(store, workload, {"pages-1.img": noise(20 * MIB) * 2, "core-1.img": noise(100)})
    seen: list[TransferProgress] = []
    assert verify(faulty, workload, written.images, settings=SMALL, on_progress=seen.append) == []
    assert len(faulty.got) == len(set(faulty.got)) == written.sizes.chunks - len(written.indexes)
    assert seen[-1].plain_bytes == seen[-1].total_bytes == 40 * MIB + 100
    assert seen[-1].wire_bytes == stored_bytes(store, workload, written.images)


def test_every_fault_is_named_with_the_images_that_it_harms(local_store: ObjectStore, workload: Workload) -> None:
    local_store.check()
    data = noise(4 * CHUNK_BYTES)
    written = store_images(local_store, workload, {"pages-1.img": data, "pages-2.img": data[:CHUNK_BYTES]})
    first, second, third, _ = chunks(written.images[0])
    stored = bytearray(local_store.get(chunk_key(workload, first)))
    stored[1000] ^= 1
    local_store.put(chunk_key(workload, first), bytes(stored))
    local_store.put(chunk_key(workload, second), b"")
    local_store.delete(chunk_key(workload, third))
    faults = {fault.chunk: fault for fault in verify(local_store, workload, written.images, settings=SMALL)}
    assert faults.keys() == {first, second, third}
    assert faults[first].images == ("pages-1.img", "pages-2.img")
    assert faults[second].images == ("pages-1.img",)
    assert "hash" in faults[first].reason
    assert "cut short" in faults[second].reason
    assert "missing" in faults[third].reason


def test_an_extent_beyond_the_end_of_its_chunk_is_a_fault(local_store: ObjectStore, workload: Workload) -> None:
    local_store.check()
    written = store_images(local_store, workload, {"core-1.img": noise(1000)})
    (chunk,) = chunks(written.images[0])
    lying = StoredImage(name="core-1.img", size=2000, extents=(Extent(chunk, 0, 2000),))
    (fault,) = verify(local_store, workload, (lying,), settings=SMALL)
    assert "1000 bytes where 2000" in fault.reason


def test_a_store_that_cannot_be_asked_is_an_error_and_no_fault(
    local_store: ObjectStore, workload: Workload
) -> None:
    local_store.check()
    written = store_images(local_store, workload, {"core-1.img": noise(1000)})

    class Dead(FaultyStore):
        def get(self, key: str) -> bytes:
            raise StoreUnavailableError(f"{key}: the line is dead")

    with pytest.raises(StoreUnavailableError):
        verify(Dead(local_store), workload, written.images, settings=SMALL)
