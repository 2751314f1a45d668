"""What tells pages of memory apart: a digest of 128 bits of each, by XXH3, computed at memory speed.

It answers one question, whether two pages of one workload hold the same bytes, and never names or verifies
anything: that is BLAKE3's (chunks.py). Whoever could make two pages collide could only spoil a checkpoint of its
own job. Nothing here holds pages.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import xxhash

from crikpy.store.chunks import PAGE_BYTES, Pages

DIGEST_BYTES: Final = 16

Digests = npt.NDArray[np.uint64]
"""Shape (pages, 2): the two halves of the digests."""


def page_digests(plain: memoryview | bytes) -> Digests:
    """Return the digest of each page; the last page may be short."""
    whole = memoryview(plain)
    digest = xxhash.xxh3_128_digest
    return read_digests(b"".join([digest(whole[at : at + PAGE_BYTES]) for at in range(0, len(whole), PAGE_BYTES)]))


def read_digests(data: memoryview | bytes) -> Digests:
    """Return digests that were kept as bytes."""
    return np.frombuffer(data, dtype="<u8").reshape(-1, 2)


def zero_pages(digests: Digests, length: int) -> Pages:
    """Say for each page whether it holds only zeros, of so many bytes in all."""
    zero: Pages = equal(digests, _ZERO)
    if length % PAGE_BYTES and len(zero):
        zero[-1] = bool(equal(digests[-1:], page_digests(bytes(length % PAGE_BYTES)))[0])
    return zero


def equal(some: Digests, others: Digests) -> Pages:
    """Say for each pair whether it is the same digest."""
    same: Pages = (some[:, 0] == others[:, 0]) & (some[:, 1] == others[:, 1])
    return same


_ZERO: Final = page_digests(bytes(PAGE_BYTES))
