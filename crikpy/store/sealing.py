"""A store whose chunks and manifests nobody reads or forges who has the bucket alone. docs/formats.md, "Sealed".

Between the store and everybody above it: what is written is encrypted and authenticated, what is read is refused
unless one of our keys has sealed it for this very place. Every object has a key of its own, derived from ours and
from random bytes, so that no bound on how often a key may be used is ever near. Records (claims, quarantines, who
holds a name) stay as they are: they hold nothing of the job, and their conditions must work on plain bytes.
"""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from crikpy.errors import FormatVersionError, IntegrityError, SettingsError
from crikpy.store import layout
from crikpy.store.base import ForwardingStore, ObjectStore
from crikpy.store.chunks import SEALED_MAGIC, new_memory

_HEADER: Final = struct.Struct("<4s8s32s")
_TAG_BYTES: Final = 16
_KEY_BYTES: Final = 32
_NONCE: Final = bytes(12)
"""Always the same: no two objects share a key."""

OVERHEAD_BYTES: Final = _HEADER.size + _TAG_BYTES
_HOW: Final = "make one with: openssl rand -base64 32"


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Attributes:
        id: 8 bytes that name it in what it has sealed.
    """

    id: bytes
    _secret: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: bytes) -> Key:
        """Make a key of 32 random bytes."""
        return cls(_derived(secret, b"", b"crikpy key id", 8), secret)

    def cipher(self, salt: bytes) -> AESGCM:
        """Return what seals and opens the one object with this salt."""
        return AESGCM(_derived(self._secret, salt, b"crikpy object", _KEY_BYTES))


def read_keys(path: Path) -> tuple[Key, ...]:
    """Read a file of keys, one in each line: 32 random bytes in base64; the first seals, all open.

    Raises:
        SettingsError: it cannot be read, or holds something else.
    """
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
        secrets = [base64.b64decode(line, validate=True) for line in lines if line and not line.startswith("#")]
    except OSError as fault:
        raise SettingsError(f"the keys of the store cannot be read: {fault}") from fault
    except ValueError as fault:
        raise SettingsError(f"{path} holds something else than keys in base64", remedy=_HOW) from fault
    if not secrets or any(len(secret) != _KEY_BYTES for secret in secrets):
        raise SettingsError(f"{path} holds no key, or one of another length than 32 bytes", remedy=_HOW)
    return tuple(Key.of(secret) for secret in secrets)


class SealedStore(ForwardingStore):
    """Another store, with its chunks and manifests sealed; listings show sizes as they lie there."""

    def __init__(self, inner: ObjectStore, keys: Sequence[Key]) -> None:
        """Take a store and at least one key, of which the first seals."""
        super().__init__(inner)
        self._sealing = keys[0]
        self._keys = {key.id: key for key in keys}

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

    def _seal(self, key: str, data: bytes | memoryview) -> memoryview:
        salt = os.urandom(32)
        head = _HEADER.pack(SEALED_MAGIC, self._sealing.id, salt)
        sealed = new_memory(len(data) + OVERHEAD_BYTES)
        sealed[: len(head)] = head
        self._sealing.cipher(salt).encrypt_into(_NONCE, data, _place(key, head), sealed[len(head) :])
        return sealed

    def _open(self, key: str, sealed: memoryview) -> memoryview:
        head = bytes(sealed[: _HEADER.size])
        if head[: len(SEALED_MAGIC)] != SEALED_MAGIC or len(sealed) < OVERHEAD_BYTES:
            if head[:3] == SEALED_MAGIC[:3]:
                raise FormatVersionError(f"{key} is sealed in another way", remedy="use a newer release of crikpy")
            raise IntegrityError(f"{key} is not sealed", remedy="only what our own keys have sealed is believed")
        _, name, salt = _HEADER.unpack(head)
        ours = self._keys.get(name)
        if ours is None:
            raise IntegrityError(
                f"{key} is sealed with a key that is not ours", remedy="keep old keys in CRIKPY_STORE_KEY_FILE"
            )
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


def _derived(secret: bytes, salt: bytes, use: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt or None, use).derive(secret)
