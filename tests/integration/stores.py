"""A store that lets a test do something at the moment when the engine uses it."""

from __future__ import annotations

from collections.abc import Callable

from crikpy.store.base import ForwardingStore, ObjectStore


class WatchedStore(ForwardingStore):
    """Another store, with acts of the test before its announcements, chunks, manifests and claims are used."""

    def __init__(
        self,
        inner: ObjectStore,
        *,
        before_started: Callable[[], object] = lambda: None,
        before_chunk: Callable[[], object] = lambda: None,
        before_manifest: Callable[[], object] = lambda: None,
        before_claim: Callable[[], object] = lambda: None,
        before_read: Callable[[str], object] = lambda key: None,
    ) -> None:
        super().__init__(inner)
        self._before_started = before_started
        self._before_chunk = before_chunk
        self._before_manifest = before_manifest
        self._before_claim = before_claim
        self._before_read = before_read

    def get(self, key: str) -> bytes | memoryview:
        """Read, a chunk only after the test's act."""
        self._act(key)
        self._before_read(key)
        return self._inner.get(key)

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write, a chunk only after the test's act."""
        self._act(key)
        self._inner.put(key, data)

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        """Write, but only after the test's act."""
        self._act(key)
        return self._inner.put_if_absent(key, data)

    def _act(self, key: str) -> None:
        if "/chunks/" in key:
            self._before_chunk()
        elif key.endswith("/manifest.json"):
            self._before_manifest()
        elif key.endswith("/started.json"):
            self._before_started()
        elif key.endswith("/claim.json"):
            self._before_claim()
