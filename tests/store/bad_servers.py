"""S3 servers that misbehave in one way each, as real sockets in front of or in place of a real server."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Quiet(BaseHTTPRequestHandler):
    """A handler that logs nothing and keeps connections open."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
        """Say nothing."""

    def body(self) -> bytes:
        """Read what came with the request."""
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Answer whole."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextlib.contextmanager
def running(kind: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a server of such handlers; yield its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def careless_server() -> Iterator[str]:
    """Run a server that keeps objects and ignores every condition; yield its URL."""
    objects: dict[str, bytes] = {}

    class Careless(Quiet):
        def do_PUT(self) -> None:
            objects[self.path] = self.body()
            self.answer(200, headers={"ETag": '"same"'})

        def do_GET(self) -> None:
            self.answer(200, objects[self.path], {"ETag": '"same"'})

        def do_DELETE(self) -> None:
            objects.pop(self.path, None)
            self.answer(204)

    with running(Careless) as url:
        yield url


@contextlib.contextmanager
def answering_server(status: int, code: str) -> Iterator[str]:
    """Run a server that answers everything with one error; yield its URL."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as the test says</Message></Error>".encode()

    class Answering(Quiet):
        def refuse(self) -> None:
            self.body()
            self.answer(status, text)

        do_PUT = do_GET = do_DELETE = do_HEAD = refuse  # noqa: N815  # the names are the base class's

    with running(Answering) as url:
        yield url


@contextlib.contextmanager
def lossy_proxy(
    endpoint: str, loses: Callable[[str, int], str], seen: list[tuple[str, dict[str, str]]] | None = None
) -> Iterator[str]:
    """Run a proxy that loses some answers; yield its URL.

    Args:
        endpoint: the real server.
        loses: told the method and how many requests of it there were before; says `nothing`, `answer` (the
            request takes effect and the connection closes) or `half` (the body breaks off in its middle).
        seen: gets the method of each request and its headers, by names in lower case.
    """
    behind = urlsplit(endpoint).netloc
    counts: dict[str, int] = {}
    lock = threading.Lock()

    class Proxy(Quiet):
        def forward(self) -> None:
            with lock:
                number = counts.get(self.command, 0)
                counts[self.command] = number + 1
                if seen is not None:
                    seen.append((self.command, {name.lower(): value for name, value in self.headers.items()}))
            connection = http.client.HTTPConnection(behind, timeout=20)
            with contextlib.closing(connection):
                connection.request(self.command, self.path, self.body(), dict(self.headers))
                answer = connection.getresponse()
                data = answer.read()
            fate = loses(self.command, number)
            if fate == "nothing":
                names = {"etag", "last-modified"}
                kept = {name: value for name, value in answer.headers.items() if name.lower() in names}
                self.answer(answer.status, data, kept)
                return
            self.close_connection = True
            if fate == "half":
                self.send_response(answer.status)
                self.send_header("ETag", answer.headers["ETag"])
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2])

        do_PUT = do_GET = do_DELETE = do_HEAD = forward  # noqa: N815  # the names are the base class's

    with running(Proxy) as url:
        yield url
