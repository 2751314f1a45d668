"""An OpenTelemetry collector as a program of its own: takes OTLP over HTTP, decodes it, and writes a line a span.

    collector.py FILE

Says its port on standard output. Each span is a line of JSON in FILE: trace, span, parent, name, service, start
and end in nanoseconds, attributes, resource, and the error if there is one. Whatever OpenTelemetry's own schema
does not decode is answered with 400, and a line with `refused`.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One span as it was told."""

    trace: str
    span: str
    parent: str
    name: str
    service: str
    start: int
    end: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    error: str


@dataclass(frozen=True, slots=True)
class Collector:
    """A collector that runs.

    Attributes:
        endpoint: its URL, for OTEL_EXPORTER_OTLP_ENDPOINT.
        file: where it writes.
    """

    endpoint: str
    file: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables that name it."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint}

    def spans(self) -> list[Told]:
        """Return what it was told so far, by the time at which it began."""
        lines = [json.loads(line) for line in self.file.read_text().splitlines()]
        assert not [line for line in lines if "refused" in line], lines
        return sorted((Told(**line) for line in lines), key=lambda told: told.start)

    def await_spans(self, enough: Callable[[list[Told]], object]) -> list[Told]:
        """Return what it was told once it is enough; AssertionError when it never is."""
        until = time.monotonic() + _PATIENCE_S
        while not enough(spans := self.spans()):
            assert time.monotonic() < until, f"only saw {[(told.service, told.name) for told in spans]}"
            time.sleep(0.05)
        return spans


@contextlib.contextmanager
def collecting(folder: Path) -> Iterator[Collector]:
    """Have a collector run."""
    file = folder / "spans.jsonl"
    file.touch()
    words = (sys.executable, "-m", "tests.fakes.collector", str(file))
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Collector(f"http://127.0.0.1:{int(process.stdout.readline())}", file)
        finally:
            process.kill()


class _Handler(BaseHTTPRequestHandler):
    file: Path
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take one request of spans."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest()
        try:
            assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
            request.ParseFromString(body)
            lines = [json.dumps(span) for span in _spans(request)]
            status = 200
        except Exception as fault:  # noqa: BLE001  # whatever it is, it is told
            lines, status = [json.dumps({"refused": repr(fault)})], 400
        with self.file.open("a") as out:
            out.write("".join(f"{line}\n" for line in lines))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
        """Say nothing."""


def _spans(request: ExportTraceServiceRequest) -> Iterator[dict[str, Any]]:
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield {
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "service": resource.get("service.name", ""),
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                    "attributes": _attributes(span.attributes),
                    "resource": resource,
                    "error": (span.status.message or "?") if span.status.code == 2 else "",
                }


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


if __name__ == "__main__":
    _Handler.file = Path(sys.argv[1])
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
