"""How a flow tells its story while it happens; who shows it, and where, is the caller's business."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from crikpy.model.streams import TransferProgress


class Reporter(Protocol):
    """Hears what happens; called from several threads, never waited for."""

    def event(self, name: str, message: str, **facts: object) -> None:
        """Something happened: a short name for programs, a sentence for people, facts for both."""
        ...

    def transfer(self, direction: str, progress: TransferProgress) -> None:
        """Bytes moved; the direction is `upload` or `download`."""
        ...


class Silent:
    """A reporter that tells nobody."""

    def event(self, name: str, message: str, **facts: object) -> None:
        """Ignore it."""

    def transfer(self, direction: str, progress: TransferProgress) -> None:
        """Ignore it."""


class Transfers:
    """Tells of several transfers that follow each other as if they were one."""

    def __init__(self, reporter: Reporter, direction: str, total_bytes: int | None = None) -> None:
        self._reporter = reporter
        self._direction = direction
        self._total_bytes = total_bytes
        self._plain_bytes = 0
        self._wire_bytes = 0

    def begin(self) -> Callable[[TransferProgress], None]:
        """Return what the next transfer is to call; it goes on where the last one ended."""
        plain_bytes, wire_bytes = self._plain_bytes, self._wire_bytes

        def tell(progress: TransferProgress) -> None:
            self._plain_bytes = plain_bytes + progress.plain_bytes
            self._wire_bytes = wire_bytes + progress.wire_bytes
            whole = TransferProgress(
                plain_bytes=self._plain_bytes, wire_bytes=self._wire_bytes, total_bytes=self._total_bytes
            )
            self._reporter.transfer(self._direction, whole)

        return tell
