"""Images on their way into the store, cut into chunks while they are written.

The one who writes is lent memory and waits only when all of it is on its way (buffers.py); threads do the rest
(uploading.py). Nothing here commits anything: chunks without a manifest are not a checkpoint.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Final

from crikpy.aio.clock import Deadline
from crikpy.errors import CrikpyError, StoreError
from crikpy.model.manifest import Extent, Sizes, StoredImage
from crikpy.model.streams import TransferProgress, WrittenImages
from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings
from crikpy.store.base import ObjectStore
from crikpy.store.buffers import SPARE_BYTES
from crikpy.store.files import ImageOutput
from crikpy.store.pacing import Pace
from crikpy.store.uploading import Cut, Uploads

_FIRST_BYTES: Final = 64 * 1024
_GROWTH: Final = 4
_PACKED_BELOW: Final = SPARE_BYTES


class ChunkWriter:
    """Takes the images of one checkpoint (crikpy.model.streams.ImageSink).

    Use it as a context: leaving it before `finish` has returned stops its threads.
    """

    def __init__(
        self,
        store: ObjectStore,
        workload: Workload,
        *,
        settings: StoreSettings,
        known: Collection[str],
        deadline: Deadline,
        on_progress: Callable[[TransferProgress], None] | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Start the threads.

        Args:
            store: where chunks go.
            workload: whose chunks they are.
            settings: bounds of memory and of requests.
            known: names of chunks that complete checkpoints of this workload refer to; trusted without a look.
            deadline: nothing waits longer.
            on_progress: called from any thread, one call at a time; it must be quick.
            pace: bounds the bandwidth instead of the settings.

        Raises:
            SettingsError: the memory does not suffice.
        """
        self._uploads = Uploads(
            store,
            workload,
            settings=settings,
            known=known,
            deadline=deadline,
            on_progress=on_progress,
            pace=pace,
        )
        self._packer = _Packer(self._uploads)
        self._images: dict[str, _OpenImage] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> ChunkWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def open(self, name: str) -> _OpenImage:
        """Begin an image (crikpy.model.streams.ImageWriter).

        Raises:
            StoreError: there is one of that name.
        """
        with self._lock:
            if name in self._images:
                raise StoreError(f"image {name} was written twice")
            image = _OpenImage(self._uploads, self._packer)
            self._images[name] = image
            return image

    def file(self, name: str) -> io.RawIOBase:
        """Begin an image that is written like a file; closing the file ends it."""
        return ImageOutput(self.open(name))

    def finish(self) -> WrittenImages:
        """Wait until everything is stored, and say where.

        Raises:
            StoreError: an image was never closed.
            DeadlineError: it did not finish in time.
            CrikpyError: the first failure of any upload.
        """
        with self._lock:
            images = dict(self._images)
        if unfinished := [name for name, image in images.items() if not image.closed]:
            raise StoreError(f"images were never closed: {', '.join(unfinished)}")
        self._packer.flush()
        self._uploads.drain()
        tally = self._uploads.tally
        written = tuple(image.stored(name) for name, image in images.items())
        sizes = Sizes(
            image_bytes=sum(image.size for image in written),
            zero_bytes=tally.zero_bytes,
            reused_bytes=tally.reused_bytes,
            stored_bytes=tally.stored_bytes,
            chunks=tally.chunks,
        )
        return WrittenImages(images=written, sizes=sizes)

    def abort(self, reason: CrikpyError | None = None) -> None:
        """Stop; whoever waits in here gets the first failure, or this reason. Harmless after `finish`."""
        self._uploads.fail(reason or StoreError("the upload was given up"))


class _OpenImage:
    """One image that is being written, by one thread.

    It begins in a little memory of its own, since most images are tiny and many are open for a whole dump; only
    one that outgrows it takes a chunk's buffer.
    """

    def __init__(self, uploads: Uploads, packer: _Packer) -> None:
        self.closed = False
        self._uploads = uploads
        self._packer = packer
        self._memory: memoryview | None = None
        self._filled = 0
        self._lent = 0
        self._parts: list[tuple[Cut, int, int]] = []

    def buffer(self) -> memoryview:
        """Lend what is left of the memory, or new memory."""
        self._uploads.check()
        if self._memory is None:
            self._memory = self._uploads.memory() if self._parts else memoryview(bytearray(_FIRST_BYTES))
        elif self._filled == len(self._memory):
            self._memory = self._enlarge(self._memory)
        rest = self._memory[self._filled :]
        self._lent = len(rest)
        return rest

    def advance(self, count: int) -> None:
        """Count the bytes in, and send the chunk when it is full."""
        if not 0 <= count <= self._lent:
            raise StoreError(f"{count} bytes were written into memory for {self._lent}")
        self._lent -= count
        self._filled += count
        if self._memory is None or self._filled < len(self._memory):
            return
        if self._parts or len(self._memory) > _PACKED_BELOW:
            self._send(self._memory)
            self._memory = None

    def close(self) -> None:
        """Send the rest, together with the rests of other images when it is little."""
        if self.closed:
            return
        self._uploads.check()
        if self._memory is not None and self._filled:
            if self._filled < _PACKED_BELOW:
                cut, offset = self._packer.add(self._memory[: self._filled])
                self._parts.append((cut, offset, self._filled))
            else:
                self._send(self._memory)
        self._memory = None
        self.closed = True

    def stored(self, name: str) -> StoredImage:
        """Return where the image lies; known once everything is stored."""
        extents: list[Extent] = []
        for cut, offset, length in self._parts:
            if cut.chunk is None and extents and extents[-1].chunk is None:
                extents[-1] = Extent(None, 0, extents[-1].length + length)
            else:
                extents.append(Extent(cut.chunk, 0 if cut.chunk is None else offset, length))
        return StoredImage(name=name, size=sum(extent.length for extent in extents), extents=tuple(extents))

    def _enlarge(self, full: memoryview) -> memoryview:
        """Move the first bytes into more memory; where there is none but a spare buffer, they are a chunk."""
        size = len(full) * _GROWTH
        larger = memoryview(bytearray(size)) if size <= _PACKED_BELOW else self._uploads.memory()
        if len(larger) > self._filled:
            larger[: self._filled] = full
        else:
            self._send(full)
        return larger

    def _send(self, memory: memoryview) -> None:
        cut = Cut()
        self._uploads.send(cut, memory, self._filled)
        self._parts.append((cut, 0, self._filled))
        self._filled = 0


class _Packer:
    """Puts small images together, so that hundreds of them become a few requests."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._lock = threading.Lock()
        self._cut = Cut()
        self._memory: memoryview | None = None
        self._filled = 0

    def add(self, data: memoryview) -> tuple[Cut, int]:
        """Copy a small image; return its chunk to be and its offset there."""
        with self._lock:
            if self._memory is not None and self._filled + len(data) > len(self._memory):
                self._flush(self._memory)
            if self._memory is None:
                self._memory = self._uploads.memory()
            offset = self._filled
            self._memory[offset : offset + len(data)] = data
            self._filled += len(data)
            return self._cut, offset

    def flush(self) -> None:
        """Send what has come together."""
        with self._lock:
            if self._memory is not None:
                self._flush(self._memory)

    def _flush(self, memory: memoryview) -> None:
        self._uploads.send(self._cut, memory, self._filled)
        self._cut, self._memory, self._filled = Cut(), None, 0
