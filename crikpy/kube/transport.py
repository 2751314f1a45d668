"""Bytes to and from an API server: the only module that touches sessions and connections.

It knows no objects and decides nothing: an answer of any status is an answer. The library's own timeouts,
repetitions, models and watches are not used, since each of them loses something that we need.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from crikpy.aio.clock import Deadline
from crikpy.errors import KubeError, KubeUnavailableError

_log = logging.getLogger(__name__)

_NO_LIMITS: Final = aiohttp.ClientTimeout(total=None, sock_connect=None)
"""The library would set five minutes for everything; every wait here has its own limit instead."""

_ASKING: Final = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
"""Seconds of silence before the first question and between two, and how many without an answer are too many."""

_RENEWAL_S: Final = 60.0
"""Time between two looks at credentials that change; kubelet renews tokens long before they end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of the server.

    Attributes:
        status: of HTTP.
        retry_after: value of the header of that name, or empty.
        body: the bytes.
    """

    status: int
    retry_after: str
    body: bytes


class Credentials:
    """Reads credentials again where they change: tokens of service accounts, files, plug-ins.

    The library calls it before each request that bears a token (`refresh_api_key_hook`).
    """

    def __init__(self, load: Callable[[], Awaitable[None]]) -> None:
        self._load = load
        self._next = time.monotonic() + _RENEWAL_S

    async def __call__(self, configuration: Any) -> None:
        """Read them again when it is time; those at hand go on when they cannot be read."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _RENEWAL_S
        try:
            await self._load()
        except Exception as fault:  # noqa: BLE001 - a plug-in's or file's fault, whatever it is, ends no request
            _log.warning("the credentials could not be read again; those at hand are used on: %s", fault)
        configuration.refresh_api_key_hook = self  # the library's loaders put their own in its place

    def expire(self) -> None:
        """Let the next request read them again."""
        self._next = 0.0


class Transport:
    """One API server.

    Attributes:
        host: its URL.
    """

    def __init__(self, api: Any, credentials: Credentials) -> None:
        """Take over the library's `ApiClient`."""
        self._api = api
        self._credentials = credentials
        self.host: str = api.configuration.host

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    def renew_credentials(self) -> None:
        """Let the next request read the credentials again."""
        self._credentials.expire()

    async def call(
        self, method: str, path: str, *, query: Mapping[str, str], body: Any, media: str, limit: Deadline
    ) -> Answer:
        """Send a request and return the answer, whatever its status.

        Raises:
            KubeUnavailableError: no answer, or none before the limit.
        """
        with self._translated(method, path):
            async with asyncio.timeout(limit.remaining()):
                async with await self._send(method, path, query, body, media) as response:
                    content = await response.read()
                    return Answer(
                        status=response.status, retry_after=response.headers.get("Retry-After", ""), body=content
                    )

    async def stream(
        self, path: str, *, query: Mapping[str, str], limit: Deadline, silence_s: float
    ) -> AsyncGenerator[Answer | bytes, None]:
        """Send a GET and yield the answer first, then the lines of a body without end.

        The answer has no body unless its status is another than 200; it ends the stream then. The stream ends
        when the server ends it in good order.

        Raises:
            KubeUnavailableError: no answer before the limit, then silence for `silence_s` seconds, or a broken
                connection.
        """
        with self._translated("GET", path):
            async with asyncio.timeout(limit.remaining()):
                response = await self._send("GET", path, query, None, "application/json")
            _keep_asking(response)
            try:
                refused = response.status != 200
                body = await _read(response, silence_s) if refused else b""
                yield Answer(
                    status=response.status, retry_after=response.headers.get("Retry-After", ""), body=body
                )
                if refused:
                    return
                rest: list[bytes] = []
                while chunk := await _next_chunk(response, silence_s):
                    *ends, begin = chunk.split(b"\n")
                    for end in ends:
                        yield b"".join((*rest, end))
                        rest.clear()
                    rest.append(begin)
                if any(rest):
                    raise KubeUnavailableError(f"GET {path}: the API server broke off in the middle of an event")
            finally:
                response.close()

    async def _send(
        self, method: str, path: str, query: Mapping[str, str], body: Any, media: str
    ) -> aiohttp.ClientResponse:
        request = await self._api.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", "Content-Type": media},
            body=body,
            auth_settings=["BearerToken"],
        )
        reply = await self._api.call_api(*request, _request_timeout=_NO_LIMITS)
        response: aiohttp.ClientResponse = reply.response
        return response

    @contextmanager
    def _translated(self, method: str, path: str) -> Iterator[None]:
        """Turn what the libraries raise into our own errors."""
        doing = f"{method} {path}"
        try:
            yield
        except KubeError:
            raise
        except TimeoutError as fault:
            raise KubeUnavailableError(f"{doing}: the API server at {self.host} did not answer in time") from fault
        except (aiohttp.ClientError, OSError) as fault:
            text = str(fault) or type(fault).__name__
            raise KubeUnavailableError(f"{doing}: the API server at {self.host} is away: {text}") from fault


def _keep_asking(response: aiohttp.ClientResponse) -> None:
    """Have the kernel ask the other side while a body without end is silent.

    A server whose machine went, or that a gateway on the way has forgotten, says nothing; neither does a healthy
    one for minutes. An interruption must not be over before we know the difference.
    """
    transport = response.connection and response.connection.transport
    stream = transport.get_extra_info("socket") if transport else None
    if stream is not None:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _ASKING.items():
            stream.setsockopt(socket.IPPROTO_TCP, option, value)


async def _read(response: aiohttp.ClientResponse, limit_s: float) -> bytes:
    async with asyncio.timeout(limit_s):
        return await response.read()


async def _next_chunk(response: aiohttp.ClientResponse, silence_s: float) -> bytes:
    async with asyncio.timeout(silence_s):
        return await response.content.readany()
