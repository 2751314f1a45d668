"""Which pages of some memory are stored already, and whether it is worth keeping only the others.

Decisions alone: no access, no memory. A reference to an old page costs a place in the manifest and a look into an
old chunk at the restore; so memory that is mostly new, torn into too many pieces, or spread over too many chunks
is stored whole again, and what it leaned on can be collected one day.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from typing import Final

import numpy as np

from crikpy.model.manifest import Extent
from crikpy.store.chunks import CHUNK_BYTES, PAGE_BYTES, Pages
from crikpy.store.pages import Digests
from crikpy.store.recalling import UNKNOWN, KnownImage, Places

_MOST_FRESH: Final = 0.5
"""Largest share of pages that are stored anew without the others."""

_MOST_EXTENTS: Final = 1024
"""Of one buffer: at a hundred bytes each in the manifest, what a quarter of its pages are worth."""

_MOST_CHUNKS: Final = 8
"""That one buffer may lie in; later ones a few more, so that not all are written anew at the same time."""

MOST_PIECES: Final = 200_000
"""Of a whole checkpoint: some 16 MiB of manifest, which is read as a whole."""

_BUFFER_PAGES: Final = CHUNK_BYTES // PAGE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What is stored already of some memory.

    Attributes:
        fresh: the pages that are not.
        pieces: all of it in order, each piece as an extent of old chunks or of zeros; one whose chunk is empty
            lies in the chunk of the fresh pages.
    """

    fresh: Pages
    pieces: tuple[Extent, ...]

    def extents(self, chunk: str | None) -> tuple[Extent, ...]:
        """Return where the bytes lie, the fresh ones in that chunk."""
        return tuple(piece._replace(chunk=chunk) if piece.chunk == _OWN else piece for piece in self.pieces)


class Allowance:
    """So many pieces may all memory of a checkpoint come to; safe for many threads."""

    def __init__(self, pieces: int = MOST_PIECES) -> None:
        """Begin with all of them left."""
        self._left = pieces
        self._lock = threading.Lock()

    def take(self, pieces: int) -> bool:
        """Say whether there may be so many more."""
        with self._lock:
            if pieces > self._left:
                return False
            self._left -= pieces
            return True


def compared(known: KnownImage | None, first: int, digests: Digests, zero: Pages, length: int) -> Compared | None:
    """Compare memory with an image of an earlier checkpoint; None when it is better stored whole.

    Args:
        known: that image, if there is one.
        first: the number of the first page in its own image.
        digests: of the pages.
        zero: which of them hold only zeros.
        length: bytes in all; the last page may be short.
    """
    if known is None or zero.all():
        return None
    places = known.recognize(first, digests)
    fresh: Pages = (places == UNKNOWN) & ~zero
    if np.count_nonzero(fresh) > _MOST_FRESH * np.count_nonzero(~zero):
        return None
    pieces = _pieces(known, places, fresh, length)
    chunks = {piece.chunk for piece in pieces if piece.chunk is not None}
    if len(pieces) > _MOST_EXTENTS or len(chunks) > _MOST_CHUNKS + first // _BUFFER_PAGES % _MOST_CHUNKS:
        return None
    return Compared(fresh=fresh, pieces=pieces)


_OWN: Final = ""


def _pieces(known: KnownImage, places: Places, fresh: Pages, length: int) -> tuple[Extent, ...]:
    """Lay old extents, zeros and fresh pages end to end."""
    found: list[Extent] = []
    filled = 0
    for start, end in _runs(places, fresh):
        size = min(end * PAGE_BYTES, length) - start * PAGE_BYTES
        if fresh[start]:
            found.append(Extent(_OWN, filled, size))
            filled += size
        elif places[start] == UNKNOWN:
            found.append(Extent(None, 0, size))
        else:
            old = int(places[start]) * PAGE_BYTES
            found.extend(known.extents(old, old + size))
    return tuple(found)


def _runs(places: Places, fresh: Pages) -> list[tuple[int, int]]:
    """Return start and end of each run of pages that lie together: old ones in a row, fresh ones, or zeros."""
    old = places != UNKNOWN
    kind = np.where(old, 0, np.where(fresh, 1, 2))
    apart = (np.diff(kind) != 0) | (old[1:] & (np.diff(places) != 1))
    edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(places)]
    return list(itertools.pairwise(edges))
