"""Images as binary files of Python, for archives: one end writes into a sink, the other reads from a source."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from crikpy.model.streams import ImageWriter

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class ImageOutput(io.RawIOBase):
    """Writes an image; closing it says that the image is whole."""

    def __init__(self, image: ImageWriter) -> None:
        super().__init__()
        self._image = image

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Write everything."""
        rest = memoryview(data).cast("B")
        total = len(rest)
        while rest:
            memory = self._image.buffer()
            count = min(len(memory), len(rest))
            memory[:count] = rest[:count]
            self._image.advance(count)
            rest = rest[count:]
        return total

    def close(self) -> None:
        """End the image."""
        if not self.closed:
            super().close()
            self._image.close()


class ImageInput(io.RawIOBase):
    """Reads an image from its beginning to its end, waiting for what has not arrived."""

    def __init__(self, piece: Callable[[int], memoryview]) -> None:
        super().__init__()
        self._piece = piece
        self._offset = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, output: WriteableBuffer, /) -> int:
        """Read some bytes; 0 at the end."""
        memory = memoryview(output).cast("B")
        piece = self._piece(self._offset)
        count = min(len(memory), len(piece))
        memory[:count] = piece[:count]
        self._offset += count
        return count
