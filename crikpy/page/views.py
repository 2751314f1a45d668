"""Views of the page, made once for all who look at the same time, and beside the event loop.

The process that serves the page has jobs to save: however large the cluster and however many look, that must not
wait for them. So views are made in a thread, one at a time, and are good for a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from crikpy.page.facts import Facts
from crikpy.page.keeping import Kept
from crikpy.page.viewing import View, view_of

Look = Callable[[], Facts | None]
"""Returns the newest picture of the cluster; None as long as there is none."""

_GOOD_S: Final = 1.0
_KEPT: Final = 50


class Views:
    """The newest view of each namespace that somebody has asked for."""

    def __init__(self, look: Look, *, good_s: float = _GOOD_S) -> None:
        self._look = look
        self._made: Kept[str, View] = Kept(good_s, _KEPT)
        self._making = asyncio.Lock()

    async def get(self, namespace: str) -> View | None:
        """Return what is shown of a namespace, of all when that is empty; None as long as nothing was seen."""
        async with self._making:
            good, view = self._made.get(namespace)
            if good:
                return view
            facts = self._look()
            if facts is None:
                return None
            view = await asyncio.to_thread(view_of, facts, namespace)
            self._made.put(namespace, view)
            return view
