"""A metadata service for tests and the demo: real sockets, IMDSv2 enforced, trouble on demand.

It keeps AWS's rules (a token for every GET, a TTL for every token, no forwarded requests) and counts who breaks
them, so that a test can show that nobody did. It is also a program, for machines that are network namespaces:

    python -m tests.fakes.imds serve --address 169.254.169.254 --port 80 --control /run/imds.sock
    python -m tests.fakes.imds tell /run/imds.sock '{"do": "spot", "action": "terminate", "in_s": 120}'

`serve` writes one line to standard output once both sockets listen. The control socket takes JSON lines, each
an order for a method named in ORDERS, and answers each with a JSON line; a Unix socket is reached from any
network namespace.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

TOKEN_HEADER = "X-aws-ec2-metadata-token"
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_PATH = "api/token"

SPOT = "meta-data/spot/instance-action"
REBALANCE = "meta-data/events/recommendations/rebalance"
SCHEDULED = "meta-data/events/maintenance/scheduled"
LIFECYCLE = "meta-data/autoscaling/target-lifecycle-state"

ORDERS = ("spot", "rebalance", "scheduled", "lifecycle", "put", "trouble", "heal", "expire_tokens", "counts")


class FakeImds:
    """The service of one machine.

    Attributes:
        endpoint: URL of the running service.
        seen: what was counted: `tokens` given, `answers` given, `bad-ttl`, `no-token` (every attempt at
            IMDSv1), `bad-token`, `forwarded`.
        stalling: set while a request is held back.
        grants_ttl_s: TTL given to tokens whatever is asked; None gives what is asked.
    """

    def __init__(self, *, instance: str = "i-0123456789abcdef0", zone: str = "eu-west-1b") -> None:
        self.endpoint = ""
        self.seen: Counter[str] = Counter()
        self.stalling = asyncio.Event()
        self.grants_ttl_s: int | None = None
        self._tokens: dict[str, float] = {}
        self._trouble: dict[str, str] = {}
        self._healed = asyncio.Event()
        self._pages = {
            "meta-data/instance-id": instance,
            "meta-data/instance-type": "m7i.large",
            "meta-data/instance-life-cycle": "spot",
            "meta-data/placement/availability-zone": zone,
            "meta-data/local-hostname": f"{instance}.internal",
            "dynamic/instance-identity/document": json.dumps(
                {
                    "instanceId": instance,
                    "instanceType": "m7i.large",
                    "region": zone[:-1],
                    "availabilityZone": zone,
                    "accountId": "123456789012",
                }
            ),
            SCHEDULED: "[]",
        }

    @contextlib.asynccontextmanager
    async def serving(self, *, address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[FakeImds]:
        """Serve until the context ends; port 0 takes a free one, which `endpoint` then names."""
        runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, address, port)
            await site.start()
            bound = runner.addresses[0][1]
            self.endpoint = f"http://{address}:{bound}"
            yield self
        finally:
            self.heal()
            await runner.cleanup()

    # What the machine is told.

    def spot(self, action: str = "terminate", *, at: str | None = None, in_s: float = 120) -> None:
        """Announce an interruption at an RFC 3339 time, or so many seconds ahead."""
        self.put(SPOT, json.dumps({"action": action, "time": at or _ahead(in_s)}))

    def rebalance(self, *, at: str | None = None) -> None:
        """Recommend a rebalance."""
        self.put(REBALANCE, json.dumps({"noticeTime": at or _ahead(0)}))

    def scheduled(self, *events: dict[str, str]) -> None:
        """Schedule maintenance: the whole list, in AWS's own words."""
        self.put(SCHEDULED, json.dumps(list(events)))

    def lifecycle(self, state: str) -> None:
        """Set the state that the Auto Scaling group wants."""
        self.put(LIFECYCLE, state)

    def put(self, path: str, body: str | None) -> None:
        """Put any text at a path; None takes the page away."""
        if body is None:
            self._pages.pop(path, None)
        else:
            self._pages[path] = body

    # How it misbehaves.

    def trouble(self, kind: str, path: str = "") -> None:
        """Answer a path (all of them when empty) with `stall`, `reset` or a status such as `503`."""
        self._trouble[path] = kind

    def heal(self) -> None:
        """End all trouble; requests that stall are answered."""
        self._trouble.clear()
        self.stalling.clear()
        self._healed.set()
        self._healed = asyncio.Event()

    def expire_tokens(self) -> None:
        """Forget every token, as a service does that was restarted."""
        self._tokens.clear()

    def counts(self) -> dict[str, int]:
        """Return what was seen so far."""
        return dict(self.seen)

    # The service.

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if not request.path.startswith("/latest/"):
            return web.Response(status=404)
        path = request.path.removeprefix("/latest/")
        if (kind := self._trouble.get(path, self._trouble.get(""))) is not None:
            trouble = await self._misbehave(kind, request)
            if trouble is not None:
                return trouble
        if "X-Forwarded-For" in request.headers:
            self.seen["forwarded"] += 1
            return web.Response(status=403)
        if path == TOKEN_PATH:
            return self._give_token(request)
        return self._give_page(path, request)

    async def _misbehave(self, kind: str, request: web.BaseRequest) -> web.StreamResponse | None:
        if kind == "stall":
            self.stalling.set()
            await self._healed.wait()
            return None
        if kind == "reset":
            _reset(request)
            return web.Response(status=500)
        headers = {"Location": "/latest/meta-data/instance-type"} if kind.startswith("3") else {}
        return web.Response(status=int(kind), text="out of order", headers=headers)

    def _give_token(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "PUT":
            return web.Response(status=405)
        asked = request.headers.get(TTL_HEADER, "")
        if not asked.isdecimal() or not 1 <= int(asked) <= 21600:
            self.seen["bad-ttl"] += 1
            return web.Response(status=400)
        ttl_s = self.grants_ttl_s or int(asked)
        token = secrets.token_urlsafe(40)
        self._tokens[token] = time.monotonic() + ttl_s
        self.seen["tokens"] += 1
        return web.Response(text=token, headers={TTL_HEADER: str(ttl_s)})

    def _give_page(self, path: str, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405)
        token = request.headers.get(TOKEN_HEADER)
        if token is None:
            self.seen["no-token"] += 1
            return web.Response(status=401)
        if time.monotonic() >= self._tokens.get(token, 0.0):
            self.seen["bad-token"] += 1
            return web.Response(status=401)
        self.seen["answers"] += 1
        if path not in self._pages:
            return web.Response(status=404)
        return web.Response(text=self._pages[path])


def _ahead(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _reset(request: web.BaseRequest) -> None:
    """End the connection with a TCP reset instead of an answer."""
    assert request.transport is not None
    plug: socket.socket = request.transport.get_extra_info("socket")
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


@contextlib.asynccontextmanager
async def controlled(imds: FakeImds, socket_path: Path) -> AsyncIterator[None]:
    """Take orders as JSON lines on a Unix socket until the context ends."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            writer.write(json.dumps(_obey(imds, line)).encode() + b"\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(talk, socket_path)
    try:
        yield
    finally:
        server.close()


def _obey(imds: FakeImds, line: bytes) -> dict[str, Any]:
    try:
        order = json.loads(line)
        name = order.pop("do")
        if name not in ORDERS:
            raise ValueError(f"no such order; there are {', '.join(ORDERS)}")
        events = order.pop("events", ())
        return {"ok": True, "result": getattr(imds, name)(*events, **order)}
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        return {"ok": False, "error": f"{type(fault).__name__}: {fault}"}


def tell(socket_path: Path, order: dict[str, Any], *, timeout_s: float = 5.0) -> Any:
    """Give one order through a control socket and return its result; ValueError when it is refused."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plug:
        plug.settimeout(timeout_s)
        plug.connect(str(socket_path))
        plug.sendall(json.dumps(order).encode() + b"\n")
        with plug.makefile("rb") as lines:
            answer = json.loads(lines.readline())
    if not answer["ok"]:
        raise ValueError(answer["error"])
    return answer["result"]


async def _serve(arguments: argparse.Namespace) -> None:
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    imds = FakeImds(instance=arguments.instance, zone=arguments.zone)
    serving = imds.serving(address=arguments.address, port=arguments.port)
    async with serving, controlled(imds, arguments.control):
        print(json.dumps({"endpoint": imds.endpoint, "control": str(arguments.control)}), flush=True)
        await end.wait()


def main(argv: list[str]) -> int:
    """Serve, or give an order to one that serves."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.imds", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve")
    serve.add_argument("--address", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=0)
    serve.add_argument("--control", type=Path, required=True)
    serve.add_argument("--instance", default="i-0123456789abcdef0")
    serve.add_argument("--zone", default="eu-west-1b")
    order = commands.add_parser("tell")
    order.add_argument("control", type=Path)
    order.add_argument("order", type=json.loads)
    arguments = parser.parse_args(argv)
    if arguments.command == "serve":
        try:
            asyncio.run(_serve(arguments))
        finally:
            arguments.control.unlink(missing_ok=True)
        return 0
    try:
        print(json.dumps(tell(arguments.control, arguments.order)))
    except (OSError, ValueError) as fault:
        print(f"imds: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
