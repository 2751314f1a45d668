"""The HTTP server: routes, probes, bounds, and certificates that change while it runs."""

from __future__ import annotations

import asyncio
import io
import logging
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from crikpy.aio.serving import Request, Response, Route, Server, probe_routes
from crikpy.errors import UsageError
from crikpy.metrics import Metrics
from tests.fakes.certificates import make_certificate


async def _echo(request: Request) -> Response:
    facts = f"{request.method} {request.path} {dict(request.query)} {request.headers.get('x-word')} "
    body = facts.encode() + request.body
    return Response(status=201, body=body, content_type="application/octet-stream", headers={"X-Answer": "yes"})


async def _fail(request: Request) -> Response:
    raise ValueError("a defect")


def serve(routes: Mapping[str, Route], tls: ssl.SSLContext | None = None) -> Server:
    return Server(routes, address="127.0.0.1", port=0, tls=tls)


def _has_ipv6() -> bool:
    addresses = Path("/proc/net/if_inet6")
    return addresses.exists() and "00000000000000000000000000000001" in addresses.read_text()


async def test_a_route_gets_the_request_and_gives_the_response() -> None:
    async with serve({"POST /echo": _echo}) as server, aiohttp.ClientSession() as client:
        url = f"http://127.0.0.1:{server.port}/echo?a=1&a=2"
        async with client.post(url, data=b"hello", headers={"X-Word": "ok"}) as answer:
            assert answer.status == 201
            assert answer.content_type == "application/octet-stream"
            assert answer.headers["X-Answer"] == "yes"
            assert await answer.read() == b"POST /echo {'a': '1'} ok hello"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", pytest.param("[::1]", marks=pytest.mark.skipif(not _has_ipv6(), reason="needs IPv6"))]
)
async def test_no_address_means_all_of_both_families(host: str) -> None:
    async with Server({"GET /": _echo}, address="", port=0) as server, aiohttp.ClientSession() as client:
        async with client.get(f"http://{host}:{server.port}/") as answer:
            assert answer.status == 201
        with pytest.raises(UsageError, match=f"port {server.port}"):
            await Server({}, address="", port=server.port).__aenter__()


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/none", 404), ("GET", "/echo", 405)])
async def test_what_has_no_route_is_refused(method: str, path: str, status: int) -> None:
    async with (
        serve({"POST /echo": _echo}) as server,
        aiohttp.ClientSession() as client,
        client.request(method, f"http://127.0.0.1:{server.port}{path}") as answer,
    ):
        assert answer.status == status


async def test_a_failing_route_is_an_error_and_the_server_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async with serve({"GET /bad": _fail, "GET /good": _echo}) as server, aiohttp.ClientSession() as client:
        with caplog.at_level(logging.ERROR):
            async with client.get(f"http://127.0.0.1:{server.port}/bad") as answer:
                assert (answer.status, await answer.text()) == (500, "internal error\n")
        assert "a defect" in caplog.text
        async with client.get(f"http://127.0.0.1:{server.port}/good") as answer:
            assert answer.status == 201


async def test_a_body_of_three_mebibytes_passes_and_one_without_end_is_refused() -> None:
    async with serve({"POST /echo": _echo}) as server, aiohttp.ClientSession() as client:
        url = f"http://127.0.0.1:{server.port}/echo"
        async with client.post(url, data=io.BytesIO(bytes(3 << 20))) as answer:
            assert len(await answer.read()) > 3 << 20
        async with client.post(url, data=io.BytesIO(bytes(9 << 20))) as answer:
            assert answer.status == 413


async def test_a_compressed_body_is_not_unfolded() -> None:
    packed = {"Content-Encoding": "gzip"}
    async with (
        serve({"POST /echo": _echo}) as server,
        aiohttp.ClientSession() as client,
        client.post(f"http://127.0.0.1:{server.port}/echo", data=b"not gzip", headers=packed) as answer,
    ):
        assert (await answer.read()).endswith(b"not gzip")


async def test_head_is_answered_like_get_without_a_body() -> None:
    async with (
        serve({"GET /echo": _echo}) as server,
        aiohttp.ClientSession() as client,
        client.head(f"http://127.0.0.1:{server.port}/echo") as answer,
    ):
        assert (answer.status, await answer.read()) == (201, b"")


async def test_a_taken_port_is_a_plain_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Server({}, address="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(UsageError, match=r"cannot listen on 127\.0\.0\.1 port"):
            await server.__aenter__()


async def test_the_port_is_free_after_the_context() -> None:
    async with serve({"GET /echo": _echo}) as server:
        port = server.port
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_request_under_way_is_answered_when_the_server_ends() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> Response:
        begun.set()
        await go_on.wait()
        return Response(body="done")

    server = await serve({"GET /slow": slow}).__aenter__()
    async with aiohttp.ClientSession() as client:
        asking = asyncio.create_task(client.get(f"http://127.0.0.1:{server.port}/slow"))
        await begun.wait()
        ending = asyncio.create_task(server.__aexit__(None, None, None))
        asyncio.get_running_loop().call_later(0.1, go_on.set)
        async with await asking as answer:
            assert await answer.text() == "done"
        await ending


async def test_the_probes_say_what_is_wrong() -> None:
    metrics = Metrics()
    metrics.leading.set(1)
    complaint: list[str | None] = ["no CRIU"]
    async with serve(probe_routes(metrics, lambda: complaint[0])) as server, aiohttp.ClientSession() as client:
        base = f"http://127.0.0.1:{server.port}"
        async with client.get(f"{base}/readyz") as answer:
            assert (answer.status, await answer.text()) == (503, "no CRIU\n")
        complaint[0] = None
        async with client.get(f"{base}/readyz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
        async with client.get(f"{base}/healthz") as answer:
            assert answer.status == 200
        async with client.get(f"{base}/metrics") as answer:
            assert answer.content_type == "text/plain"
            assert "crikpy_leading 1.0" in await answer.text()


async def test_a_new_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    first, second = make_certificate(tmp_path / "first"), make_certificate(tmp_path / "second")
    tls.load_cert_chain(first)
    async with serve({"GET /echo": _echo}, tls) as server:
        await _ask_over_tls(server.port, trusting=first)
        tls.load_cert_chain(second)
        await _ask_over_tls(server.port, trusting=second)
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await _ask_over_tls(server.port, trusting=first)


async def _ask_over_tls(port: int, *, trusting: Path) -> None:
    trust = ssl.create_default_context(cafile=str(trusting))
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"https://127.0.0.1:{port}/echo", ssl=trust) as answer,
    ):
        assert answer.status == 201
