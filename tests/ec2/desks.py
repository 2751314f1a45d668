"""A desk for sources under test: it notes what it is told and answers as it is bidden."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from crikpy.ec2.sources import News, Taken
from crikpy.errors import KubeUnavailableError
from crikpy.model.notices import InterruptionNotice, Withdrawn


class Desk:
    """A `Desk` of crikpy.ec2.sources.

    Attributes:
        news: all that was told, failures too.
        foreign: instances of other clusters.
        failures: how many times to fail from now on.
        clear: whether machines are clear.
    """

    def __init__(self) -> None:
        self.news: list[News] = []
        self.foreign: set[str] = set()
        self.failures = 0
        self.clear = True
        self.asked = 0
        self.defect = False

    async def take(self, news: News) -> Taken:
        """Note news."""
        self.news.append(news)
        if self.defect:
            raise RuntimeError("a defect")
        if self.failures:
            self.failures -= 1
            raise KubeUnavailableError("the API server is away")
        notice = news.notice if isinstance(news, Withdrawn) else news
        return Taken.FOREIGN if notice.instance in self.foreign else Taken.ACTED

    async def is_clear(self, instance: str) -> bool:
        """Say whether a machine is clear."""
        assert instance
        self.asked += 1
        return self.clear

    @property
    def notices(self) -> list[InterruptionNotice]:
        """Return the notices among what was told."""
        return [news for news in self.news if isinstance(news, InterruptionNotice)]

    async def until(self, true: Callable[[], object], *, within_s: float = 15) -> None:
        """Wait until something is true."""
        async with asyncio.timeout(within_s):
            while not true():  # noqa: ASYNC110 - servers tell nobody
                await asyncio.sleep(0.02)
