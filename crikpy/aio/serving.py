"""A small HTTP server: probes and metrics of every process, and the webhook's reviews over TLS.

Routes are plain functions from a request to a response, so that they can be tried without a socket and no other
room needs to know the server's library. Whatever comes from outside is bounded: the size of a body, the time in
which it must arrive, the time that an idle connection is kept. Nothing here decides what is served.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from aiohttp import web

from crikpy.errors import UsageError
from crikpy.metrics import Metrics

_log = logging.getLogger(__name__)

_LARGEST_BODY = 8 * 1024 * 1024
"""Bytes of one request: the API server takes objects of 3 MiB, and a review holds the old one besides the new."""

_BODY_ARRIVES_S = 10.0
_IDLE_S = 120.0
"""Above the 90 s after which Go's clients (the API server, Prometheus) close an idle connection themselves: the
side that closes last never cuts off a request that was just sent."""

_WAITING = 128
"""Connections that the kernel holds until they are accepted."""

_GRACE_S = 5.0
"""How long requests under way may take once the server is told to end."""

_PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks.

    Attributes:
        method: such as `GET`.
        path: without the query.
        query: the query's parameters; of a repeated one the first.
        headers: by lower-case name; of a repeated one the first.
        body: all of it.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What it is answered.

    Attributes:
        status: HTTP status.
        body: text or bytes.
        content_type: MIME type of the body.
        headers: further ones.
    """

    status: int = 200
    body: str | bytes = ""
    content_type: str = _PLAIN
    headers: Mapping[str, str] = field(default_factory=dict)


Route = Callable[[Request], Awaitable[Response]]
Complaint = Callable[[], str | None]
"""Says what is wrong in one sentence, or None when nothing is."""


class Server:
    """Serves routes from the beginning of its context to its end.

    A TLS context may be given new certificates at any time (`load_cert_chain`): connections that begin later use
    them, so that a rotation needs no restart.

    Attributes:
        port: the port that it listens on, also when 0 was asked for.
    """

    def __init__(
        self,
        routes: Mapping[str, Route],
        *,
        address: str,
        port: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take routes by method and path, such as `GET /healthz`; HEAD is answered wherever GET is.

        An empty address means all of this machine, of IPv4 and IPv6 as far as it has them; port 0 means any.
        """
        self._routes = dict(routes)
        self._address = address
        self.port = port
        self._tls = tls
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Server:
        """Begin to listen.

        Raises:
            UsageError: the address and port cannot be had.
        """
        # A compressed body could unfold to any size.
        server = web.Server(self._answer, access_log=None, keepalive_timeout=_IDLE_S, auto_decompress=False)
        runner = web.ServerRunner(server, shutdown_timeout=_GRACE_S)
        await runner.setup()
        try:
            listening = _listen(self._address, self.port)
        except (OSError, OverflowError) as fault:
            await runner.cleanup()
            raise UsageError(
                f"cannot listen on {self._address or 'any address,'} port {self.port}: {fault}",
                remedy="set another address or port",
            ) from fault
        await web.SockSite(runner, listening, ssl_context=self._tls).start()
        self.port = listening.getsockname()[1]
        self._runner = runner
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more; requests under way get a moment to end."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, raw: web.BaseRequest) -> web.StreamResponse:
        route = self._find(raw.method, raw.path)
        if route is None:
            return _refuse(raw, 405 if self._knows(raw.path) else 404)
        try:
            async with asyncio.timeout(_BODY_ARRIVES_S):
                body = await _read(raw)
        except TimeoutError:
            return _refuse(raw, 408)
        if body is None:
            return _refuse(raw, 413)
        response = await self._ask(route, raw, body)
        headers = {**response.headers, "Content-Type": response.content_type}
        answer = web.Response(status=response.status, headers=headers)
        answer.body = response.body.encode() if isinstance(response.body, str) else response.body
        return answer

    async def _ask(self, route: Route, raw: web.BaseRequest, body: bytes) -> Response:
        request = Request(
            method=raw.method,
            path=raw.path,
            query=_first_of_each(raw.query.items()),
            headers=_first_of_each((name.lower(), value) for name, value in raw.headers.items()),
            body=body,
        )
        try:
            return await route(request)
        except Exception:  # noqa: BLE001  # a defect of one route is not the others'
            _log.exception("%s %s failed", raw.method, raw.path)
            return Response(status=500, body="internal error\n")

    def _find(self, method: str, path: str) -> Route | None:
        return self._routes.get(f"{'GET' if method == 'HEAD' else method} {path}")

    def _knows(self, path: str) -> bool:
        return any(key.split(" ", 1)[1] == path for key in self._routes)


def _listen(address: str, port: int) -> socket.socket:
    """Return a socket that listens; one for both families where an empty address asks for both."""
    if address:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family, backlog=_WAITING)
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_WAITING)
    except (OSError, ValueError) as fault:
        if isinstance(fault, OSError) and fault.errno == errno.EADDRINUSE:
            raise
        return socket.create_server(("", port), backlog=_WAITING)  # a machine without IPv6


async def _read(raw: web.BaseRequest) -> bytes | None:
    """Return the body, or None when there is more of it than any honest client sends."""
    body = bytearray()
    while part := await raw.content.readany():
        body += part
        if len(body) > _LARGEST_BODY:
            return None
    return bytes(body)


def _refuse(raw: web.BaseRequest, status: int) -> web.Response:
    response = web.Response(status=status)
    response.force_close()  # nobody reads on what is left of the body
    return response


def _first_of_each(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def _nothing_wrong() -> None:
    return None


def probe_routes(metrics: Metrics, ready: Complaint, *, alive: Complaint = _nothing_wrong) -> dict[str, Route]:
    """Return the routes that kubelet and Prometheus ask: /healthz, /readyz and /metrics.

    Args:
        metrics: what /metrics shows.
        ready: why the process cannot do its work now, or None when it can; answered as 503 and 200.
        alive: why the process must be restarted, or None.
    """

    async def healthz(_: Request) -> Response:
        return _verdict(alive())

    async def readyz(_: Request) -> Response:
        return _verdict(ready())

    async def exposition(_: Request) -> Response:
        return Response(body=metrics.render(), content_type="text/plain; version=0.0.4; charset=utf-8")

    return {"GET /healthz": healthz, "GET /readyz": readyz, "GET /metrics": exposition}


def _verdict(complaint: str | None) -> Response:
    return Response(body="ok\n") if complaint is None else Response(status=503, body=f"{complaint}\n")
