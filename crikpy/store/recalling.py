"""What an earlier checkpoint of the workload holds, page by page, so that only pages that changed are stored anew.

Every image of a checkpoint that has chunks of its own has an index beside it, an image too: the digests of its
pages in order (docs/formats.md, "Index"). A page is looked for where it stood before, and where its neighbours
have moved to when memory was added or given back in front of it. Whatever is not recognized is only stored again,
and so is all where an index cannot be read; nothing here writes.
"""

from __future__ import annotations

import bisect
import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np
import numpy.typing as npt

from crikpy.errors import CrikpyError, IntegrityError, StoreUnavailableError
from crikpy.model.manifest import Extent, Manifest, StoredImage, index_name
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.chunks import ChunkDecoder
from crikpy.store.layout import chunk_key
from crikpy.store.pages import DIGEST_BYTES, Digests, equal, read_digests

_log = logging.getLogger(__name__)

Places = npt.NDArray[np.int64]
"""For each page of some memory the page of an earlier image with the same bytes, or UNKNOWN."""

UNKNOWN: Final = -1

_ANCHOR_MASK: Final = np.uint64(31)
"""One page in 32, chosen by its digest, tells where its neighbours have moved to."""

_SHIFTS: Final = 4
_HELD: Final = 3
"""Pieces of indexes in memory; each is a chunk, the digests of up to 2 GiB."""

_AHEAD: Final = 2

_PATIENCE_S: Final = 3.0


class KnownPages:
    """The images of one earlier checkpoint; safe for many threads."""

    def __init__(
        self, store: ObjectStore, workload: Workload, manifest: Manifest, *, patience_s: float = _PATIENCE_S
    ) -> None:
        """Look at a complete checkpoint of the workload, whose chunks are taken to be there.

        Args:
            store: where it lies.
            workload: whose it is.
            manifest: its own.
            patience_s: how long one thread waits for what another fetches; after that, all is stored unseen.
        """
        images = {image.name: image for image in manifest.images}
        pieces = self._pieces = _Pieces(store, workload, patience_s)
        self._images = {
            name: KnownImage(image, images[index_name(name)], pieces)
            for name, image in images.items()
            if index_name(name) in images
        }

    def read_ahead(self) -> None:
        """Fetch what will be asked for first, while nobody waits.

        What cannot be had is found out when it is asked for.
        """
        largest = sorted(self._images.values(), key=lambda image: image.pages, reverse=True)
        with contextlib.suppress(CrikpyError):
            for image in largest[:_AHEAD]:
                image.digests(0, 1)

    def forget(self) -> None:
        """Free the memory; what is asked for afterwards is read again."""
        self._pieces.forget()

    def image(self, name: str) -> KnownImage | None:
        """Return the image of that name, or None when nothing is known of it."""
        return self._images.get(name)


class KnownImage:
    """The pages of one image.

    Attributes:
        pages: how many there are, those of its last, packed bytes excepted.
    """

    def __init__(self, image: StoredImage, index: StoredImage, pieces: _Pieces) -> None:
        self.pages = index.size // DIGEST_BYTES
        self._extents = image.extents
        self._starts = list(accumulate((extent.length for extent in image.extents), initial=0))
        self._index = index.extents
        self._firsts = list(accumulate((extent.length // DIGEST_BYTES for extent in index.extents), initial=0))
        self._pieces = pieces
        self._shift = 0

    def recognize(self, first: int, digests: Digests) -> Places:
        """Find pages again.

        Args:
            first: number of the first of them in the image that is being written.
            digests: theirs.

        An index that cannot be read makes all pages of its image unknown.
        """
        places: Places = np.full(len(digests), UNKNOWN, dtype=np.int64)
        try:
            self._search(first, digests, places)
        except CrikpyError as fault:
            _log.warning("pages of an earlier checkpoint cannot be recognized", extra={"why": fault})
            self.pages = 0
            places.fill(UNKNOWN)
        return places

    def _search(self, first: int, digests: Digests, places: Places) -> None:
        self._match(first, digests, self._shift, places)
        if (places == UNKNOWN).any():
            for shift in self._shifts(first, digests, places):
                self._match(first, digests, shift, places)
        found = np.flatnonzero(places != UNKNOWN)
        if len(found):
            self._shift = int(places[found[-1]] - found[-1]) - first

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Yield where the bytes lie of consecutive bytes of the image, from page-aligned `start` to `end`."""
        at = bisect.bisect_right(self._starts, start) - 1
        while start < end:
            extent, within = self._extents[at], start - self._starts[at]
            length = min(extent.length - within, end - start)
            yield Extent(extent.chunk, 0 if extent.chunk is None else extent.offset + within, length)
            start, at = start + length, at + 1

    def digests(self, start: int, end: int) -> Digests:
        """Return the digests of some pages."""
        parts = []
        at = bisect.bisect_right(self._firsts, start) - 1
        while start < end:
            first = self._firsts[at]
            last = min(end, self._firsts[at + 1])
            parts.append(self._pieces.piece(self._index[at]).digests[start - first : last - first])
            start, at = last, at + 1
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _match(self, first: int, digests: Digests, shift: int, places: Places) -> None:
        """Compare pages that nobody has found with those so many pages further on."""
        start, end = max(first + shift, 0), min(first + shift + len(digests), self.pages)
        if start >= end:
            return
        begin, stop = start - shift - first, end - shift - first
        same = equal(digests[begin:stop], self.digests(start, end)) & (places[begin:stop] == UNKNOWN)
        places[begin:stop][same] = np.arange(start, end)[same]

    def _shifts(self, first: int, digests: Digests, places: Places) -> list[int]:
        """Return how far unknown pages seem to have moved, the likeliest first."""
        unknown = np.flatnonzero((places == UNKNOWN) & ((digests[:, 0] & _ANCHOR_MASK) == 0))
        shifts = []
        for number, extent in enumerate(self._index):
            piece = self._pieces.held(extent)
            if piece is None or not len(piece.anchors):
                continue
            wanted = digests[unknown, 0]
            at = np.minimum(np.searchsorted(piece.anchors, wanted), len(piece.anchors) - 1)
            hit = piece.anchors[at] == wanted
            shifts.append(piece.anchor_pages[at[hit]] + self._firsts[number] - unknown[hit] - first)
        if not shifts:
            return []
        values, counts = np.unique(np.concatenate(shifts), return_counts=True)
        likeliest: list[int] = values[np.argsort(-counts)][:_SHIFTS].tolist()
        return likeliest


@dataclass(frozen=True, slots=True)
class _Piece:
    """Digests of consecutive pages; the first halves of some of them, sorted, and which pages these are."""

    digests: Digests
    anchors: npt.NDArray[np.uint64]
    anchor_pages: npt.NDArray[np.int64]


class _Pieces:
    """Pieces of indexes, read from the store when they are asked for, a few of them held."""

    def __init__(self, store: ObjectStore, workload: Workload, patience_s: float) -> None:
        self._store = store
        self._workload = workload
        self._patience_s = patience_s
        self._decoder = ChunkDecoder()
        self._held: OrderedDict[Extent, _Piece] = OrderedDict()
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._late = False

    def piece(self, extent: Extent) -> _Piece:
        """Return the digests that lie there.

        Raises:
            StoreError: they cannot be had, or not soon; what stands still while they come is not worth them.
        """
        if (held := self.held(extent)) is not None:
            return held
        if self._late or not self._reading.acquire(timeout=self._patience_s):
            self._late = True
            raise StoreUnavailableError("an index of pages does not come in time")
        try:
            return self.held(extent) or self._hold(extent, self._read(extent))
        finally:
            self._reading.release()

    def held(self, extent: Extent) -> _Piece | None:
        """Return the digests if they are in memory."""
        with self._lock:
            if extent in self._held:
                self._held.move_to_end(extent)
            return self._held.get(extent)

    def _hold(self, extent: Extent, piece: _Piece) -> _Piece:
        with self._lock:
            while len(self._held) >= _HELD:
                self._held.popitem(last=False)
            self._held[extent] = piece
            return piece

    def forget(self) -> None:
        """Hold nothing."""
        with self._lock:
            self._held.clear()

    def _read(self, extent: Extent) -> _Piece:
        if extent.chunk is None or extent.length % DIGEST_BYTES:
            raise IntegrityError("an index of pages makes no sense")
        plain = self._decoder.decode(extent.chunk, self._store.get(chunk_key(self._workload, extent.chunk)))
        digests = read_digests(plain[extent.offset : extent.offset + extent.length])
        if len(digests) * DIGEST_BYTES != extent.length:
            raise IntegrityError("an index of pages is cut short")
        chosen = np.flatnonzero((digests[:, 0] & _ANCHOR_MASK) == 0)
        order = np.argsort(digests[chosen, 0], kind="stable")
        return _Piece(digests, digests[chosen[order], 0], chosen[order])
