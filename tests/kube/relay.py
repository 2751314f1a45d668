"""A stretch of network that can be cut: a TCP relay, so that one client loses a server that others still reach."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Self


class Relay:
    """Passes bytes to a server.

    Attributes:
        endpoint: URL on this side.
    """

    def __init__(self, port: int) -> None:
        self.endpoint = ""
        self._port = port
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def serving(cls, port: int) -> AsyncIterator[Self]:
        """Relay to a port of the loopback until the context ends."""
        relay = cls(port)
        server = await asyncio.start_server(relay._connected, "127.0.0.1", 0)
        relay.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield relay
        finally:
            server.close()
            for task in relay._tasks:
                task.cancel()
            if relay._tasks:
                await asyncio.wait(relay._tasks)

    def swallow(self) -> None:
        """Let nothing through any more, while connections stay: a network that has vanished."""
        self._open.clear()

    def mend(self) -> None:
        """Let everything through again, what was held back included."""
        self._open.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        pumps = [asyncio.create_task(self._pump(reader, back)), asyncio.create_task(self._pump(there, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for side in (writer, back):
                side.close()
            await asyncio.wait(pumps)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while part := await source.read(65536):
                await self._open.wait()
                sink.write(part)
                await sink.drain()
