"""What the controller's sources of interruption notices have in common.

A source hears and translates; it decides nothing. What it tells is taken at a desk, which says what came of it, so
that a message is deleted only once it has been acted upon. Sources keep nothing: one that begins anew hears again
what was not acted upon.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from crikpy.model.notices import InterruptionNotice, Withdrawn

News = InterruptionNotice | Withdrawn
"""What a source tells of one machine."""


class Taken(StrEnum):
    """What came of news."""

    ACTED = "acted"
    """It stands on the node now; everything else follows from there, whoever dies."""

    KNOWN = "known"
    """The node bears a notice of the same event, or of a more pressing one, already."""

    FOREIGN = "foreign"
    """No node of this cluster is that machine."""


class Desk(Protocol):
    """Who takes news."""

    async def take(self, news: News) -> Taken:
        """Act upon news.

        Raises:
            CrikpyError: it could not be acted upon now; to be told again later.
        """
        ...

    async def is_clear(self, instance: str) -> bool:
        """Say whether nothing is left on a machine that waits to be saved or moved.

        Raises:
            CrikpyError: nobody can say that now.
        """
        ...


class Source(Protocol):
    """One source.

    Attributes:
        name: a word for logs and metrics: `queue`, `poll`.
    """

    name: str

    async def check(self) -> str:
        """Return one sentence on what is heard, once it is known to work.

        Raises:
            CrikpyError: it does not work, with what to do about it.
        """
        ...

    async def run(self, desk: Desk) -> None:
        """Hear for ever; never raises for an outage. Cancel to stop."""
        ...
