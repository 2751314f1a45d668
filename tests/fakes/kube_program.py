"""tests.fakes.kube as a program: a control socket takes JSON lines with orders."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.fakes.imds import tell
from tests.fakes.kube_objects import KINDS

if TYPE_CHECKING:
    from tests.fakes.kube import FakeKube

ORDERS = (
    "put", "update", "get", "all", "remove", "trouble", "heal", "block_evictions", "expire", "bookmark",
    "close_watches", "drop_watches", "fail_watches", "stall_watches", "stop", "start",
)  # fmt: skip
"""Methods of FakeKube; `resource` is given by its plural."""


async def obey(kube: FakeKube, control: Path) -> None:
    """Say where the server is, and take orders until SIGTERM."""
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            writer.write(json.dumps(await _obey(kube, line)).encode() + b"\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(talk, control, limit=2**24)
    try:
        print(json.dumps({"endpoint": kube.endpoint, "control": str(control)}), flush=True)
        await end.wait()
    finally:
        server.close()


async def _obey(kube: FakeKube, line: bytes) -> dict[str, Any]:
    try:
        order = json.loads(line)
        name = order.pop("do")
        if name not in ORDERS:
            raise ValueError(f"no such order; there are {', '.join(ORDERS)}")
        if "resource" in order:
            order["resource"] = next(kind for kind in KINDS if kind.plural == order["resource"])
        result = getattr(kube, name)(**order)
        return {"ok": True, "result": await result if asyncio.iscoroutine(result) else result}
    except Exception as fault:  # noqa: BLE001 - whatever is wrong with an order is told to whoever gave it
        return {"ok": False, "error": f"{type(fault).__name__}: {fault}"}


def main(argv: list[str], serve: Callable[[argparse.Namespace], Awaitable[None]]) -> int:
    """Serve, or give an order to one that serves."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.kube")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("serve")
    command.add_argument("--address", default="127.0.0.1")
    command.add_argument("--port", type=int, default=0)
    command.add_argument("--kubeconfig", type=Path)
    command.add_argument("--control", type=Path, required=True)
    order = commands.add_parser("tell")
    order.add_argument("control", type=Path)
    order.add_argument("order", type=json.loads)
    arguments = parser.parse_args(argv)
    if arguments.command == "serve":
        try:
            asyncio.run(_run(serve, arguments))
        finally:
            arguments.control.unlink(missing_ok=True)
        return 0
    try:
        print(json.dumps(tell(arguments.control, arguments.order)))
    except (OSError, ValueError) as fault:
        print(f"kube: {fault}", file=sys.stderr)
        return 1
    return 0


async def _run(serve: Callable[[argparse.Namespace], Awaitable[None]], arguments: argparse.Namespace) -> None:
    await serve(arguments)
