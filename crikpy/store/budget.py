"""How the memory that a setting allows is shared out, so that no transfer ever outgrows it.

Arithmetic only. Everything large on the way of a chunk has a mapping of its own (chunks.new_memory), hence the
sums here are what the kernel counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from crikpy.errors import SettingsError
from crikpy.settings import StoreSettings
from crikpy.store.chunks import CHUNK_BYTES

MIB: Final = 1024 * 1024

RESERVED_BYTES: Final = 160 * MIB
"""For the interpreter, its libraries, the manifest and small images."""

_UPLOAD_BYTES: Final = CHUNK_BYTES + 2 * MIB
"""An encoder's output, which is what is being sent, and the compressor's own tables."""

_FETCH_BYTES: Final = 3 * CHUNK_BYTES
"""Received bytes while the client joins them, and the plain bytes that they become."""

_SEALED_BYTES: Final = CHUNK_BYTES
"""More for each of them where it is sealed."""

_LEAST_BYTES: Final = RESERVED_BYTES + 2 * _FETCH_BYTES
_MOST_BUFFERS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBudget:
    """Shares of a writing transfer.

    Attributes:
        buffers: chunks being filled or waiting.
        uploads: threads, each with one chunk in compressed form.
    """

    buffers: int
    uploads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBudget:
    """Shares of a reading transfer.

    Attributes:
        chunks: plain chunks held, those that are being fetched included; more where they are small.
        fetches: threads.
    """

    chunks: int
    fetches: int


def write_budget(settings: StoreSettings) -> WriteBudget:
    """Share out the memory of an upload: at most a half for sending, the rest for taking the job's bytes in.

    Raises:
        SettingsError: the memory does not suffice for any transfer.
    """
    free, each = _free(settings), _UPLOAD_BYTES + _sealed_bytes(settings)
    uploads = max(1, min(settings.transfers, free // 2 // each))
    buffers = min(_MOST_BUFFERS, (free - uploads * each) // CHUNK_BYTES)
    return WriteBudget(buffers=buffers, uploads=uploads)


def read_budget(settings: StoreSettings) -> ReadBudget:
    """Share out the memory of a download in the same way.

    Raises:
        SettingsError: the memory does not suffice for any transfer.
    """
    free, each = _free(settings), _FETCH_BYTES + _sealed_bytes(settings)
    fetches = max(1, min(settings.transfers, free // 2 // each))
    held = (free - fetches * each) // CHUNK_BYTES
    return ReadBudget(chunks=fetches + held, fetches=fetches)


def _free(settings: StoreSettings) -> int:
    if settings.memory_bytes < _LEAST_BYTES:
        raise SettingsError(
            f"{settings.memory_bytes // MIB} MiB of memory are too little for a transfer",
            remedy=f"set CRIKPY_STORE_MEMORY_BYTES to {_LEAST_BYTES // MIB}Mi or more",
        )
    if settings.transfers < 1:
        raise SettingsError("CRIKPY_STORE_TRANSFERS must be at least 1")
    return settings.memory_bytes - RESERVED_BYTES


def _sealed_bytes(settings: StoreSettings) -> int:
    return _SEALED_BYTES if settings.key_file or settings.kms_key else 0
