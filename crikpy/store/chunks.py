"""The bytes of a chunk: pages of zeros left out, the rest compressed where that pays. docs/formats.md, "Chunk".

No access to anything here: plain bytes in, stored bytes out, and back. A chunk is named by the BLAKE3 hash of its
plain bytes, so a reader never has to trust what a store gives it. Memory is lent, not made: an encoder and a
decoder belong to one thread each, and what an encoder returns is overwritten by its next chunk. Bytes that do not
shrink are never copied: their head is written in front of them.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import zstandard
from blake3 import blake3

from crikpy.errors import FormatVersionError, IntegrityError
from crikpy.store.layout import is_chunk_name

CHUNK_BYTES: Final = 8 * 1024 * 1024
"""Most plain bytes of one chunk."""

PAGE_BYTES: Final = 4096
"""Unit in which zeros are left out; part of the format, whatever the machine's page size."""

_HEADER: Final = struct.Struct("<4sBBHII")
_MAGIC: Final = b"CKC1"
SEALED_MAGIC: Final = b"CKS1"
"""What a sealed object begins with (sealing.py)."""

_KEYS: Final = "give the keys with CRIKPY_STORE_KEY_FILE or CRIKPY_STORE_KMS_KEY, whichever sealed it"
_RAW: Final = 0
_ZSTD: Final = 1
_HAS_BITMAP: Final = 1
_BITMAP_BYTES: Final = CHUNK_BYTES // PAGE_BYTES // 8
_SAMPLE_BYTES: Final = 256 * 1024
_WORTHWHILE: Final = 1.1
_ZEROS: Final = bytes(CHUNK_BYTES)

MOST_STORED_BYTES: Final = _HEADER.size + _BITMAP_BYTES + CHUNK_BYTES
"""Largest stored object of a chunk that this module writes."""

Pages = npt.NDArray[np.bool_]

_MADV_POPULATE_WRITE: Final = 23
"""madvise(2); the mmap module does not name it."""

_ROOM_BYTES: Final = PAGE_BYTES
"""Before a chunk's plain bytes, for what stands before them in the stored object; keeps them aligned."""


def new_memory(size: int = CHUNK_BYTES) -> memoryview:
    """Return zeroed memory of its own mapping, which goes back to the system as soon as nobody refers to it.

    Memory of the allocator would linger in the arenas of threads, out of any budget.
    """
    mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages; with them the first touch is 3 times faster
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(mapping)


class ChunkMemory:
    """Memory for the plain bytes of a chunk, with room before them for the head of its stored object.

    Attributes:
        plain: the memory to be filled.
    """

    __slots__ = ("_whole", "plain")

    def __init__(self, size: int = CHUNK_BYTES) -> None:
        self._whole = new_memory(_ROOM_BYTES + size)
        self.plain = self._whole[_ROOM_BYTES:]

    def touch(self) -> None:
        """Have the kernel give the memory now instead of when it is first written."""
        mapping = self._whole.obj
        if isinstance(mapping, mmap.mmap):
            with contextlib.suppress(OSError):  # a kernel before 5.14
                mapping.madvise(_MADV_POPULATE_WRITE)

    def behind(self, head: bytes, length: int) -> memoryview:
        """Put a head right before the plain bytes; return it together with so many of them."""
        start = _ROOM_BYTES - len(head)
        self._whole[start:_ROOM_BYTES] = head
        return self._whole[start : _ROOM_BYTES + length]


def chunk_name(plain: memoryview | bytes) -> str:
    """Return the name of the chunk with those plain bytes, 64 hex digits."""
    return blake3(plain).hexdigest()


def refuse_sealed(data: bytes | memoryview, what: str) -> None:
    """See that bytes are not sealed, since whoever has the keys would have opened them.

    Raises:
        FormatVersionError: they are.
    """
    if bytes(data[: len(SEALED_MAGIC)]) == SEALED_MAGIC:
        raise FormatVersionError(f"{what} is sealed", remedy=_KEYS)


def zero_bytes(zero: Pages, length: int) -> int:
    """Return how many bytes lie in pages of zeros, of a chunk with so many bytes."""
    count = int(np.count_nonzero(zero)) * PAGE_BYTES
    return count - (-length % PAGE_BYTES if len(zero) and zero[-1] else 0)


def close_gaps(plain: memoryview, gaps: Pages) -> int:
    """Move the pages together that are not to be left out, and return how many bytes they are."""
    filled = 0
    for start, end in runs(gaps, len(plain)):
        if start != filled:
            plain[filled : filled + end - start] = plain[start:end]
        filled += end - start
    return filled


class ChunkEncoder:
    """Makes stored objects; for one thread."""

    def __init__(self, level: int) -> None:
        self._compressor = zstandard.ZstdCompressor(level=level, write_content_size=True)
        self._output = new_memory(MOST_STORED_BYTES)

    def encode(self, memory: ChunkMemory, length: int, zero: Pages) -> tuple[memoryview, bool]:
        """Return the stored object of so many plain bytes, not all of them zero, with the map of its zero pages.

        The plain bytes are used up: pages move within them.

        Returns:
            The object, which lives until the next call; and whether it lies in the memory that was given.
        """
        plain = memory.plain[:length]
        bitmap = np.packbits(zero, bitorder="little").tobytes() if zero.any() else b""
        kept = plain[: close_gaps(plain, zero)] if bitmap else plain
        start = _HEADER.size + len(bitmap)
        size = self._compress_if_worthwhile(kept, self._output[start:])
        codec = _ZSTD if size else _RAW
        head = _HEADER.pack(_MAGIC, codec, _HAS_BITMAP if bitmap else 0, 0, length, len(kept)) + bitmap
        if not size:
            return memory.behind(head, len(kept)), True
        self._output[:start] = head
        return self._output[: start + size], False

    def _compress_if_worthwhile(self, kept: memoryview, output: memoryview) -> int:
        """Return how many bytes the output holds now; 0 when it is not worth it."""
        if not self._seems_compressible(kept):
            return 0
        limit = int(len(kept) / _WORTHWHILE)
        size = self._compress(kept, output[: limit + 1])
        return size if size <= limit else 0

    def _seems_compressible(self, kept: memoryview) -> bool:
        """Try a piece from the middle of a large chunk, so that random bytes cost little."""
        if len(kept) < 2 * _SAMPLE_BYTES:
            return True
        start = (len(kept) - _SAMPLE_BYTES) // 2
        sample = kept[start : start + _SAMPLE_BYTES]
        return len(self._compressor.compress(sample)) * _WORTHWHILE <= _SAMPLE_BYTES

    def _compress(self, kept: memoryview, output: memoryview) -> int:
        """Compress until done or the output is full; return how much of it is filled."""
        with self._compressor.stream_reader(kept, size=len(kept)) as reader:
            return _read_fully(reader, output)


class ChunkDecoder:
    """Gives plain bytes back; for one thread."""

    def __init__(self) -> None:
        # Without the bound a hostile frame could ask for a window of gigabytes.
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=CHUNK_BYTES)

    def decode(self, name: str, stored: bytes | memoryview) -> memoryview:
        """Return the plain bytes of the chunk of that name, in memory of their own or within the object's.

        Raises:
            IntegrityError: the bytes are not those that were stored.
            FormatVersionError: they have a form that this release does not know.
        """
        if not is_chunk_name(name):
            raise IntegrityError(f"{name!r} is not the name of a chunk")
        codec, length, kept, zero, payload = _parse(name, memoryview(stored))
        if codec == _RAW and len(payload) != kept:
            raise _damaged(name, "it is cut short or too long")
        if codec == _RAW and zero is None:
            plain = payload
        else:
            plain = new_memory(length)
            if codec == _ZSTD:
                self._decompress(name, payload, plain[:kept])
            else:
                plain[:kept] = payload
            if zero is not None:
                _open_gaps(plain, kept, zero)
        if chunk_name(plain) != name:
            raise _damaged(name, "its bytes do not match its hash")
        return plain

    def _decompress(self, name: str, payload: memoryview, output: memoryview) -> None:
        try:
            with self._decompressor.stream_reader(payload, read_size=len(payload) or 1) as reader:
                if _read_fully(reader, output) != len(output) or reader.read(1):
                    raise _damaged(name, "it has another length than its header says")
        except zstandard.ZstdError as fault:
            raise _damaged(name, "it cannot be decompressed") from fault


def _parse(name: str, stored: memoryview) -> tuple[int, int, int, Pages | None, memoryview]:
    """Take the header apart and check it before any memory is made for what it promises."""
    if len(stored) < _HEADER.size:
        raise _damaged(name, "it is cut short")
    refuse_sealed(stored, f"chunk {name}")
    magic, codec, flags, reserved, length, kept = _HEADER.unpack_from(stored)
    if magic != _MAGIC and magic[:3] == _MAGIC[:3]:
        raise FormatVersionError(f"chunk {name} has format {magic!r}", remedy="use a newer release of crikpy")
    if magic != _MAGIC or codec not in {_RAW, _ZSTD} or flags & ~_HAS_BITMAP or reserved:
        raise _damaged(name, "its header makes no sense")
    if not 0 < kept <= length <= CHUNK_BYTES:
        raise _damaged(name, "its header makes no sense")
    payload, zero = stored[_HEADER.size :], None
    skipped = 0
    if flags & _HAS_BITMAP:
        pages = -(-length // PAGE_BYTES)
        size = -(-pages // 8)
        bits = np.unpackbits(np.frombuffer(payload[:size], dtype=np.uint8), bitorder="little").astype(np.bool_)
        zero, payload = bits[:pages], payload[size:]
        if len(zero) != pages or bits[pages:].any():
            raise _damaged(name, "its map of zero pages makes no sense")
        skipped = zero_bytes(zero, length)
    if kept + skipped != length:
        raise _damaged(name, "its lengths contradict each other")
    return codec, length, kept, zero, payload


def _open_gaps(plain: memoryview, kept: int, zero: Pages) -> None:
    """Move pages back to where they came from, the last ones first, and put zeros between them."""
    edge = len(plain)
    for start, end in reversed(list(runs(zero, len(plain)))):
        plain[end:edge] = _ZEROS[: edge - end]
        kept -= end - start
        if kept != start:
            plain[start:end] = plain[kept : kept + end - start]
        edge = start
    plain[:edge] = _ZEROS[:edge]


def runs(gaps: Pages, length: int) -> Iterator[tuple[int, int]]:
    """Yield start and end, in bytes, of each run of pages that are not left out, of so many bytes in all."""
    edges = np.flatnonzero(np.diff(np.concatenate(([True], gaps, [True]))))
    for start, end in edges.reshape(-1, 2).tolist():
        yield start * PAGE_BYTES, min(end * PAGE_BYTES, length)


def _read_fully(
    reader: zstandard.ZstdCompressionReader | zstandard.ZstdDecompressionReader, output: memoryview
) -> int:
    filled = 0
    while filled < len(output):
        count = reader.readinto(output[filled:])
        if not count:
            break
        filled += count
    return filled


def _damaged(name: str, how: str) -> IntegrityError:
    return IntegrityError(f"chunk {name} is damaged: {how}")
