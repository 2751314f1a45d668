"""A store whose chunks and manifests nobody reads or forges who has the bucket alone. docs/formats.md, "Sealed".

Between the store and everybody above it: what is written is encrypted and authenticated, what is read is refused
unless one of our keys has sealed it for this very place. Every object has a key of its own, derived from ours and
from random bytes, so that no bound on how often a key may be used is ever near. Records (claims, quarantines, who
holds a name) and keyrings stay as they are: they hold nothing of the job, and their conditions must work on plain
bytes. Where keys come from is not known here (keys.py).
"""

from __future__ import annotations

import os
import struct
from typing import Final

from cryptography.exceptions import InvalidTag

from crikpy.aio.clock import Deadline
from crikpy.errors import FormatVersionError, IntegrityError
from crikpy.model.workload import Workload
from crikpy.store import layout
from crikpy.store.base import ForwardingStore, ObjectStore
from crikpy.store.chunks import SEALED_MAGIC, new_memory
from crikpy.store.keys import KeySource

_HEADER: Final = struct.Struct("<4s8s32s")
_TAG_BYTES: Final = 16
_NONCE: Final = bytes(12)
"""Always the same: no two objects share a key."""

OVERHEAD_BYTES: Final = _HEADER.size + _TAG_BYTES


class SealedStore(ForwardingStore):
    """Another store, with its chunks and manifests sealed; listings show sizes as they lie there."""

    def __init__(self, inner: ObjectStore, keys: KeySource) -> None:
        """Take a store and whoever has the keys."""
        super().__init__(inner)
        self._keys = keys

    def get(self, key: str) -> bytes | memoryview:
        """Return the bytes that were sealed.

        Raises:
            IntegrityError: none of our keys has sealed this for this place.
        """
        data = self._inner.get(key)
        return self._open(key, memoryview(data)) if _is_sealed(key) else data

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write the object, sealed."""
        self._inner.put(key, self._seal(key, data) if _is_sealed(key) else data)

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        """Write the object, sealed, only if there is none.

        What was sealed anew differs from before. So a manifest that stands already is compared by its plain bytes.
        """
        return self._inner.put_if_absent(key, self._seal(key, data) if _is_sealed(key) else data)

    def make_ready(self, workload: Workload, deadline: Deadline) -> None:
        """Have the store ready, and the key that seals."""
        self._inner.make_ready(workload, deadline)
        self._keys.make_ready(workload, deadline)

    def check(self) -> None:
        """Check the store, and whether keys can be had."""
        self._inner.check()
        self._keys.check()

    def close(self) -> None:
        """Close the store, and let whoever has the keys do so."""
        self._inner.close()
        self._keys.close()

    def _seal(self, key: str, data: bytes | memoryview) -> memoryview:
        ours = self._keys.sealing(key)
        salt = os.urandom(32)
        head = _HEADER.pack(SEALED_MAGIC, ours.id, salt)
        sealed = new_memory(len(data) + OVERHEAD_BYTES)
        sealed[: len(head)] = head
        ours.cipher(salt).encrypt_into(_NONCE, data, _place(key, head), sealed[len(head) :])
        return sealed

    def _open(self, key: str, sealed: memoryview) -> memoryview:
        head = bytes(sealed[: _HEADER.size])
        if head[: len(SEALED_MAGIC)] != SEALED_MAGIC or len(sealed) < OVERHEAD_BYTES:
            if head[:3] == SEALED_MAGIC[:3]:
                raise FormatVersionError(f"{key} is sealed in another way", remedy="use a newer release of crikpy")
            raise IntegrityError(f"{key} is not sealed", remedy="only what our own keys have sealed is believed")
        _, name, salt = _HEADER.unpack(head)
        ours = self._keys.opening(key, name)
        plain = new_memory(max(1, len(sealed) - OVERHEAD_BYTES))[: len(sealed) - OVERHEAD_BYTES]
        try:
            ours.cipher(salt).decrypt_into(_NONCE, sealed[_HEADER.size :], _place(key, head), plain)
        except InvalidTag as forged:
            raise IntegrityError(f"{key} is damaged, or was sealed for another place") from forged
        return plain


def _is_sealed(key: str) -> bool:
    return layout.is_chunk_key(key) or layout.is_manifest_key(key)


def _place(key: str, head: bytes) -> bytes:
    """Return what is authenticated beside the bytes: where they lie, and by what they are opened."""
    return head + key.encode()
