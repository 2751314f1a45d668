"""Which chunks are held and which is fetched next, for images that are read by several at a time.

Only decisions: no threads, no access, no clock of its own; its user holds a lock. A chunk is worth the more the
sooner somebody will need it: what is asked for comes first, then what follows where images are being read, then
the order of the manifest. A chunk whose every use has passed is dropped at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
    """At most so many bytes of chunks, those that are being fetched counted as if they were the largest."""

    def __init__(self, images: Mapping[str, Sequence[str]], room: int, *, largest: int) -> None:
        """Make ready.

        Args:
            images: the chunks of each in order; the images in the order in which they will probably be read.
            room: bytes in all.
            largest: bytes of the largest chunk; the room is for one at least.
        """
        self._images = images
        self._largest = largest
        self._left = room
        self._ahead = room // largest
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
                self._drop(chunk)
        if end == len(self._images[image]):
            self._readings.pop(image, None)

    def next_fetch(self, now: float) -> str | None:
        """Choose a chunk to fetch and make room for it; None when there is nothing to do or no room yet."""
        if self._asked:
            chunk = next(iter(self._asked))
            if not self._make_room_for_asked(now):
                return None
            del self._asked[chunk]
            self._keep(chunk, _Held(asked=True))
            return chunk
        ahead = self._closest_missing(now)
        if ahead is None or not self._make_room_ahead(ahead, now):
            return None
        self._keep(ahead, _Held())
        return ahead

    def arrived(self, chunk: str, plain: memoryview, now: float) -> bool:
        """Keep a chunk that was fetched, and say whether somebody waits for it."""
        held = self._held[chunk]
        self._left += self._largest - len(plain)
        held.plain, held.since = plain, now
        if self._uses[chunk] <= 0 and not held.asked:
            self._drop(chunk)
        return held.asked

    def clear(self) -> None:
        """Let go of everything; nothing may be fetched any more."""
        self._held.clear()

    def _make_room_for_asked(self, now: float) -> bool:
        return self._make_room(
            lambda: (
                self._drop_idle(now)
                or self._drop_furthest(now, beyond=-1)
                or self._drop_oldest([chunk for chunk in self._ready() if self._held[chunk].used])
                or self._drop_oldest([c for c in self._ready() if now - self._held[c].since > ABANDONED_S])
            )
        )

    def _make_room_ahead(self, chunk: str, now: float) -> bool:
        beyond = self._distance(chunk, now)
        return self._make_room(lambda: self._drop_idle(now) or self._drop_furthest(now, beyond=beyond))

    def _make_room(self, drop: Callable[[], bool]) -> bool:
        while self._left < self._largest:
            if not drop():
                return False
        return True

    def _keep(self, chunk: str, held: _Held) -> None:
        self._held[chunk] = held
        self._left -= self._largest

    def _drop(self, chunk: str) -> None:
        plain = self._held.pop(chunk).plain
        self._left += self._largest if plain is None else len(plain)

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
        self._drop(furthest)
        self._next_rank = min(self._next_rank, self._ranks[furthest])
        return True

    def _drop_oldest(self, chunks: list[str]) -> bool:
        oldest = min(chunks, key=lambda chunk: self._held[chunk].since, default=None)
        if oldest is None:
            return False
        self._drop(oldest)
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
        best, best_distance = None, self._ahead + 1
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
