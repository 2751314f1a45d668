"""Who may look: a bearer token, judged by the API server, and what that lets its bearer list.

What the page shows can all be read in Checkpoint objects, pods and events, so whoever may list these three in a
namespace may see it of that namespace, and whoever may in all, of all. Verdicts are kept for some seconds, by a
hash of the token, so that an open page does not ask the API server all the time; a token that was withdrawn is let
in no longer than that. Nobody is let in without a verdict.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Final

from crikpy.aio.clock import Deadline
from crikpy.kube.api import KubeApi
from crikpy.kube.permissions import Person, identify, may_list
from crikpy.kube.resources import CHECKPOINTS, EVENTS, PODS
from crikpy.page.keeping import Kept

LISTED: Final = (CHECKPOINTS, PODS, EVENTS)
"""What somebody must be allowed to list."""

_KEPT_S: Final = 20.0
_KEPT: Final = 1000
_AT_ONCE: Final = 4
"""Questions to the API server under way at once: strangers must not keep it busy through us."""

_ANSWERED_S: Final = 10.0
_LONGEST_TOKEN: Final = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Somebody whom the API server knows.

    Attributes:
        name: the user's name.
        allowed: he may see what he asks for.
    """

    name: str
    allowed: bool


class Visitors:
    """Judges bearers of tokens."""

    def __init__(self, api: KubeApi, *, kept_s: float = _KEPT_S) -> None:
        self._api = api
        self._persons: Kept[bytes, Person | None] = Kept(kept_s, _KEPT)
        self._rights: Kept[tuple[Person, str], bool] = Kept(kept_s, _KEPT)
        self._asking = asyncio.Semaphore(_AT_ONCE)

    async def judge(self, token: str, namespace: str) -> Visitor | None:
        """Return who bears a token, and whether he may see a namespace, all when that is empty; None for nobody.

        Raises:
            KubeError: the API server did not answer, or does not let us ask.
        """
        if not 0 < len(token) <= _LONGEST_TOKEN:
            return None
        deadline = Deadline.after(_ANSWERED_S)
        digest = hashlib.sha256(token.encode()).digest()
        found, person = self._persons.get(digest)
        if not found:
            async with self._asking:
                person = await identify(self._api, token, deadline)
            self._persons.put(digest, person)
        if person is None:
            return None
        found, allowed = self._rights.get((person, namespace))
        if not found:
            allowed = await self._may_see(person, namespace, deadline)
            self._rights.put((person, namespace), allowed)
        return Visitor(name=person.name, allowed=allowed is True)

    async def _may_see(self, person: Person, namespace: str, deadline: Deadline) -> bool:
        for resource in LISTED:
            async with self._asking:
                if not await may_list(self._api, person, resource, namespace, deadline):
                    return False
        return True
