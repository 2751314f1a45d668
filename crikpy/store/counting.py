"""Stands before a store and counts what it did not fulfil; it changes no answer and repeats nothing.

An object that is not there is an answer, and is not counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from crikpy.errors import CrikpyError, ObjectNotFoundError
from crikpy.metrics import Metrics
from crikpy.store.base import ForwardingStore, ObjectInfo, ObjectStore


class CountingStore(ForwardingStore):
    """A store whose faults are counted by act and reason."""

    def __init__(self, inner: ObjectStore, metrics: Metrics) -> None:
        super().__init__(inner)
        self._metrics = metrics

    @contextlib.contextmanager
    def _counted(self, act: str) -> Iterator[None]:
        try:
            yield
        except ObjectNotFoundError:
            raise
        except CrikpyError as fault:
            self._metrics.store_errors.labels(act=act, reason=fault.reason).inc()
            raise

    def get(self, key: str) -> bytes | memoryview:
        """Read."""
        with self._counted("read"):
            return super().get(key)

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """Read with a tag."""
        with self._counted("read"):
            return super().get_tagged(key)

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write."""
        with self._counted("write"):
            super().put(key, data)

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        """Write if there is nothing."""
        with self._counted("write"):
            return super().put_if_absent(key, data)

    def replace(self, key: str, data: bytes | memoryview, tag: str) -> str | None:
        """Write if it is unchanged."""
        with self._counted("write"):
            return super().replace(key, data, tag)

    def delete(self, key: str) -> None:
        """Remove."""
        with self._counted("write"):
            super().delete(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List objects."""
        with self._counted("list"):
            yield from super().list(prefix)

    def folders(self, prefix: str) -> Iterator[str]:
        """List folders."""
        with self._counted("list"):
            yield from super().folders(prefix)

    def check(self) -> None:
        """Check."""
        with self._counted("check"):
            super().check()
