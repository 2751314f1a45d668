"""The two ends between CRIU's pipes and the chunk store, so that neither room imports the other.

Bytes never pass through Python objects of their own on this path: a sink lends the memory that a pipe is read
into, a source lends memory that a pipe is written from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from crikpy.model.manifest import Sizes, StoredImage


class ImageWriter(Protocol):
    """One image that is being written, by one thread."""

    def buffer(self) -> memoryview:
        """Lend writable memory, at least one byte; may wait for memory until the deadline."""
        ...

    def advance(self, count: int) -> None:
        """Say that the first `count` bytes of the last lent memory are filled."""
        ...

    def close(self) -> None:
        """Say that the image is whole."""
        ...


class ImageSink(Protocol):
    """Takes whole images; safe for several images at a time."""

    def open(self, name: str) -> ImageWriter:
        """Begin an image; names are unique."""
        ...


class ImageSource(Protocol):
    """Gives images back; `ready` may be polled together with pipes."""

    def size(self, name: str) -> int | None:
        """Return the image's length in bytes, or None when there is no such image."""
        ...

    def piece(self, name: str, offset: int) -> memoryview | None:
        """Return bytes of the image at `offset`, as many as lie together; None while they are being fetched."""
        ...

    def ready(self) -> int:
        """Return a descriptor that becomes readable when something asked for has arrived or failed."""
        ...

    def acknowledge(self) -> None:
        """Make the descriptor unreadable again; call it before asking for pieces anew."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenImages:
    """What a sink has stored once everything arrived.

    Attributes:
        images: those that it was given.
        sizes: how large they are.
        indexes: what it added for the checkpoint after this one.
    """

    images: tuple[StoredImage, ...]
    sizes: Sizes
    indexes: tuple[StoredImage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferProgress:
    """How far a transfer is; handed to whoever shows it.

    Attributes:
        plain_bytes: bytes of images seen so far.
        wire_bytes: bytes sent to or received from the store so far.
        total_bytes: plain bytes expected, or None while unknown.
    """

    plain_bytes: int
    wire_bytes: int
    total_bytes: int | None = None
