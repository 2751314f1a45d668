"""Reads every chunk of a checkpoint and says all that is wrong, instead of stopping at the first fault."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from crikpy.aio.threads import Pool
from crikpy.errors import FormatVersionError, IntegrityError, ObjectNotFoundError
from crikpy.model.manifest import StoredImage
from crikpy.model.streams import TransferProgress
from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings
from crikpy.store.base import ObjectStore
from crikpy.store.budget import read_budget
from crikpy.store.chunks import ChunkDecoder
from crikpy.store.layout import chunk_key


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkFault:
    """A chunk that cannot be used.

    Attributes:
        chunk: its name.
        images: the images that need it.
        reason: what is wrong, for people.
    """

    chunk: str
    images: tuple[str, ...]
    reason: str


def verify(
    store: ObjectStore,
    workload: Workload,
    images: Sequence[StoredImage],
    *,
    settings: StoreSettings,
    on_progress: Callable[[TransferProgress], None] | None = None,
) -> list[ChunkFault]:
    """Check the chunks of a manifest's images, and return those that are missing, damaged or too short.

    Raises:
        StoreError: the store could not be asked, which says nothing about the chunks.
    """
    needs = _needs(images)
    check = partial(_check, store, workload, threading.local())
    total = sum(image.size for image in images)
    plain, wire = total - sum(need.length for need in needs), 0
    faults: list[ChunkFault] = []
    with Pool(read_budget(settings).fetches) as threads:
        for need, (size, reason) in zip(needs, threads.map(check, needs), strict=True):
            if reason:
                faults.append(ChunkFault(chunk=need.chunk, images=tuple(need.images), reason=reason))
            plain, wire = plain + need.length, wire + size
            if on_progress is not None:
                on_progress(TransferProgress(plain_bytes=plain, wire_bytes=wire, total_bytes=total))
    return faults


@dataclass(slots=True)
class _Need:
    """What the images ask of one chunk: how many of their bytes lie there, and up to where."""

    chunk: str
    images: list[str]
    length: int = 0
    end: int = 0


def _needs(images: Sequence[StoredImage]) -> list[_Need]:
    needs: dict[str, _Need] = {}
    for image in images:
        for extent in image.extents:
            if extent.chunk is None:
                continue
            need = needs.setdefault(extent.chunk, _Need(extent.chunk, []))
            need.length += extent.length
            need.end = max(need.end, extent.offset + extent.length)
            if image.name not in need.images:
                need.images.append(image.name)
    return list(needs.values())


def _check(store: ObjectStore, workload: Workload, own: threading.local, need: _Need) -> tuple[int, str]:
    """Return the stored size of a chunk and what is wrong with it, if anything."""
    if not hasattr(own, "decoder"):
        own.decoder = ChunkDecoder()
    try:
        stored = store.get(chunk_key(workload, need.chunk))
    except ObjectNotFoundError:
        return 0, "it is missing"
    try:
        plain = own.decoder.decode(need.chunk, stored)
    except (IntegrityError, FormatVersionError) as fault:
        return len(stored), str(fault)
    if len(plain) < need.end:
        return len(stored), f"it has {len(plain)} bytes where {need.end} are referred to"
    return len(stored), ""
