"""What crikpy asks of a place that keeps bytes: few acts, and conditional writes that really are kept.

Everything above sees only this interface. Every method may be called from any thread, blocks until the store
has answered, and raises only errors of crikpy.errors: StoreUnavailableError when it may succeed later,
StoreForbiddenError, StoreFullError, NoSuchBucketError, or StoreError for anything else.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from crikpy.aio.clock import Deadline
from crikpy.errors import StoreError
from crikpy.model.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """One object of a listing.

    Attributes:
        key: the whole key, without the store's own prefix.
        size: bytes.
        modified: when it was last written, by the store's clock, aware UTC.
    """

    key: str
    size: int
    modified: datetime


class ObjectStore(Protocol):
    """Objects by key; keys are words joined by `/`, none of them starting with a dot."""

    @property
    def url(self) -> str:
        """Return the URL it was opened with, for messages."""
        ...

    def get(self, key: str) -> bytes | memoryview:
        """Return the object's bytes.

        Raises:
            ObjectNotFoundError: it is not there.
        """
        ...

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """Return the object's bytes and a tag that changes with them, for `replace`.

        Raises:
            ObjectNotFoundError: it is not there.
        """
        ...

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write the object, whole or not at all; durable on return. Overwrites."""
        ...

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        """Write the object only if there is none, and say whether it was us; exactly one of many callers wins."""
        ...

    def replace(self, key: str, data: bytes | memoryview, tag: str) -> str | None:
        """Write the object only if it still has that tag; return the new tag, or None when it has not."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; fine when it is not there."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose key starts with the prefix, in no promised order."""
        ...

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names, without slashes, of the folders right below a prefix that is empty or ends in `/`."""
        ...

    def make_ready(self, workload: Workload, deadline: Deadline) -> None:
        """Get what writing for a workload will need from others, so that it cannot be wanting halfway."""
        ...

    def check(self) -> None:
        """Find out now whether work can succeed: reachable, there, writable, and conditions are kept."""
        ...

    def close(self) -> None:
        """Let go of connections; calls under way may fail."""
        ...


class ForwardingStore:
    """Passes everything on to another store; who stands before one changes what he has to."""

    def __init__(self, inner: ObjectStore) -> None:
        """Take the other store."""
        self._inner = inner

    @property
    def url(self) -> str:
        """Return the other store's URL."""
        return self._inner.url

    def get(self, key: str) -> bytes | memoryview:
        """Read."""
        return self._inner.get(key)

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """Read with a tag."""
        return self._inner.get_tagged(key)

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write."""
        self._inner.put(key, data)

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        """Write if there is nothing."""
        return self._inner.put_if_absent(key, data)

    def replace(self, key: str, data: bytes | memoryview, tag: str) -> str | None:
        """Write if it is unchanged."""
        return self._inner.replace(key, data, tag)

    def delete(self, key: str) -> None:
        """Remove."""
        self._inner.delete(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List objects."""
        return self._inner.list(prefix)

    def folders(self, prefix: str) -> Iterator[str]:
        """List folders."""
        return self._inner.folders(prefix)

    def make_ready(self, workload: Workload, deadline: Deadline) -> None:
        """Make ready."""
        self._inner.make_ready(workload, deadline)

    def check(self) -> None:
        """Check."""
        self._inner.check()

    def close(self) -> None:
        """Close."""
        self._inner.close()


def probe(store: ObjectStore) -> None:
    """Try the acts that everything rests on with an object of no meaning, and remove it again.

    Raises:
        StoreError: the store accepts conditional writes and ignores their conditions.
    """
    key = f"crikpy-probe-{secrets.token_hex(8)}"
    first, second = b"first", b"second"
    kept = store.put_if_absent(key, first)
    try:
        kept = kept and not store.put_if_absent(key, second)
        content, tag = store.get_tagged(key)
        kept = kept and content == first and store.replace(key, second, tag) is not None
        kept = kept and store.replace(key, first, tag) is None
    finally:
        store.delete(key)
    if not kept:
        raise StoreError(
            f"{store.url} ignores the conditions of conditional writes",
            remedy="use a store that keeps If-None-Match and If-Match on PutObject, as AWS S3 does",
        )
