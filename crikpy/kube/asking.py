"""Requests as conversations: answers become JSON or errors, "come back later" is obeyed, credentials are renewed.

Between crikpy.kube.client, which knows the acts of the API, and crikpy.kube.transport, which knows bytes.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from crikpy.aio.clock import Deadline
from crikpy.errors import EvictionBlockedError, KubeError, KubeExpiredError, KubeUnavailableError
from crikpy.kube.faults import UNAUTHORIZED, fault_of, fault_of_status, retry_after_s
from crikpy.kube.raw import Json
from crikpy.kube.transport import Answer, Transport
from crikpy.settings import KubeSettings

OPEN: Final = "OPEN"
"""Type of the first event of every watch, made by us: the server has accepted it and is reachable."""

_OK: Final = 200
_NOTHING: Final[Mapping[str, str]] = {}
_PAGE: Final = 500
"""Objects of a list that are asked for at once."""

_WATCH_S: Final = (240, 480)
"""Bounds of the time after which the server is asked to end a watch; spread, as client-go's are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a list.

    Attributes:
        items: raw JSON.
        resource_version: of the list as a whole.
        anew: the list begins with this page; what came before of it does not count.
    """

    items: tuple[Json, ...]
    resource_version: str
    anew: bool


class Asker:
    """Asks one API server."""

    def __init__(self, transport: Transport, settings: KubeSettings) -> None:
        self._transport = transport
        self._settings = settings

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = _NOTHING,
        body: object = None,
        media: str = "application/json",
        deadline: Deadline | None = None,
        evicting: bool = False,
    ) -> Json:
        """Send a request until it is answered other than by "come back later"; return the answer's object.

        Raises:
            KubeError: one of its kinds, as KubeApi describes them.
        """
        answer = await self.ask_bytes(
            method, path, query=query, body=body, media=media, deadline=deadline, evicting=evicting
        )
        return _object(f"{method} {path}", answer)

    async def ask_bytes(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = _NOTHING,
        body: object = None,
        media: str = "application/json",
        deadline: Deadline | None = None,
        evicting: bool = False,
    ) -> bytes:
        """Do the same and return the answer as it is, which behind a proxy need not be an object.

        Raises:
            KubeError: one of its kinds, as KubeApi describes them.
        """
        longest_s = self._settings.request_timeout_s
        limit = deadline or Deadline.after(longest_s)
        doing = f"{method} {path}"
        renewed = False
        while True:
            answer = await self._transport.call(
                method, path, query=query, body=body, media=media, limit=limit.earlier(longest_s)
            )
            if 200 <= answer.status < 300:
                return answer.body
            if self._refused(answer) and not renewed:
                renewed = True
                continue
            fault = fault_of(doing, answer.status, answer.body, evicting=evicting)
            pause_s = retry_after_s(answer.status, answer.retry_after)
            if isinstance(fault, EvictionBlockedError) or pause_s is None or pause_s > limit.remaining():
                raise fault
            await asyncio.sleep(pause_s * random.uniform(1.0, 1.2))  # noqa: S311 - spreads load, keeps no secret

    async def ask_pages(
        self, path: str, query: Mapping[str, str], deadline: Deadline | None
    ) -> AsyncGenerator[Page, None]:
        """Yield a list page by page, so that nobody need hold all of it.

        A list that expires while it is read begins once more, in one piece, which cannot expire.

        Raises:
            KubeError: one of its kinds, as KubeApi describes them.
        """
        limited = {**query, "limit": str(_PAGE)}
        for asked in (limited, query):
            pages = self._pages(path, asked, deadline)
            try:
                async with aclosing(pages):
                    async for page in pages:
                        yield page
            except KubeExpiredError:
                if asked is query:
                    raise
            else:
                return

    async def _pages(
        self, path: str, query: Mapping[str, str], deadline: Deadline | None
    ) -> AsyncGenerator[Page, None]:
        token, anew = "", True
        while token or anew:
            asked = {**query, "continue": token} if token else query
            page = await self.ask("GET", path, query=asked, deadline=deadline)
            items = page.get("items") or []
            if not all(is_object(thing) for thing in (page, *items)):
                raise KubeError(f"GET {path}: the answer is no list of objects; is it a Kubernetes API server?")
            meta = page["metadata"]
            yield Page(items=tuple(items), resource_version=meta["resourceVersion"], anew=anew)
            token, anew = meta.get("continue") or "", False

    async def follow(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[Json, None]:
        """Yield the events of a watch; see KubeApi.watch."""
        doing = f"watching {path}"
        query = {
            **query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(*_WATCH_S)),  # noqa: S311 - spreads load, keeps no secret
        }
        limit = Deadline.after(self._settings.request_timeout_s)
        silence_s = self._settings.watch_silence_s
        async with aclosing(self._transport.stream(path, query=query, limit=limit, silence_s=silence_s)) as lines:
            async for line in lines:
                if isinstance(line, bytes):
                    yield _event(doing, line)
                elif line.status == _OK:
                    yield {"type": OPEN, "object": {}}
                else:
                    self._refused(line)
                    raise fault_of(doing, line.status, line.body)

    def _refused(self, answer: Answer) -> bool:
        """Say whether our credentials were refused, and let the next request read them again."""
        if answer.status != UNAUTHORIZED:
            return False
        self._transport.renew_credentials()
        return True


def _object(doing: str, body: bytes) -> Json:
    try:
        found = json.loads(body)
    except ValueError as fault:
        raise KubeError(f"{doing}: the answer is no JSON; is it a Kubernetes API server?") from fault
    if not isinstance(found, dict):
        raise KubeError(f"{doing}: the answer is no JSON object; is it a Kubernetes API server?")
    return found


def _event(doing: str, line: bytes) -> Json:
    try:
        event = json.loads(line)
        kind, target = event["type"], event["object"]
    except (ValueError, KeyError, TypeError) as fault:
        raise KubeUnavailableError(f"{doing}: an event cannot be read") from fault
    if kind == "ERROR":
        raise fault_of_status(doing, target)
    if not is_object(target):
        raise KubeUnavailableError(f"{doing}: an event is about something that is no object")
    return {"type": kind, "object": target}


def is_object(target: object) -> bool:
    """Say whether something is what every object of the API is, a bookmark too: it has a version."""
    meta = target.get("metadata") if isinstance(target, dict) else None
    return isinstance(meta, dict) and isinstance(meta.get("resourceVersion"), str)
