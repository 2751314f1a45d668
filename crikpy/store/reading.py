"""Images on their way out of the store: chunks are fetched ahead, checked, and held while somebody needs them.

Memory is bounded by the bytes of the chunks held (caching.py decides which). A chunk that somebody asks for always
gets its turn before those that are only fetched ahead. Every byte given out has passed the check of its hash.
"""

from __future__ import annotations

import bisect
import contextlib
import io
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from types import TracebackType
from typing import Final

from crikpy import tracing
from crikpy.aio.clock import Deadline
from crikpy.aio.threads import Thread
from crikpy.errors import CrikpyError, IntegrityError, ObjectNotFoundError, StoreError
from crikpy.model.manifest import Extent, StoredImage
from crikpy.model.streams import TransferProgress
from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings
from crikpy.store.base import ObjectStore
from crikpy.store.budget import read_budget
from crikpy.store.caching import ChunkCache
from crikpy.store.chunks import CHUNK_BYTES, ChunkDecoder
from crikpy.store.files import ImageInput
from crikpy.store.layout import chunk_key

_log = logging.getLogger(__name__)

_ZEROS: Final = memoryview(bytes(1024 * 1024))
_NAP_S: Final = 0.5
"""Longest wait of a thread for memory that is freed by the passing of time alone."""
_MOST_READ_BYTES: Final = 64 * 1024 * 1024


class ChunkReader:
    """Gives the images of one checkpoint back (crikpy.model.streams.ImageSource).

    Use it as a context: leaving it stops its threads.
    """

    def __init__(
        self,
        store: ObjectStore,
        workload: Workload,
        images: Sequence[StoredImage],
        *,
        settings: StoreSettings,
        deadline: Deadline,
        on_progress: Callable[[TransferProgress], None] | None = None,
    ) -> None:
        """Start the threads, which begin to fetch at once in the order of the images.

        Args:
            store: where the chunks lie.
            workload: whose chunks they are.
            images: those of a manifest, or the ones among them that will be read.
            settings: bounds of memory and of requests.
            deadline: nothing waits longer.
            on_progress: called from any thread, one call at a time; it must be quick.

        Raises:
            SettingsError: the memory does not suffice.
        """
        budget = read_budget(settings)
        self._told = tracing.start("download", workload=str(workload))
        self._store = store
        self._workload = workload
        self._deadline = deadline
        self._on_progress = on_progress
        self._images = {image.name: _Image(image) for image in images}
        self._cache = ChunkCache(
            {name: image.chunks for name, image in self._images.items()},
            budget.chunks * CHUNK_BYTES,
            largest=CHUNK_BYTES,
        )
        self._missing = _bytes_by_chunk(images)
        self._total = sum(image.size for image in images)
        self._plain = self._total - sum(self._missing.values())
        self._wire = 0
        self._failure: CrikpyError | None = None
        self._stopped = False
        self._changed = threading.Condition()
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        for number in range(budget.fetches):
            Thread(target=self._work, name=f"crikpy-fetch-{number}", daemon=True).start()

    def __enter__(self) -> ChunkReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def size(self, name: str) -> int | None:
        """Return an image's length in bytes, or None when there is no such image."""
        image = self._images.get(name)
        return None if image is None else image.size

    def piece(self, name: str, offset: int) -> memoryview | None:
        """Return bytes of an image at an offset; empty at its end; None while they are being fetched.

        Reading is meant to go forward: chunks that it has passed are dropped. The memory stays whole for as long
        as the piece is referred to, but counts against no bound then, so keep few.

        Raises:
            IntegrityError: the chunk there is missing or damaged.
            DeadlineError: it has not come in time.
            CrikpyError: any other failure of any chunk.
        """
        image = self._image(name)
        with self._changed:
            extent, start = image.seek(offset, self._cache)
            if extent is None:
                return _ZEROS[:0]
            if extent.chunk is None:
                return _ZEROS[: extent.length - start]
            plain = self._cache.get(name, image.index, time.monotonic())
            if plain is None:
                self._require_progress()
                self._changed.notify_all()
                return None
            if extent.offset + extent.length > len(plain):
                raise IntegrityError(f"image {name} refers to bytes beyond the end of chunk {extent.chunk}")
            return plain[extent.offset + start : extent.offset + extent.length]

    def ready(self) -> int:
        """Return a descriptor that becomes readable when something asked for has arrived or failed."""
        return self._eventfd

    def acknowledge(self) -> None:
        """Make the descriptor unreadable again; call it before asking for pieces anew."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._eventfd)

    def read(self, name: str) -> bytes:
        """Return a whole small image, waiting for it."""
        size = self._image(name).size
        if size > _MOST_READ_BYTES:
            raise StoreError(f"image {name} is too large to be read at once: {size} bytes")
        with self.file(name) as file:
            return file.read()

    def file(self, name: str) -> io.RawIOBase:
        """Return an image as a file that waits for what has not arrived; not seekable."""
        self._image(name)
        return ImageInput(partial(self._await_piece, name))

    def close(self) -> None:
        """Stop fetching; whoever waits in here gets an error."""
        with self._changed:
            if not self._stopped:
                self._stopped = True
                self._failure = self._failure or StoreError("the download was given up")
                self._cache.clear()
                self._changed.notify_all()
                os.close(self._eventfd)
                self._told.note(bytes=self._plain, wire_bytes=self._wire)
                self._told.end()

    def _image(self, name: str) -> _Image:
        image = self._images.get(name)
        if image is None:
            raise StoreError(f"the checkpoint has no image {name}")
        return image

    def _require_progress(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._deadline.check("fetching the checkpoint")

    def _await_piece(self, name: str, offset: int) -> memoryview:
        with self._changed:
            while (piece := self.piece(name, offset)) is None:
                self._changed.wait(self._deadline.remaining())
            return piece

    def _work(self) -> None:
        try:
            decoder = ChunkDecoder()
            while (chunk := self._next()) is not None:
                self._arrived(chunk, *self._fetch(decoder, chunk))
        except ObjectNotFoundError as absent:
            missing = IntegrityError(f"a chunk of the checkpoint is missing: {absent.message}")
            missing.__cause__ = absent
            self._fail(missing)
        except CrikpyError as failure:
            self._fail(failure)
        except Exception as defect:  # noqa: BLE001  # a dead thread must not leave its reader waiting
            unexpected = StoreError(f"a chunk could not be fetched: {defect!r}")
            unexpected.__cause__ = defect
            self._fail(unexpected)

    def _fetch(self, decoder: ChunkDecoder, chunk: str) -> tuple[memoryview, int]:
        """Return a chunk and how many bytes it took; what comes damaged may have been damaged on its way."""
        stored = self._store.get(chunk_key(self._workload, chunk))
        try:
            return decoder.decode(chunk, stored), len(stored)
        except IntegrityError as damaged:
            _log.warning("a chunk came damaged and is fetched once more: %s", damaged)
            stored = self._store.get(chunk_key(self._workload, chunk))
            return decoder.decode(chunk, stored), len(stored)

    def _next(self) -> str | None:
        with self._changed:
            while not self._stopped and self._failure is None:
                chunk = self._cache.next_fetch(time.monotonic())
                if chunk is not None:
                    return chunk
                self._changed.wait(_NAP_S)
            return None

    def _arrived(self, chunk: str, plain: memoryview, stored: int) -> None:
        with self._changed:
            if self._stopped:
                return
            asked = self._cache.arrived(chunk, plain.toreadonly(), time.monotonic())
            self._plain += self._missing.pop(chunk, 0)
            self._wire += stored
            if self._on_progress is not None:
                self._on_progress(
                    TransferProgress(plain_bytes=self._plain, wire_bytes=self._wire, total_bytes=self._total)
                )
            self._changed.notify_all()
            if asked:
                os.eventfd_write(self._eventfd, 1)

    def _fail(self, failure: CrikpyError) -> None:
        with self._changed:
            if self._failure is None and not self._stopped:
                self._failure = failure
                self._changed.notify_all()
                os.eventfd_write(self._eventfd, 1)


class _Image:
    """An image and how far its reader has come."""

    def __init__(self, image: StoredImage) -> None:
        self.size = image.size
        self.chunks = [extent.chunk for extent in image.extents if extent.chunk is not None]
        self._name = image.name
        self._extents = image.extents
        self._starts = list(accumulate((extent.length for extent in image.extents), initial=0))
        self._indexes = list(accumulate((extent.chunk is not None for extent in image.extents), initial=0))
        self._at = 0

    @property
    def index(self) -> int:
        """Return which of the chunks the reader is at; the next one while it is in zeros."""
        return self._indexes[self._at]

    def seek(self, offset: int, cache: ChunkCache) -> tuple[Extent | None, int]:
        """Return the extent at an offset, None at the end, and the offset within it; tell what was passed."""
        if not 0 <= offset <= self.size:
            raise StoreError(f"image {self._name} has no offset {offset}")
        at = bisect.bisect_right(self._starts, offset) - 1
        before, self._at = self._at, at
        if at > before:
            cache.passed(self._name, self._indexes[before], self._indexes[at])
        if at == len(self._extents):
            return None, 0
        return self._extents[at], offset - self._starts[at]


def _bytes_by_chunk(images: Sequence[StoredImage]) -> dict[str, int]:
    """Return how many bytes of the images lie in each chunk."""
    total: Counter[str] = Counter()
    for image in images:
        for extent in image.extents:
            if extent.chunk is not None:
                total[extent.chunk] += extent.length
    return dict(total)
