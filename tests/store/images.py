"""Images for tests: made from few words, written and read back whole."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from crikpy.aio.clock import Deadline
from crikpy.model.manifest import Compatibility, Job, Manifest, Origin, Sizes, StoredImage
from crikpy.model.streams import ImageWriter, WrittenImages
from crikpy.model.workload import Workload
from crikpy.names import FORMAT_VERSION
from crikpy.settings import StoreSettings
from crikpy.store.base import ObjectStore
from crikpy.store.layout import chunk_key
from crikpy.store.reading import ChunkReader
from crikpy.store.recalling import KnownPages
from crikpy.store.writing import ChunkWriter

MIB = 1024 * 1024
SMALL = StoreSettings(memory_bytes=256 * MIB, transfers=4)


def noise(size: int, seed: int = 0) -> bytes:
    """Return bytes that cannot be compressed and are the same each time."""
    return random.Random(seed).randbytes(size)


def write(image: ImageWriter, data: bytes) -> None:
    """Write a whole image the way a pipe is read: as much as fits each time."""
    rest = memoryview(data)
    while rest:
        memory = image.buffer()
        count = min(len(memory), len(rest))
        memory[:count] = rest[:count]
        image.advance(count)
        rest = rest[count:]
    image.close()


def store_images(
    store: ObjectStore,
    workload: Workload,
    images: Mapping[str, bytes],
    *,
    known: frozenset[str] = frozenset(),
    pages: KnownPages | None = None,
    settings: StoreSettings = SMALL,
) -> WrittenImages:
    """Write images one after another."""
    with ChunkWriter(
        store, workload, settings=settings, known=known, pages=pages, deadline=Deadline.after(60)
    ) as writer:
        for name, data in images.items():
            write(writer.open(name), data)
        return writer.finish()


def load_images(
    store: ObjectStore, workload: Workload, images: tuple[StoredImage, ...], *, settings: StoreSettings = SMALL
) -> dict[str, bytes]:
    """Read images one after another."""
    found = {}
    with ChunkReader(store, workload, images, settings=settings, deadline=Deadline.after(60)) as reader:
        for image in images:
            with reader.file(image.name) as file:
                found[image.name] = file.read()
    return found


def stored_bytes(store: ObjectStore, workload: Workload, images: Sequence[StoredImage]) -> int:
    """Return how large the objects of all chunks of some images are."""
    chunks = {extent.chunk for image in images for extent in image.extents if extent.chunk}
    return sum(len(store.get(chunk_key(workload, chunk))) for chunk in chunks)


def known_pages(store: ObjectStore, workload: Workload, written: WrittenImages) -> KnownPages:
    """Return what the checkpoint with those images lets a later one know."""
    manifest = manifest_of(workload, "20250131T120000Z-00000000", (*written.images, *written.indexes))
    return KnownPages(store, workload, manifest)


def manifest_of(
    workload: Workload,
    checkpoint: str,
    images: tuple[StoredImage, ...] = (),
    sizes: Sizes | None = None,
    created: str = "2025-01-31T12:00:00Z",
) -> Manifest:
    """Return a manifest in which only the images matter."""
    return Manifest(
        format=FORMAT_VERSION,
        checkpoint=checkpoint,
        workload=str(workload),
        created=created,
        release="0.1.0",
        origin=Origin(host="node-a", instance="i-0123456789abcdef0", boot_id="boot", trigger="Manual"),
        job=Job(command=("train",), root_pid=9001, highest_pid=9003, processes=(), stdio=()),
        compatibility=Compatibility(
            architecture="x86_64",
            page_size=4096,
            kernel="6.18",
            criu="4.2.1",
            cpu_model="",
            cpu_features=("sse2",),
        ),
        images=images,
        sizes=sizes or Sizes(image_bytes=0, zero_bytes=0, reused_bytes=0, stored_bytes=0, chunks=0),
    )
