"""Images on their way out: every byte checked, in any order, in bounded memory, and never standing still."""

from __future__ import annotations

import io
import select
import threading
import time
from dataclasses import replace

import pytest

from crikpy.aio.clock import Deadline
from crikpy.errors import DeadlineError, IntegrityError, StoreError
from crikpy.model.manifest import Extent, StoredImage
from crikpy.model.streams import TransferProgress
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.budget import read_budget
from crikpy.store.chunks import CHUNK_BYTES
from crikpy.store.layout import chunk_key
from crikpy.store.reading import ChunkReader
from tests.store.faulty import FaultyStore
from tests.store.images import MIB, SMALL, noise, store_images, stored_bytes

TIGHT = replace(SMALL, memory_bytes=(160 + 48) * MIB, transfers=2)
"""Settings under which a reader can hold few chunks."""


@pytest.fixture
def faulty(local_store: ObjectStore) -> FaultyStore:
    """A directory that can be made to wait."""
    local_store.check()
    return FaultyStore(local_store)


def reader_of(
    store: ObjectStore, workload: Workload, images: tuple[StoredImage, ...], *, seconds: float = 60.0
) -> ChunkReader:
    return ChunkReader(store, workload, images, settings=TIGHT, deadline=Deadline.after(seconds))


def serve_like_criu(reader: ChunkReader, images: dict[str, bytes], step: int) -> dict[str, bytes]:
    """Read all images at once and in turns, a few bytes at a time, waiting on the descriptor like a server."""
    found = {name: bytearray() for name in images}
    poll = select.poll()
    poll.register(reader.ready(), select.POLLIN)
    unfinished = set(images)
    while unfinished:
        progress = False
        for name in sorted(unfinished):
            piece = reader.piece(name, len(found[name]))
            if piece is not None:
                progress = True
                found[name] += piece[:step]
                if len(found[name]) == len(images[name]):
                    unfinished.remove(name)
        if not progress:
            assert poll.poll(30_000), "nothing arrived"
            reader.acknowledge()
    return {name: bytes(data) for name, data in found.items()}


def test_many_images_read_in_turns_come_back_though_few_chunks_fit(
    faulty: FaultyStore, workload: Workload
) -> None:
    images = {f"pages-{number}.img": noise(2 * CHUNK_BYTES + number, seed=number) for number in range(5)}
    written = store_images(faulty, workload, images)
    assert read_budget(TIGHT).chunks < 10
    with reader_of(faulty, workload, written.images) as reader:
        assert serve_like_criu(reader, images, step=3 * MIB) == images


def test_more_readers_than_chunks_that_fit_all_come_to_their_end(faulty: FaultyStore, workload: Workload) -> None:
    images = {f"pages-{number}.img": noise(CHUNK_BYTES + 2 * MIB, seed=number) for number in range(12)}
    written = store_images(faulty, workload, images)
    with reader_of(faulty, workload, written.images) as reader:
        assert serve_like_criu(reader, images, step=4 * MIB) == images


def test_images_can_be_read_from_their_last_to_their_first(faulty: FaultyStore, workload: Workload) -> None:
    images = {f"pages-{number}.img": noise(CHUNK_BYTES + MIB, seed=number) for number in range(6)}
    written = store_images(faulty, workload, images)
    with reader_of(faulty, workload, written.images) as reader:
        for name in reversed(images):
            with reader.file(name) as file:
                assert file.read() == images[name]


def test_reading_in_order_fetches_each_chunk_once(faulty: FaultyStore, workload: Workload) -> None:
    images = {f"pages-{number}.img": noise(4 * CHUNK_BYTES, seed=number) for number in range(3)}
    written = store_images(faulty, workload, images)
    with reader_of(faulty, workload, written.images) as reader:
        for name, data in images.items():
            with reader.file(name) as file:
                assert file.read() == data
    assert len(faulty.got) == len(set(faulty.got)) == 12


def test_chunks_are_fetched_ahead_as_far_as_memory_allows_and_no_further(
    faulty: FaultyStore, workload: Workload
) -> None:
    written = store_images(faulty, workload, {"pages-1.img": noise(16 * CHUNK_BYTES)})
    limit = read_budget(TIGHT).chunks
    with reader_of(faulty, workload, written.images) as reader:
        deadline = Deadline.after(20)
        while len(faulty.got) < limit and not deadline.expired():
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(faulty.got) == limit
        assert reader.piece("pages-1.img", 0) is not None


def test_zeros_come_without_any_request(faulty: FaultyStore, workload: Workload) -> None:
    written = store_images(faulty, workload, {"pages-1.img": bytes(3 * CHUNK_BYTES)})
    with reader_of(faulty, workload, written.images) as reader, reader.file("pages-1.img") as file:
        assert file.read() == bytes(3 * CHUNK_BYTES)
    assert faulty.got == []


def test_a_piece_that_has_not_arrived_is_none_and_the_descriptor_tells_when_it_has(
    faulty: FaultyStore, workload: Workload
) -> None:
    data = noise(MIB)
    written = store_images(faulty, workload, {"pages-1.img": data})
    faulty.gate.clear()
    with reader_of(faulty, workload, written.images) as reader:
        assert reader.piece("pages-1.img", 0) is None
        assert not select.select([reader.ready()], [], [], 0.1)[0]
        faulty.gate.set()
        assert select.select([reader.ready()], [], [], 30)[0]
        reader.acknowledge()
        assert not select.select([reader.ready()], [], [], 0)[0]
        piece = reader.piece("pages-1.img", 10)
        assert piece is not None
        assert piece == data[10:]
        assert piece.readonly


def test_sizes_are_known_at_once_and_absent_images_are_none(faulty: FaultyStore, workload: Workload) -> None:
    written = store_images(faulty, workload, {"pages-1.img": noise(12345), "empty.img": b""})
    with reader_of(faulty, workload, written.images) as reader:
        assert reader.size("pages-1.img") == 12345
        assert reader.size("empty.img") == 0
        assert reader.read("empty.img") == b""
        assert reader.size("other.img") is None
        with pytest.raises(StoreError, match=r"no image other\.img"):
            reader.read("other.img")
        with pytest.raises(StoreError, match="no offset"):
            reader.piece("pages-1.img", 12346)


def test_a_file_can_be_read_with_a_buffer_in_front(faulty: FaultyStore, workload: Workload) -> None:
    data = noise(3 * MIB)
    written = store_images(faulty, workload, {"files/0.tar": data})
    with reader_of(faulty, workload, written.images) as reader:
        file = io.BufferedReader(reader.file("files/0.tar"))
        assert file.read(1000) + file.read() == data


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "swap"])
def test_a_harmed_chunk_is_an_error_of_whoever_reads_it(harm: str, store: ObjectStore, workload: Workload) -> None:
    written = store_images(store, workload, {"pages-1.img": noise(MIB)})
    chunk = written.images[0].extents[0].chunk
    assert chunk is not None
    key = chunk_key(workload, chunk)
    stored = bytearray(store.get(key))
    if harm == "flip":
        stored[len(stored) // 2] ^= 1
        store.put(key, bytes(stored))
    elif harm == "cut":
        store.put(key, bytes(stored[:-1]))
    elif harm == "swap":
        other = store_images(store, workload, {"pages-2.img": noise(MIB, seed=9)}).images[0].extents[0].chunk
        assert other is not None
        store.put(key, store.get(chunk_key(workload, other)))
    else:
        store.delete(key)
    with reader_of(store, workload, written.images) as reader, pytest.raises(IntegrityError, match=chunk):
        reader.read("pages-1.img")


def test_what_was_damaged_on_its_way_is_fetched_once_more(faulty: FaultyStore, workload: Workload) -> None:
    data = noise(2 * MIB)
    written = store_images(faulty, workload, {"pages-1.img": data})
    faulty.flips = 1
    with reader_of(faulty, workload, written.images) as reader:
        assert reader.read("pages-1.img") == data


def test_a_failure_makes_the_descriptor_readable_and_is_raised_by_piece(
    faulty: FaultyStore, workload: Workload
) -> None:
    written = store_images(faulty, workload, {"pages-1.img": noise(MIB)})
    chunk = written.images[0].extents[0].chunk
    assert chunk is not None
    faulty.delete(chunk_key(workload, chunk))
    with reader_of(faulty, workload, written.images) as reader:
        assert select.select([reader.ready()], [], [], 30)[0]
        with pytest.raises(IntegrityError):
            reader.piece("pages-1.img", 0)


def test_an_extent_beyond_the_end_of_its_chunk_is_refused(faulty: FaultyStore, workload: Workload) -> None:
    written = store_images(faulty, workload, {"pages-1.img": noise(1000)})
    chunk = written.images[0].extents[0].chunk
    lying = StoredImage(name="pages-1.img", size=2000, extents=(Extent(chunk, 0, 2000),))
    with reader_of(faulty, workload, (lying,)) as reader, pytest.raises(IntegrityError, match="beyond the end"):
        reader.read("pages-1.img")


def test_waiting_for_a_chunk_ends_at_the_deadline(faulty: FaultyStore, workload: Workload) -> None:
    written = store_images(faulty, workload, {"pages-1.img": noise(MIB)})
    faulty.gate.clear()
    with reader_of(faulty, workload, written.images, seconds=0.3) as reader:
        with pytest.raises(DeadlineError):
            reader.read("pages-1.img")
        with pytest.raises(DeadlineError):
            reader.piece("pages-1.img", 0)
        faulty.gate.set()


def test_whoever_waits_is_freed_when_the_reader_is_closed(faulty: FaultyStore, workload: Workload) -> None:
    written = store_images(faulty, workload, {"pages-1.img": noise(MIB)})
    faulty.gate.clear()
    reader = reader_of(faulty, workload, written.images)
    raised: list[BaseException] = []

    def read() -> None:
        try:
            reader.read("pages-1.img")
        except StoreError as error:
            raised.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert faulty.waiting.wait(30)
    reader.close()
    reader.close()
    thread.join(10)
    faulty.gate.set()
    assert len(raised) == 1


def test_progress_ends_at_the_whole(faulty: FaultyStore, workload: Workload) -> None:
    images = {"pages-1.img": noise(2 * CHUNK_BYTES) + bytes(CHUNK_BYTES), "core-1.img": noise(1000)}
    written = store_images(faulty, workload, images)
    total = 3 * CHUNK_BYTES + 1000
    seen: list[TransferProgress] = []
    with ChunkReader(
        faulty, workload, written.images, settings=SMALL, deadline=Deadline.after(60), on_progress=seen.append
    ) as reader:
        for name in images:
            with reader.file(name) as file:
                file.read()
    assert all(step.total_bytes == total for step in seen)
    assert seen[-1].plain_bytes == total
    assert seen[-1].wire_bytes == stored_bytes(faulty, workload, written.images)
