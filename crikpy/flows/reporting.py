"""How a flow tells its story while it happens; who shows it, and where, is the caller's business."""

from __future__ import annotations

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
