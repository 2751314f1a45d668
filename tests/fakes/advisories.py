"""An advisory service for tests: OSV's protocol on a real socket, with the vulnerabilities of a test."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Advisories:
    """What the service knows, and what it was asked.

    Attributes:
        known: vulnerabilities in OSV's own words, by name and version of a package.
        asked: names and versions, in order.
        url: where it answers, while it serves.
    """

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.asked: list[tuple[str, str]] = []
        self.url = ""

    def tells(self, name: str, version: str, named: str, *, alias: str, fixed: str) -> None:
        """Know of a vulnerability from now on."""
        affected = {
            "package": {"name": name, "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}],
        }
        told = {"id": named, "aliases": [alias], "summary": "It is bad.", "affected": [affected]}
        self.known.setdefault((name, version), []).append(told)

    @contextlib.contextmanager
    def serving(self) -> Iterator[Advisories]:
        """Serve on the loopback until the context ends."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1/query"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                key = (asked["package"]["name"], asked["version"])
                service.asked.append(key)
                found = service.known.get(key)
                body = json.dumps({"vulns": found} if found else {}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
