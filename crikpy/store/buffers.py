"""Chunk-sized memory for images that are being written: a fixed number of buffers, lent and given back.

It decides who waits. A writer waits only while some buffer is on its way to the store and will come back; when
open images hold them all, waiting would be for ever, so a small buffer outside the budget keeps them moving.
"""

from __future__ import annotations

import threading
from typing import Final

from crikpy.aio.clock import Deadline
from crikpy.errors import CrikpyError, DeadlineError
from crikpy.store.chunks import CHUNK_BYTES, ChunkMemory

SPARE_BYTES: Final = 1024 * 1024
"""Size of the buffers outside the budget."""


class BufferPool:
    """Buffers of CHUNK_BYTES; safe for many threads."""

    def __init__(self, limit: int, deadline: Deadline) -> None:
        self._limit = limit
        self._deadline = deadline
        self._free: list[ChunkMemory] = []
        self._made = 0
        self._sent = 0
        self._closed = False
        self._failure: CrikpyError | None = None
        self._changed = threading.Condition()

    def prepare(self, count: int) -> None:
        """Have so many buffers ready, or all that there may be, before anybody waits for them."""
        for _ in range(min(count, self._limit)):
            memory = ChunkMemory()
            memory.touch()
            with self._changed:
                if self._closed or self._made >= self._limit:
                    return
                self._made += 1
                self._free.append(memory)

    def take(self) -> ChunkMemory:
        """Lend a buffer, waiting for one if need be.

        Raises:
            DeadlineError: none came back in time.
            CrikpyError: the failure that `fail` was given.
        """
        with self._changed:
            while True:
                if self._failure is not None:
                    raise self._failure
                if self._free:
                    return self._free.pop()
                if self._made < self._limit:
                    self._made += 1
                    return ChunkMemory()
                if not self._sent:
                    return ChunkMemory(SPARE_BYTES)
                if not self._changed.wait(self._deadline.remaining()):
                    raise DeadlineError("out of time while waiting for the store to take what was read")

    def send(self) -> None:
        """Say that one lent buffer is now on its way to the store."""
        with self._changed:
            self._sent += 1

    def give_back(self, buffer: ChunkMemory) -> None:
        """Take a sent buffer back; spare ones vanish."""
        with self._changed:
            self._sent -= 1
            if len(buffer.plain) == CHUNK_BYTES and not self._closed:
                self._free.append(buffer)
            self._changed.notify_all()

    def take_back(self, buffer: ChunkMemory) -> None:
        """Take back a lent buffer that was not sent; others than the pool's own vanish."""
        with self._changed:
            if len(buffer.plain) == CHUNK_BYTES and not self._closed:
                self._free.append(buffer)
                self._changed.notify_all()

    def fail(self, failure: CrikpyError) -> None:
        """Make every present and later `take` raise this."""
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()
        self.close()

    def close(self) -> None:
        """Let go of all memory that is not lent."""
        with self._changed:
            self._closed = True
            self._free.clear()
