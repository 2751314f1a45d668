"""A second checkpoint stores the pages that changed, wherever they are and wherever the others have gone."""

from __future__ import annotations

import functools
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crikpy.model.manifest import Extent
from crikpy.model.streams import WrittenImages
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.chunks import CHUNK_BYTES, PAGE_BYTES
from crikpy.store.comparing import Allowance
from crikpy.store.layout import chunk_key
from crikpy.store.local import LocalStore
from crikpy.store.pages import page_digests
from crikpy.store.recalling import UNKNOWN, KnownPages
from tests.store.faulty import FaultyStore
from tests.store.images import known_pages, load_images, manifest_of, noise, store_images

NAME = "pages-1.img"
PAGES = CHUNK_BYTES // PAGE_BYTES


@pytest.fixture
def place(local_store: ObjectStore) -> ObjectStore:
    local_store.check()
    return local_store


def again(place: ObjectStore, workload: Workload, before: WrittenImages, data: bytes) -> WrittenImages:
    """Store an image anew, knowing what it was before, and see that it comes back."""
    written = store_images(place, workload, {NAME: data}, pages=known_pages(place, workload, before))
    assert load_images(place, workload, written.images) == {NAME: data}
    return written


def changed(data: bytes, pages: list[int], seed: int) -> bytes:
    """Return other bytes in some pages."""
    result = bytearray(data)
    for page in pages:
        result[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = noise(PAGE_BYTES, seed * 1_000_003 + page)
    return bytes(result)


@functools.cache
def memory() -> bytes:
    return noise(3 * CHUNK_BYTES) + bytes(5 * PAGE_BYTES) + noise(77 * PAGE_BYTES + 100, seed=1)


@pytest.fixture(scope="module")
def base() -> bytes:
    return memory()


def test_what_has_not_changed_is_neither_hashed_nor_stored(
    place: ObjectStore, workload: Workload, base: bytes
) -> None:
    first = store_images(place, workload, {NAME: base})
    faulty = FaultyStore(place)
    second = again(faulty, workload, first, base)
    assert second.images == first.images
    assert faulty.calls["put"] <= 2  # the packed rest, whose pages have no index, and the index
    assert second.sizes.reused_bytes >= 3 * CHUNK_BYTES


def test_scattered_pages_cost_what_they_are(place: ObjectStore, workload: Workload, base: bytes) -> None:
    first = store_images(place, workload, {NAME: base})
    pages = random.Random(1).sample(range(3 * PAGES), 3 * PAGES // 20)
    second = again(place, workload, first, changed(base, pages, seed=2))
    dirty = len(pages) * PAGE_BYTES
    assert dirty <= second.sizes.stored_bytes < 1.2 * dirty + 200 * 1024  # the packed rest, the index


def test_pages_that_moved_are_found(place: ObjectStore, workload: Workload, base: bytes) -> None:
    first = store_images(place, workload, {NAME: base})
    at = 700 * PAGE_BYTES
    moved = base[:at] + noise(3 * PAGE_BYTES, seed=9) + base[at:]
    assert again(place, workload, first, moved).sizes.stored_bytes < CHUNK_BYTES // 4
    assert again(place, workload, first, base[5 * PAGE_BYTES :]).sizes.stored_bytes < CHUNK_BYTES // 4


def test_memory_that_is_mostly_new_is_stored_whole(place: ObjectStore, workload: Workload, base: bytes) -> None:
    first = store_images(place, workload, {NAME: base})
    second = again(place, workload, first, changed(base, list(range(0, PAGES, 5)) + list(range(600, PAGES)), 3))
    assert second.images[0].extents[0].length == CHUNK_BYTES
    assert second.images[0].extents[0].chunk != first.images[0].extents[0].chunk
    assert second.images[0].extents[1:3] == first.images[0].extents[1:3]


def test_after_many_checkpoints_memory_does_not_lie_in_ever_more_chunks(
    place: ObjectStore, workload: Workload, base: bytes
) -> None:
    data, written = base, store_images(place, workload, {NAME: base})
    for number in range(20):
        data = changed(data, random.Random(number).sample(range(3 * PAGES), 60), seed=number)
        written = again(place, workload, written, data)
    seen: set[str | None] = set()
    offset = 0
    for extent in written.images[0].extents:
        if offset < CHUNK_BYTES:
            seen.add(extent.chunk)
        offset += extent.length
    assert len(seen) <= 9


@pytest.mark.parametrize("damage", ["gone", "garbage"])
def test_without_its_index_everything_is_stored_again(
    place: ObjectStore, workload: Workload, base: bytes, damage: str
) -> None:
    first = store_images(place, workload, {NAME: base})
    for extent in first.indexes[0].extents:
        assert extent.chunk is not None
        if damage == "gone":
            place.delete(chunk_key(workload, extent.chunk))
        else:
            place.put(chunk_key(workload, extent.chunk), b"garbage")
    other = changed(base, [1, PAGES + 1, 2 * PAGES + 1], seed=4)
    assert again(place, workload, first, other).sizes.stored_bytes > 3 * CHUNK_BYTES


def test_an_index_that_contradicts_itself_is_not_believed(
    place: ObjectStore, workload: Workload, base: bytes
) -> None:
    first = store_images(place, workload, {NAME: base})
    (index,) = first.indexes
    (extent,) = index.extents
    wrong = WrittenImages(
        images=first.images,
        sizes=first.sizes,
        indexes=(type(index)(name=index.name, size=index.size, extents=(Extent(None, 0, extent.length),)),),
    )
    again(place, workload, wrong, changed(base, [1], seed=4))


def test_an_index_that_does_not_come_holds_up_one_thread_and_no_other(
    place: ObjectStore, workload: Workload, base: bytes
) -> None:
    written = store_images(place, workload, {NAME: base})
    manifest = manifest_of(workload, "20250131T120000Z-00000000", (*written.images, *written.indexes))
    faulty = FaultyStore(place)
    image = KnownPages(faulty, workload, manifest, patience_s=0.05).image(NAME)
    assert image is not None
    digests = page_digests(memoryview(base)[:CHUNK_BYTES])
    faulty.gate.clear()
    with ThreadPoolExecutor(2) as threads:
        try:
            first = threads.submit(image.recognize, 0, digests)
            assert faulty.waiting.wait(10)
            assert (threads.submit(image.recognize, 0, digests).result(10) == UNKNOWN).all()
        finally:
            faulty.gate.set()
        first.result(10)


def test_a_checkpoint_has_only_so_many_pieces() -> None:
    allowance = Allowance(100)
    assert [allowance.take(60), allowance.take(60), allowance.take(40), allowance.take(1)] == [
        True,
        False,
        True,
        False,
    ]


edits = st.lists(
    st.tuples(
        st.sampled_from(["change", "insert", "remove", "zero", "repeat"]),
        st.integers(0, 3 * PAGES),
        st.integers(1, 300),
        st.integers(0, 1000),
    ),
    max_size=6,
)


@given(edits, st.integers(0, PAGE_BYTES - 1))
@settings(max_examples=25, deadline=None)
def test_whatever_happens_to_memory_it_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    acts: list[tuple[str, int, int, int]],
    cut: int,
) -> None:
    place, workload = (
        LocalStore(tmp_path_factory.mktemp("store")),
        Workload(cluster="plain", namespace="default", name="train"),
    )
    first = store_images(place, workload, {NAME: memory()})
    data = memory()
    for act, page, count, seed in acts:
        at, end = page * PAGE_BYTES, (page + count) * PAGE_BYTES
        match act:
            case "change":
                data = data[:at] + noise(len(data[at:end]), seed) + data[end:]
            case "insert":
                data = data[:at] + noise(count * PAGE_BYTES, seed) + data[at:]
            case "remove":
                data = data[:at] + data[end:]
            case "zero":
                data = data[:at] + bytes(len(data[at:end])) + data[end:]
            case _:
                data = data[:at] + data[at:end] + data[at:]
    data = data[: len(data) - cut]
    again(place, workload, again(place, workload, first, data), memory())
