"""Stand-ins for the store at both ends of the stream of images, and what their tests wait for."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.criu import PATIENCE_S


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds; AssertionError when it never does."""
    last = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < last, f"never saw: {what}"
        time.sleep(0.005)


def everything_open() -> tuple[int, int]:
    """Return how many descriptors and threads this process has."""
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


@dataclass
class Sink:
    """Keeps images in memory.

    Attributes:
        whole: images that were closed.
        parts: every image as far as it has come.
        fail_at: an error for the image of a name: once it has so many bytes; -1 at its beginning, None at its end.
    """

    buffer_bytes: int = 65536
    whole: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, bytearray] = field(default_factory=dict)
    fail_at: dict[str, tuple[int | None, Exception]] = field(default_factory=dict)

    def open(self, name: str) -> SinkWriter:
        """Begin an image."""
        assert name not in self.parts
        if (found := self.fail_at.get(name)) and found[0] == -1:
            raise found[1]
        self.parts[name] = bytearray()
        return SinkWriter(self, name)


class SinkWriter:
    """One image of a Sink."""

    def __init__(self, sink: Sink, name: str) -> None:
        self._sink = sink
        self._name = name
        self._lent = memoryview(bytearray(sink.buffer_bytes))

    def buffer(self) -> memoryview:
        """Lend memory."""
        size = len(self._sink.parts[self._name])
        if (found := self._sink.fail_at.get(self._name)) and found[0] is not None and size >= found[0]:
            raise found[1]
        return self._lent

    def advance(self, count: int) -> None:
        """Take what was filled."""
        self._sink.parts[self._name] += self._lent[:count]

    def close(self) -> None:
        """Say that it is whole."""
        if (found := self._sink.fail_at.get(self._name)) and found[0] is None:
            raise found[1]
        self._sink.whole[self._name] = bytes(self._sink.parts[self._name])


class Source:
    """Gives images from memory, in pieces; a piece may have to be fetched first.

    Attributes:
        asked: names and offsets of the pieces that were asked for.
        fail_at: an error for the image of a name from an offset on.
    """

    def __init__(self, images: dict[str, bytes], *, piece_bytes: int = 100_000, fetched: bool = False) -> None:
        """Hold images; with `fetched`, each piece comes only after it was asked for in vain."""
        self.asked: list[tuple[str, int]] = []
        self.fail_at: dict[str, tuple[int, Exception]] = {}
        self._images = images
        self._piece_bytes = piece_bytes
        self._fetched = fetched
        self._arrived: set[tuple[str, int]] = set()
        self._fetches: list[threading.Timer] = []
        self._ready = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def close(self) -> None:
        """Give back what it holds, when nothing is on its way any more."""
        for fetch in self._fetches:
            fetch.join()
        os.close(self._ready)

    def size(self, name: str) -> int | None:
        """Return an image's length, or None."""
        return len(self._images[name]) if name in self._images else None

    def piece(self, name: str, offset: int) -> memoryview | None:
        """Return the bytes at an offset, or None while they are on their way."""
        self.asked.append((name, offset))
        if (found := self.fail_at.get(name)) and offset >= found[0]:
            raise found[1]
        begin = offset - offset % self._piece_bytes
        if self._fetched and (name, begin) not in self._arrived:
            self._arrived.add((name, begin))
            fetch = threading.Timer(0.002, os.eventfd_write, (self._ready, 1))
            self._fetches.append(fetch)
            fetch.start()
            return None
        return memoryview(self._images[name])[offset : begin + self._piece_bytes]

    def ready(self) -> int:
        """Return what becomes readable when a piece has arrived."""
        return self._ready

    def acknowledge(self) -> None:
        """Make it unreadable again."""
        os.eventfd_read(self._ready)

    def is_acknowledged(self) -> bool:
        """Say whether nobody was left unheard."""
        return select.select([self._ready], [], [], 0)[0] == []
