"""Images that are being written, cut into chunks on the way; small ones are packed together.

One thread writes an image. It is lent memory, and waits only when all of it is on its way (buffers.py).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from crikpy.errors import StoreError
from crikpy.model.manifest import Extent, StoredImage
from crikpy.store.buffers import SPARE_BYTES
from crikpy.store.chunks import PAGE_BYTES, ChunkMemory
from crikpy.store.files import ImageOutput
from crikpy.store.recalling import KnownImage
from crikpy.store.uploading import Cut, Uploads

_FIRST_BYTES: Final = 64 * 1024
_GROWTH: Final = 4
_PACKED_BELOW: Final = SPARE_BYTES

_INDEXED_FROM: Final = 2
"""Chunks; a smaller image gains nothing from an index that its own chunk's name does not give."""


class OpenImage:
    """One image that is being written, by one thread.

    It begins in a little memory of its own, since most images are tiny and many are open for a whole dump; only
    one that outgrows it takes a chunk's buffer.

    Attributes:
        closed: it is whole.
    """

    def __init__(
        self,
        uploads: Uploads,
        packer: Packer,
        *,
        known: KnownImage | None = None,
        open_index: Callable[[], OpenImage] | None = None,
        of_index: bool = False,
    ) -> None:
        """Begin.

        Args:
            uploads: where chunks go.
            packer: where little goes.
            known: the same image of an earlier checkpoint.
            open_index: begins the index of this image, called when there is something for it; None keeps none.
            of_index: this is an index.
        """
        self.closed = False
        self._uploads = uploads
        self._packer = packer
        self._known = known
        self._of_index = of_index
        self._index = None if open_index is None else _Index(open_index)
        self._memory: ChunkMemory | None = None
        self._filled = 0
        self._lent = 0
        self._sent = 0
        self._parts: list[tuple[Cut, int, int]] = []

    def buffer(self) -> memoryview:
        """Lend what is left of the memory, or new memory."""
        self._uploads.check()
        if self._memory is None:
            self._memory = self._uploads.memory() if self._parts else ChunkMemory(_FIRST_BYTES)
        elif self._filled == len(self._memory.plain):
            self._memory = self._enlarge(self._memory)
        rest = self._memory.plain[self._filled :]
        self._lent = len(rest)
        return rest

    def advance(self, count: int) -> None:
        """Count the bytes in, and send the chunk when it is full."""
        if not 0 <= count <= self._lent:
            raise StoreError(f"{count} bytes were written into memory for {self._lent}")
        self._lent -= count
        self._filled += count
        if self._memory is None or self._filled < len(self._memory.plain):
            return
        if self._parts or len(self._memory.plain) > _PACKED_BELOW:
            self._send(self._memory)
            self._memory = None

    def close(self) -> None:
        """Send the rest, together with the rests of other images when it is little."""
        if self.closed:
            return
        self._uploads.check()
        if self._memory is not None and self._filled:
            if self._filled < _PACKED_BELOW:
                cut, offset = self._packer.add(self._memory.plain[: self._filled])
                self._parts.append((cut, offset, self._filled))
            else:
                self._send(self._memory)
                self._memory = None
        if self._memory is not None:
            self._uploads.spare(self._memory)
            self._memory = None
        self.closed = True

    def close_index(self) -> None:
        """Write the rest of the index, once everything of the image is stored."""
        if self._index is not None:
            self._index.close()

    def indexed(self) -> bool:
        """Close the index if everything of the image is stored by now, so that it keeps no memory; say whether."""
        if not self.closed or (self._index is not None and not self._index.complete()):
            return False
        self.close_index()
        return True

    def stored(self, name: str) -> StoredImage:
        """Return where the image lies; known once everything is stored."""
        extents: list[Extent] = []
        for cut, offset, length in self._parts:
            for extent in _within(cut, offset, length):
                _append(extents, extent)
        return StoredImage(name=name, size=sum(extent.length for extent in extents), extents=tuple(extents))

    def _enlarge(self, full: ChunkMemory) -> ChunkMemory:
        """Move the first bytes into more memory; where there is none but a spare buffer, they are a chunk."""
        size = len(full.plain) * _GROWTH
        larger = ChunkMemory(size) if size <= _PACKED_BELOW else self._uploads.memory()
        if len(larger.plain) > self._filled:
            larger.plain[: self._filled] = full.plain
        else:
            self._send(full)
        return larger

    def _send(self, memory: ChunkMemory) -> None:
        cut = Cut(known=self._known, first=self._sent // PAGE_BYTES, of_index=self._of_index)
        self._uploads.send(cut, memory, self._filled)
        self._parts.append((cut, 0, self._filled))
        self._sent += self._filled
        self._filled = 0
        if self._index is not None:
            self._index.add(cut)


class _Index:
    """The digests of an image's pages, written into an image of their own as soon as they are known, in order.

    Only the thread that writes the image comes in here: writing may have to wait for memory, which the threads
    that give it back must never do.
    """

    def __init__(self, begin: Callable[[], OpenImage]) -> None:
        self._begin = begin
        self._added = 0
        self._output: ImageOutput | None = None
        self._waiting: deque[Cut] = deque()

    def add(self, cut: Cut) -> None:
        """Take what is about to be known, and write what is known by now."""
        self._waiting.append(cut)
        self._added += 1
        if self._added >= _INDEXED_FROM:
            self._write()

    def complete(self) -> bool:
        """Say whether all digests are known."""
        return all(cut.digests is not None for cut in self._waiting)

    def close(self) -> None:
        """Write the rest."""
        if self._added < _INDEXED_FROM:
            return
        self._write()
        if self._waiting:
            raise StoreError("an index was closed before its pages were known")
        if self._output is not None:
            self._output.close()

    def _write(self) -> None:
        while self._waiting and (digests := self._waiting[0].digests) is not None:
            if self._output is None:
                self._output = ImageOutput(self._begin())
            self._output.write(digests.tobytes())
            self._waiting.popleft().digests = None


class Packer:
    """Puts small images together, so that hundreds of them become a few requests."""

    def __init__(self, uploads: Uploads, *, of_indexes: bool = False) -> None:
        self._uploads = uploads
        self._of_indexes = of_indexes
        self._lock = threading.Lock()
        self._cut = Cut(of_index=of_indexes)
        self._memory: ChunkMemory | None = None
        self._filled = 0

    def add(self, data: memoryview) -> tuple[Cut, int]:
        """Copy a small image; return what it is part of and its offset there."""
        with self._lock:
            if self._memory is not None and self._filled + len(data) > len(self._memory.plain):
                self._flush(self._memory)
            if self._memory is None:
                self._memory = self._uploads.memory()
            offset = self._filled
            self._memory.plain[offset : offset + len(data)] = data
            self._filled += len(data)
            return self._cut, offset

    def flush(self) -> None:
        """Send what has come together."""
        with self._lock:
            if self._memory is not None:
                self._flush(self._memory)

    def _flush(self, memory: ChunkMemory) -> None:
        self._uploads.send(self._cut, memory, self._filled)
        self._cut, self._memory, self._filled = Cut(of_index=self._of_indexes), None, 0


def _within(cut: Cut, offset: int, length: int) -> list[Extent]:
    """Return where some bytes of what was sent together lie."""
    if cut.extents is None:
        raise StoreError("an image was asked for before it was stored")
    if length == sum(extent.length for extent in cut.extents):
        return list(cut.extents)
    (whole,) = cut.extents
    return [Extent(whole.chunk, 0 if whole.chunk is None else whole.offset + offset, length)]


def _append(extents: list[Extent], extent: Extent) -> None:
    """Add an extent, joined with the last one where it goes on there."""
    if extents:
        last = extents[-1]
        follows = extent.chunk is None or last.offset + last.length == extent.offset
        if last.chunk == extent.chunk and follows:
            extents[-1] = last._replace(length=last.length + extent.length)
            return
    extents.append(extent)
