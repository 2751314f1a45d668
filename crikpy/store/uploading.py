"""The threads between buffers and the store: find zeros and what is stored already, hash, compress, upload.

It knows chunks and pages, and of images only what an earlier checkpoint had in their place. The first failure ends
the work: what waits is dropped, whoever asks next is told. Uploads that are under way then end by themselves and
change nothing, since chunks have no meaning alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from crikpy.aio.clock import Deadline
from crikpy.aio.threads import Thread
from crikpy.errors import CrikpyError, DeadlineError, StoreError
from crikpy.model.manifest import Extent
from crikpy.model.streams import TransferProgress
from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings
from crikpy.store.base import ObjectStore
from crikpy.store.budget import write_budget
from crikpy.store.buffers import BufferPool
from crikpy.store.chunks import CHUNK_BYTES, ChunkEncoder, ChunkMemory, Pages, chunk_name, close_gaps, zero_bytes
from crikpy.store.comparing import Allowance, compared
from crikpy.store.layout import chunk_key
from crikpy.store.pacing import Pace
from crikpy.store.pages import Digests, page_digests, zero_pages
from crikpy.store.recalling import KnownImage


@dataclass(slots=True, eq=False)
class Cut:
    """Bytes on their way into the store; the threads say where they have come to lie.

    Attributes:
        known: the image of an earlier checkpoint that they may have pages in common with.
        first: the number of their first page in their own image.
        of_index: they are no bytes of the job's but of an index (recalling.py).
        extents: where they lie, once that is known.
        digests: of their pages, known at the same time.
    """

    known: KnownImage | None = None
    first: int = 0
    of_index: bool = False
    extents: tuple[Extent, ...] | None = None
    digests: Digests | None = None


@dataclass(slots=True)
class Tally:
    """What has happened so far, in bytes; the shares of Sizes that only the threads know."""

    plain_bytes: int = 0
    zero_bytes: int = 0
    reused_bytes: int = 0
    stored_bytes: int = 0
    chunks: int = 0


class Uploads:
    """Takes filled buffers and stores them as chunks; safe for many threads."""

    def __init__(
        self,
        store: ObjectStore,
        workload: Workload,
        *,
        settings: StoreSettings,
        known: Collection[str],
        deadline: Deadline,
        on_progress: Callable[[TransferProgress], None] | None,
        pace: Pace | None = None,
        staging_bytes: int = 0,
    ) -> None:
        budget = write_budget(settings)
        self.tally = Tally()
        self._store = store
        self._workload = workload
        self._level = settings.compression
        self._pace = pace or Pace(settings.upload_bytes_per_s)
        self._seen = set(known)
        self._deadline = deadline
        self._on_progress = on_progress
        self._pool = BufferPool(budget.buffers + staging_bytes // CHUNK_BYTES, deadline)
        self._queue: deque[tuple[Cut, ChunkMemory, int]] = deque()
        self._pending = 0
        self._allowance = Allowance()
        self._stopped = False
        self._failure: CrikpyError | None = None
        self._changed = threading.Condition()
        for number in range(budget.uploads):
            Thread(target=self._work, name=f"crikpy-upload-{number}", daemon=True).start()

    def prepare(self, size: int) -> None:
        """Have memory ready for so many bytes, or as much as there may be."""
        self._pool.prepare(-(-size // CHUNK_BYTES))

    def memory(self) -> ChunkMemory:
        """Lend a buffer; see BufferPool.take."""
        try:
            return self._pool.take()
        except DeadlineError as late:
            self.fail(late)
            raise

    def spare(self, buffer: ChunkMemory) -> None:
        """Give a buffer back of which nothing is to be sent."""
        self._pool.take_back(buffer)

    def send(self, cut: Cut, buffer: ChunkMemory, length: int) -> None:
        """Store the first bytes of a buffer; the buffer is given back by the threads."""
        self.check()
        self._pool.send()
        with self._changed:
            self._queue.append((cut, buffer, length))
            self._pending += 1
            self._changed.notify()

    def drain(self) -> None:
        """Wait until everything sent is stored.

        Raises:
            DeadlineError: it is not, at the deadline.
            CrikpyError: the first failure.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failure or not self._pending, self._deadline.remaining())
            late = self._pending and not self._failure
        if late:
            self.fail(DeadlineError("out of time before everything was uploaded"))
        self.check()

    def end(self) -> None:
        """Let the threads go; everything is stored."""
        self._pool.close()
        self._stop()

    def fail(self, failure: CrikpyError) -> None:
        """End everything with this error unless there was one before."""
        with self._changed:
            self._failure = self._failure or failure
            self._queue.clear()
            failure = self._failure
        self._pool.fail(failure)
        self._stop()

    def check(self) -> None:
        """Raise the first failure if there was any."""
        if self._failure is not None:
            raise self._failure

    def _stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            encoder = ChunkEncoder(self._level)
            while (job := self._next()) is not None:
                self._handle(*job, encoder)
        except CrikpyError as failure:
            self.fail(failure)
        except Exception as defect:  # noqa: BLE001  # a dead thread must not leave its writer waiting
            unexpected = StoreError(f"a chunk could not be stored: {defect!r}")
            unexpected.__cause__ = defect
            self.fail(unexpected)

    def _next(self) -> tuple[Cut, ChunkMemory, int] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._queue)
            return None if self._stopped else self._queue.popleft()

    def _handle(self, cut: Cut, buffer: ChunkMemory, length: int, encoder: ChunkEncoder) -> None:
        self._pace.settle()
        plain = buffer.plain[:length]
        digests = page_digests(plain)
        zero = zero_pages(digests, length)
        zeros = zero_bytes(zero, length)
        seen = compared(cut.known, cut.first, digests, zero, length)
        if seen is not None and not self._allowance.take(len(seen.pieces)):
            seen = None
        if seen is None:
            kept, chunk = length, chunk_name(plain) if zeros < length else None
            cut.extents = (Extent(chunk, 0, length),)
        else:
            kept, zero = close_gaps(plain, ~seen.fresh), seen.fresh[:0]
            chunk = chunk_name(plain[:kept]) if kept else None
            cut.extents = seen.extents(chunk)
        cut.digests = digests
        stored = self._store_chunk(chunk, buffer, kept, zero, encoder)
        if cut.of_index:
            length = zeros = kept = 0
        self._count(length, zeros, length - zeros if seen is None else kept, stored)

    def _store_chunk(
        self, chunk: str | None, buffer: ChunkMemory, length: int, zero: Pages, encoder: ChunkEncoder
    ) -> int | None:
        """Store a chunk unless it is there, or there is none, and give its buffer back; return its stored size."""
        if chunk is None or not self._is_new(chunk):
            self._pool.give_back(buffer)
            return None
        stored, in_place = encoder.encode(buffer, length, zero)
        if not in_place:
            self._pool.give_back(buffer)
        self._pace.wait(len(stored), self._deadline)
        self._store.put(chunk_key(self._workload, chunk), stored)
        if in_place:
            self._pool.give_back(buffer)
        return len(stored)

    def _is_new(self, chunk: str) -> bool:
        """Say whether it must be stored; one that another thread is storing counts as stored, or all fails."""
        with self._changed:
            new = chunk not in self._seen
            self._seen.add(chunk)
            return new

    def _count(self, length: int, zeros: int, fresh: int, stored: int | None) -> None:
        """Add up: bytes, zeros among them, bytes that needed a chunk, and its stored size if it is new."""
        with self._changed:
            self.tally.plain_bytes += length
            self.tally.zero_bytes += zeros
            self.tally.reused_bytes += length - zeros - (0 if stored is None else fresh)
            if stored is not None:
                self.tally.stored_bytes += stored
                self.tally.chunks += 1
            if self._on_progress is not None:
                self._on_progress(
                    TransferProgress(plain_bytes=self.tally.plain_bytes, wire_bytes=self.tally.stored_bytes)
                )
            self._pending -= 1
            self._changed.notify_all()
