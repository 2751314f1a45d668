"""Which chunks are held and which is fetched next, for images that are read by several at a time.

Only decisions: no threads, no access, no clock of its own; its user holds a lock. A chunk is worth the more the
sooner somebody will need it: what is asked for comes first, then what follows where images are being read, then
the order of the manifest. A chunk whose every use has passed is dropped at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

IDLE_S: Final = 2.0
"""What nobody has touched for so long gives way to what is fetched ahead."""

ABANDONED_S: Final = 1.0
"""What was asked for and not picked up for so long gives way to what is asked for now."""

_FAR: Final = 1 << 40


@dataclass(slots=True)
class _Held:
    """A chunk with a place: `plain` is None while it is being fetched, `since` its arrival or last use."""

    plain: memoryview | None = None
    asked: bool = False
    used: bool = False
    since: float = 0.0


@dataclass(slots=True)
class _Reading:
    position: int
    since: float


class ChunkCache:
    """At most `limit` chunks, those that are being fetched included."""

    def __init__(self, images: Mapping[str, Sequence[str]], limit: int) -> None:
        """Take the chunks of each image in order; the images in the order in which they will probably be read."""
        self._images = images
        self._limit = limit
        self._held: dict[str, _Held] = {}
        self._asked: dict[str, None] = {}
        self._readings: dict[str, _Reading] = {}
        self._uses = Counter(chunk for chunks in images.values() for chunk in chunks)
        self._places: dict[str, tuple[str, int]] = {}
        for image, chunks in images.items():
            for index, chunk in enumerate(chunks):
                self._places.setdefault(chunk, (image, index))
        self._order = list(self._places)
        self._ranks = {chunk: rank for rank, chunk in enumerate(self._order)}
        self._next_rank = 0

    def get(self, image: str, index: int, now: float) -> memoryview | None:
        """Return a chunk of an image that is being read there; None asks for it."""
        self._readings[image] = _Reading(index, now)
        chunk = self._images[image][index]
        held = self._held.get(chunk)
        if held is not None and held.plain is not None:
            held.asked, held.used, held.since = False, True, now
            return held.plain
        if held is not None:
            held.asked = True
        else:
            self._asked[chunk] = None
        return None

    def passed(self, image: str, start: int, end: int) -> None:
        """Say that the reader of an image will not come back to these of its chunks."""
        for chunk in self._images[image][start:end]:
            self._uses[chunk] -= 1
            held = self._held.get(chunk)
            if self._uses[chunk] <= 0 and held is not None and held.plain is not None:
                del self._held[chunk]
        if end == len(self._images[image]):
            self._readings.pop(image, None)

    def next_fetch(self, now: float) -> str | None:
        """Choose a chunk to fetch and make room for it; None when there is nothing to do or no room yet."""
        if self._asked:
            chunk = next(iter(self._asked))
            if not self._make_room_for_asked(now):
                return None
            del self._asked[chunk]
            self._held[chunk] = _Held(asked=True)
            return chunk
        ahead = self._closest_missing(now)
        if ahead is None or not self._make_room_ahead(ahead, now):
            return None
        self._held[ahead] = _Held()
        return ahead

    def arrived(self, chunk: str, plain: memoryview, now: float) -> bool:
        """Keep a chunk that was fetched, and say whether somebody waits for it."""
        held = self._held[chunk]
        held.plain, held.since = plain, now
        if self._uses[chunk] <= 0 and not held.asked:
            del self._held[chunk]
        return held.asked

    def clear(self) -> None:
        """Let go of everything; nothing may be fetched any more."""
        self._held.clear()

    def _make_room_for_asked(self, now: float) -> bool:
        ready = self._ready()
        return (
            len(self._held) < self._limit
            or self._drop_idle(now)
            or self._drop_furthest(now, beyond=-1)
            or self._drop_oldest([chunk for chunk in ready if self._held[chunk].used])
            or self._drop_oldest([chunk for chunk in ready if now - self._held[chunk].since > ABANDONED_S])
        )

    def _make_room_ahead(self, chunk: str, now: float) -> bool:
        return (
            len(self._held) < self._limit
            or self._drop_idle(now)
            or self._drop_furthest(now, beyond=self._distance(chunk, now))
        )

    def _drop_idle(self, now: float) -> bool:
        return self._drop_oldest(
            [chunk for chunk in self._ready() if self._held[chunk].used and now - self._held[chunk].since > IDLE_S]
        )

    def _drop_furthest(self, now: float, *, beyond: int) -> bool:
        """Drop the chunk that was fetched ahead and will be needed last, if that is later than something else."""
        ahead = [c for c in self._ready() if not self._held[c].used and not self._held[c].asked]
        furthest = max(ahead, key=lambda chunk: self._distance(chunk, now), default=None)
        if furthest is None or self._distance(furthest, now) <= beyond:
            return False
        del self._held[furthest]
        self._next_rank = min(self._next_rank, self._ranks[furthest])
        return True

    def _drop_oldest(self, chunks: list[str]) -> bool:
        oldest = min(chunks, key=lambda chunk: self._held[chunk].since, default=None)
        if oldest is None:
            return False
        del self._held[oldest]
        return True

    def _ready(self) -> list[str]:
        return [chunk for chunk, held in self._held.items() if held.plain is not None]

    def _distance(self, chunk: str, now: float) -> int:
        """Return how many chunks will be needed before this one, as far as one can tell."""
        image, index = self._places[chunk]
        reading = self._readings.get(image)
        if reading is not None and now - reading.since <= IDLE_S and index >= reading.position:
            return index - reading.position
        return _FAR + self._ranks[chunk]

    def _closest_missing(self, now: float) -> str | None:
        best, best_distance = None, self._limit + 1
        for image, reading in self._readings.items():
            if now - reading.since > IDLE_S:
                continue
            window = self._images[image][reading.position : reading.position + best_distance]
            for distance, chunk in enumerate(window):
                if self._is_missing(chunk):
                    best, best_distance = chunk, distance
                    break
        if best is not None:
            return best
        while self._next_rank < len(self._order):
            chunk = self._order[self._next_rank]
            if self._is_missing(chunk):
                return chunk
            self._next_rank += 1
        return None

    def _is_missing(self, chunk: str) -> bool:
        return chunk not in self._held and self._uses[chunk] > 0
