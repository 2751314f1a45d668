"""Keys that seal, and where they come from: a file that somebody else keeps, or keyrings (keyring.py).

Only what a key is and who is asked for one; sealing.py uses them. No secret shows in a message, a log or a repr.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from crikpy.aio.clock import Deadline
from crikpy.errors import IntegrityError, SettingsError
from crikpy.model.workload import Workload

KEY_BYTES: Final = 32
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
        return AESGCM(_derived(self._secret, salt, b"crikpy object", KEY_BYTES))


class KeySource(Protocol):
    """Whoever has keys. Every method may be called from any thread, and raises what an ObjectStore's may."""

    def sealing(self, place: str) -> Key:
        """Return the key that seals what is written to a place in the store."""
        ...

    def opening(self, place: str, name: bytes) -> Key:
        """Return the key of that id, for what lies at a place in the store.

        Raises:
            IntegrityError: none of ours has that id.
        """
        ...

    def make_ready(self, workload: Workload, deadline: Deadline) -> None:
        """Have the key at hand that seals what is written for a workload."""
        ...

    def check(self) -> None:
        """Find out now whether keys can be had."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class HeldKeys:
    """Keys that this process was given at its start, the same for all of the store."""

    def __init__(self, keys: Sequence[Key]) -> None:
        """Take at least one key, of which the first seals."""
        self._sealing = keys[0]
        self._keys = {key.id: key for key in keys}

    def sealing(self, place: str) -> Key:
        """Return the first."""
        return self._sealing

    def opening(self, place: str, name: bytes) -> Key:
        """Return that key."""
        found = self._keys.get(name)
        if found is None:
            raise IntegrityError(
                f"{place} is sealed with a key that is not ours", remedy="keep old keys in CRIKPY_STORE_KEY_FILE"
            )
        return found

    def make_ready(self, workload: Workload, deadline: Deadline) -> None:
        """Do nothing: they are at hand."""

    def check(self) -> None:
        """Do nothing: they were looked at when they were read."""

    def close(self) -> None:
        """Do nothing."""


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
    if not secrets or any(len(secret) != KEY_BYTES for secret in secrets):
        raise SettingsError(f"{path} holds no key, or one of another length than 32 bytes", remedy=_HOW)
    return tuple(Key.of(secret) for secret in secrets)


def _derived(secret: bytes, salt: bytes, use: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt or None, use).derive(secret)
