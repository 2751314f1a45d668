"""Watches of tests.fakes.kube: history, selection, bookmarks, and every way in which they end."""

from __future__ import annotations

import asyncio
import contextlib
import json

from aiohttp import web

from tests.fakes.kube_objects import Happening, Objects
from tests.fakes.kube_requests import Request
from tests.fakes.kube_rules import Json, RefusedError


class _Watch:
    """One open watch: where it is in the history, and what it was ordered to do."""

    def __init__(self, request: Request, version: int) -> None:
        self.request = request
        self.selects = request.selection()
        self.version = version
        self.orders: list[str] = []
        self.stir = asyncio.Event()


class Watches:
    """All open watches.

    Attributes:
        stalled: plurals whose watches send nothing; the empty one stalls all.
        closing: every watch ends at once.
    """

    def __init__(self, objects: Objects) -> None:
        self.stalled: set[str] = set()
        self.closing = False
        self._objects = objects
        self._open: set[_Watch] = set()
        objects.told = self._stir

    def count(self, plural: str) -> int:
        """Return how many watches of a kind are open."""
        return sum(watch.request.plural == plural for watch in self._open)

    def order(self, order: str, plural: str = "") -> None:
        """Tell the open watches of a kind to do something, after what they have to send."""
        for watch in self._open:
            if plural in ("", watch.request.plural):
                watch.orders.append(order)
                watch.stir.set()

    async def serve(
        self, http: web.BaseRequest, request: Request, transport: asyncio.Transport
    ) -> web.StreamResponse:
        """Send events until the time is over or an order ends it."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        wanted = request.query.get("resourceVersion") or "0"
        watch = _Watch(request, self._objects.version if wanted == "0" else int(wanted))
        await response.prepare(http)
        if wanted == "0":
            for item in self._objects.all(request.resource).values():
                if watch.selects(item):
                    await _send(response, "ADDED", item)
        self._open.add(watch)
        try:
            async with asyncio.timeout(float(request.query.get("timeoutSeconds") or 1800)):
                await self._follow(watch, response, transport)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self._open.discard(watch)
        with contextlib.suppress(ConnectionError):
            await response.write_eof()
        return response

    async def _follow(self, watch: _Watch, response: web.StreamResponse, transport: asyncio.Transport) -> None:
        while True:
            watch.stir.clear()
            if not self.stalled & {"", watch.request.plural}:
                if watch.version < self._objects.oldest:
                    return await _send(response, "ERROR", _expired(watch.version))
                for happening in [each for each in self._objects.history if each.version > watch.version]:
                    watch.version = happening.version
                    if event := _seen(watch, happening):
                        await _send(response, *event)
            if self.closing:
                return None
            while watch.orders:
                if await self._obey(watch, watch.orders.pop(0), response, transport):
                    return None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(watch.stir.wait(), 0.05)

    async def _obey(
        self, watch: _Watch, order: str, response: web.StreamResponse, transport: asyncio.Transport
    ) -> bool:
        """Do what was ordered; returns whether the watch is over."""
        if order == "bookmark":
            if watch.request.query.get("allowWatchBookmarks") in ("true", "1"):
                kind = watch.request.resource
                mark = {"kind": kind.kind, "apiVersion": kind.api_version}
                version = str(self._objects.version)
                meta = {"metadata": {"resourceVersion": version, "creationTimestamp": None}}
                await _send(response, "BOOKMARK", mark | meta)
            return False
        if order in ("drop", "half"):
            await response.write(b'{"type":"MODIFIED","object":{"meta')
            await asyncio.sleep(0)
            if order == "drop":
                transport.abort()
        elif order.startswith("error "):
            code = int(order.removeprefix("error "))
            refusal = RefusedError(code, "Expired" if code == 410 else "InternalError", "an error on the server")
            await _send(response, "ERROR", refusal.status())
        return True

    def _stir(self) -> None:
        for watch in self._open:
            watch.stir.set()


def _expired(version: int) -> Json:
    return RefusedError(410, "Expired", f"too old resource version: {version}").status()


def _seen(watch: _Watch, happening: Happening) -> tuple[str, Json] | None:
    """Return what a watch tells of a change: an object that leaves its selection is DELETED for it."""
    if happening.plural != watch.request.plural:
        return None
    before = happening.before is not None and watch.selects(happening.before)
    after = happening.after is not None and watch.selects(happening.after)
    if after:
        return ("MODIFIED" if before else "ADDED"), happening.last
    return ("DELETED", happening.last) if before else None


async def _send(response: web.StreamResponse, kind: str, item: Json) -> None:
    await response.write(json.dumps({"type": kind, "object": item}).encode() + b"\n")
