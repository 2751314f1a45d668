"""Images on their way in: whole, once, in bounded memory, and with failures that nobody waits for."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from crikpy.aio.clock import Deadline
from crikpy.errors import DeadlineError, SettingsError, StoreError, StoreFullError
from crikpy.model.streams import TransferProgress
from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings
from crikpy.store.base import ObjectStore
from crikpy.store.chunks import CHUNK_BYTES
from crikpy.store.layout import chunks_prefix
from crikpy.store.writing import ChunkWriter
from tests.store.faulty import FaultyStore
from tests.store.images import MIB, SMALL, load_images, noise, store_images, write

_MEMORY_PROGRAM = Path(__file__).with_name("memory_program.py")


@pytest.fixture
def faulty(local_store: ObjectStore) -> FaultyStore:
    """A directory that can be made to fail."""
    local_store.check()
    return FaultyStore(local_store)


def names_of_chunks(store: ObjectStore, workload: Workload) -> list[str]:
    return sorted(info.key.rpartition("/")[2] for info in store.list(chunks_prefix(workload)))


def test_images_of_every_size_come_back(store: ObjectStore, workload: Workload) -> None:
    sizes = [0, 1, 4095, 4096, MIB - 1, MIB, MIB + 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 20 * MIB]
    images = {f"image-{size}.img": noise(size, seed=size) for size in sizes}
    written = store_images(store, workload, images)
    assert [image.size for image in written.images] == sizes
    assert load_images(store, workload, written.images) == images


def test_images_written_by_many_threads_at_once_come_back(local_store: ObjectStore, workload: Workload) -> None:
    local_store.check()
    images = {f"pages-{number}.img": noise(3 * MIB + number, seed=number) for number in range(24)}
    with ChunkWriter(local_store, workload, settings=SMALL, known=(), deadline=Deadline.after(60)) as writer:
        opened = [(writer.open(name), data) for name, data in images.items()]
        threads = [threading.Thread(target=write, args=pair) for pair in opened]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        written = writer.finish()
    assert load_images(local_store, workload, written.images) == images


def test_more_open_images_than_buffers_never_stand_still(local_store: ObjectStore, workload: Workload) -> None:
    """One thread fills many images in turns, as the capture server does; none is ever closed before the end."""
    local_store.check()
    images = {f"pages-{number}.img": noise(5 * MIB, seed=number) for number in range(30)}
    with ChunkWriter(local_store, workload, settings=SMALL, known=(), deadline=Deadline.after(60)) as writer:
        opened = {name: writer.open(name) for name in images}
        offsets = dict.fromkeys(images, 0)
        while any(offsets[name] < len(data) for name, data in images.items()):
            for name, data in images.items():
                part = data[offsets[name] : offsets[name] + 256 * 1024]
                memory = opened[name].buffer()[: len(part)]
                memory[:] = part[: len(memory)]
                opened[name].advance(len(memory))
                offsets[name] += len(memory)
        for image in opened.values():
            image.close()
        written = writer.finish()
    assert load_images(local_store, workload, written.images) == images


def test_buffers_are_not_lost_to_images_whose_rest_is_packed(local_store: ObjectStore, workload: Workload) -> None:
    """Of many large images, the last ones are cut into whole chunks like the first."""
    local_store.check()
    data = noise(CHUNK_BYTES) + noise(100, seed=1)
    images = {f"pages-{number}.img": data for number in range(40)}
    written = store_images(local_store, workload, images)
    assert {image.extents[0].length for image in written.images} == {CHUNK_BYTES}


def test_buffers_are_not_lost_to_the_indexes_of_very_large_images(
    local_store: ObjectStore, workload: Workload
) -> None:
    local_store.check()
    with ChunkWriter(local_store, workload, settings=SMALL, known=(), deadline=Deadline.after(60)) as writer:
        for number in range(9):  # more than there are buffers, each with an index that is too large to be packed
            image = writer.open(f"pages-{number}.img")
            filled = 0
            while filled < 70 * CHUNK_BYTES:
                room = len(image.buffer())
                image.advance(room)
                filled += room
            image.close()
        write(writer.open("pages-last.img"), noise(CHUNK_BYTES))
        last = writer.finish().images[-1]
    assert [extent.length for extent in last.extents] == [CHUNK_BYTES]


def test_zeros_are_not_stored(local_store: ObjectStore, workload: Workload) -> None:
    local_store.check()
    data = bytes(3 * CHUNK_BYTES) + noise(CHUNK_BYTES) + bytes(CHUNK_BYTES)
    written = store_images(local_store, workload, {"pages-1.img": data})
    (image,) = written.images
    assert [(extent.chunk is None, extent.length) for extent in image.extents] == [
        (True, 3 * CHUNK_BYTES),
        (False, CHUNK_BYTES),
        (True, CHUNK_BYTES),
    ]
    assert written.sizes.zero_bytes == 4 * CHUNK_BYTES
    assert written.sizes.chunks == 1 + len(written.indexes)
    assert len(names_of_chunks(local_store, workload)) == 1 + len(written.indexes)


def test_pages_of_zeros_inside_a_chunk_take_no_room(local_store: ObjectStore, workload: Workload) -> None:
    local_store.check()
    data = b"".join(noise(4096, seed=page) + bytes(4096) for page in range(512))
    written = store_images(local_store, workload, {"pages-1.img": data})
    assert written.sizes.zero_bytes == 2 * MIB
    assert written.sizes.stored_bytes < 2 * MIB + 1024


def test_equal_chunks_are_stored_once(local_store: ObjectStore, workload: Workload) -> None:
    local_store.check()
    data = noise(CHUNK_BYTES) * 4
    written = store_images(local_store, workload, {"pages-1.img": data})
    assert written.sizes.chunks == 1 + len(written.indexes)
    assert written.sizes.reused_bytes == 3 * CHUNK_BYTES
    assert load_images(local_store, workload, written.images) == {"pages-1.img": data}


def test_a_second_checkpoint_stores_only_what_has_changed(faulty: FaultyStore, workload: Workload) -> None:
    first = store_images(faulty, workload, {"pages-1.img": noise(4 * CHUNK_BYTES)})
    known = frozenset(extent.chunk for extent in first.images[0].extents if extent.chunk)
    faulty.calls.clear()
    changed = noise(4 * CHUNK_BYTES)[: 3 * CHUNK_BYTES] + noise(CHUNK_BYTES, seed=7)
    second = store_images(faulty, workload, {"pages-1.img": changed}, known=known)
    assert faulty.calls == {"put": 1 + len(second.indexes)}
    assert second.sizes.chunks == 1 + len(second.indexes)
    assert second.sizes.reused_bytes == 3 * CHUNK_BYTES
    assert load_images(faulty, workload, second.images) == {"pages-1.img": changed}


def test_hundreds_of_small_images_become_few_requests(faulty: FaultyStore, workload: Workload) -> None:
    images = {f"core-{number}.img": noise(20_000 + number, seed=number) for number in range(300)}
    written = store_images(faulty, workload, images)
    assert faulty.calls == {"put": 1}
    assert load_images(faulty, workload, written.images) == images


def test_a_file_object_writes_an_image(local_store: ObjectStore, workload: Workload) -> None:
    local_store.check()
    data = noise(3 * MIB)
    with ChunkWriter(local_store, workload, settings=SMALL, known=(), deadline=Deadline.after(60)) as writer:
        with writer.file("files/0.tar") as file:
            assert file.write(data[:MIB]) == MIB
            assert file.write(memoryview(data)[MIB:]) == 2 * MIB
        written = writer.finish()
    assert load_images(local_store, workload, written.images) == {"files/0.tar": data}


def test_progress_ends_at_the_whole(local_store: ObjectStore, workload: Workload) -> None:
    local_store.check()
    seen: list[TransferProgress] = []
    with ChunkWriter(
        local_store, workload, settings=SMALL, known=(), deadline=Deadline.after(60), on_progress=seen.append
    ) as writer:
        write(writer.open("pages-1.img"), noise(20 * MIB))
        written = writer.finish()
    assert [step.plain_bytes for step in seen] == sorted(step.plain_bytes for step in seen)
    assert seen[-1].plain_bytes == 20 * MIB
    assert seen[-1].wire_bytes == written.sizes.stored_bytes


def test_the_first_failure_is_raised_by_the_next_buffer_and_by_finish(
    faulty: FaultyStore, workload: Workload
) -> None:
    faulty.write_fault = StoreFullError("no room left")
    with ChunkWriter(faulty, workload, settings=SMALL, known=(), deadline=Deadline.after(60)) as writer:
        image = writer.open("pages-1.img")
        with pytest.raises(StoreFullError, match="no room left"):
            while True:
                memory = image.buffer()
                memory[:8] = noise(8)
                image.advance(len(memory))
        image.closed = True
        with pytest.raises(StoreFullError, match="no room left"):
            writer.finish()


def fill_until_it_waits(faulty: FaultyStore, writer: ChunkWriter) -> tuple[threading.Thread, list[BaseException]]:
    """Write from a thread until no memory is left, since no put comes back."""
    faulty.gate.clear()
    raised: list[BaseException] = []

    def fill() -> None:
        image = writer.open("pages-1.img")
        try:
            for number in range(1000):
                memory = image.buffer()
                memory[:] = noise(8, seed=number) * (len(memory) // 8)
                image.advance(len(memory))
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            raised.append(error)

    thread = threading.Thread(target=fill)
    thread.start()
    assert faulty.waiting.wait(30)
    thread.join(0.3)
    assert thread.is_alive()
    return thread, raised


def test_whoever_waits_for_memory_is_freed_by_an_abort(faulty: FaultyStore, workload: Workload) -> None:
    with ChunkWriter(faulty, workload, settings=SMALL, known=(), deadline=Deadline.after(60)) as writer:
        thread, raised = fill_until_it_waits(faulty, writer)
        writer.abort(StoreError("CRIU failed"))
        thread.join(10)
        faulty.gate.set()
    assert not thread.is_alive()
    assert [str(error) for error in raised] == ["CRIU failed"]


def test_whoever_waits_for_memory_is_freed_by_a_failed_upload(faulty: FaultyStore, workload: Workload) -> None:
    with ChunkWriter(faulty, workload, settings=SMALL, known=(), deadline=Deadline.after(60)) as writer:
        thread, raised = fill_until_it_waits(faulty, writer)
        faulty.write_fault = StoreFullError("no room left")
        faulty.gate.set()
        thread.join(10)
    assert [str(error) for error in raised] == ["no room left"]


def test_waiting_for_memory_ends_at_the_deadline(faulty: FaultyStore, workload: Workload) -> None:
    with ChunkWriter(faulty, workload, settings=SMALL, known=(), deadline=Deadline.after(1.0)) as writer:
        thread, raised = fill_until_it_waits(faulty, writer)
        thread.join(10)
        faulty.gate.set()
    assert [type(error) for error in raised] == [DeadlineError]


def test_finish_ends_at_the_deadline(faulty: FaultyStore, workload: Workload) -> None:
    with ChunkWriter(faulty, workload, settings=SMALL, known=(), deadline=Deadline.after(0.5)) as writer:
        faulty.gate.clear()
        write(writer.open("pages-1.img"), noise(MIB))
        with pytest.raises(DeadlineError):
            writer.finish()
        faulty.gate.set()


def test_an_image_that_was_never_closed_is_not_taken_for_whole(
    local_store: ObjectStore, workload: Workload
) -> None:
    local_store.check()
    with ChunkWriter(local_store, workload, settings=SMALL, known=(), deadline=Deadline.after(60)) as writer:
        writer.open("pages-1.img").buffer()
        with pytest.raises(StoreError, match=r"pages-1\.img"):
            writer.finish()


def test_one_name_cannot_be_written_twice(local_store: ObjectStore, workload: Workload) -> None:
    with ChunkWriter(local_store, workload, settings=SMALL, known=(), deadline=Deadline.after(60)) as writer:
        writer.open("pages-1.img")
        with pytest.raises(StoreError, match="twice"):
            writer.open("pages-1.img")


def test_too_little_memory_is_refused_with_the_least_that_works(
    local_store: ObjectStore, workload: Workload
) -> None:
    with pytest.raises(SettingsError, match="CRIKPY_STORE_MEMORY_BYTES"):
        ChunkWriter(
            local_store,
            workload,
            settings=StoreSettings(memory_bytes=64 * MIB),
            known=(),
            deadline=Deadline.after(60),
        )


@pytest.mark.parametrize(
    ("kind", "limit", "size"),
    [("local", 512 * MIB, 720 * MIB), pytest.param("s3", 256 * MIB, 320 * MIB, marks=pytest.mark.s3)],
)
def test_the_whole_program_stays_within_its_memory(
    kind: str, limit: int, size: int, request: pytest.FixtureRequest
) -> None:
    """More than fits goes into a store and comes out of it again within one program."""
    store: ObjectStore = request.getfixturevalue(f"{kind}_store")
    store.check()
    done = subprocess.run(
        [sys.executable, str(_MEMORY_PROGRAM), store.url, str(limit), str(size)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < limit, f"used {int(done.stdout) // MIB} MiB"


def test_memory_that_was_made_ready_is_what_is_written_into(local_store: ObjectStore, workload: Workload) -> None:
    local_store.check()
    data = noise(3 * CHUNK_BYTES)
    with ChunkWriter(
        local_store, workload, settings=SMALL, known=(), deadline=Deadline.after(60), staging_bytes=2 * CHUNK_BYTES
    ) as writer:
        writer.prepare(len(data))
        write(writer.open("pages-1.img"), data)
        written = writer.finish()
    assert load_images(local_store, workload, written.images) == {"pages-1.img": data}


def test_staged_memory_takes_in_what_the_store_does_not_take_yet(
    local_store: ObjectStore, workload: Workload
) -> None:
    local_store.check()
    faulty = FaultyStore(local_store)
    faulty.gate.clear()
    data = noise(CHUNK_BYTES) * 30  # twice what the settings alone allow
    with ChunkWriter(
        faulty, workload, settings=SMALL, known=(), deadline=Deadline.after(60), staging_bytes=30 * CHUNK_BYTES
    ) as writer:
        write(writer.open("pages-1.img"), data)
        faulty.gate.set()
        written = writer.finish()
    assert load_images(local_store, workload, written.images) == {"pages-1.img": data}
