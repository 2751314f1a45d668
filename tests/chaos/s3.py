"""An S3 server with which something is wrong: a proxy in front of a real one, as a real socket.

What is wrong is chosen by request: which of the objects of a store it concerns, and how often it has happened
already. So the same trouble comes at the same step each time.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from tests.store.bad_servers import Quiet, running

FOR_EVER: Final = 1_000_000
_ABORT: Final = struct.pack("ii", 1, 0)
"""For SO_LINGER: the connection is reset instead of closed, see socket(7)."""


class What(StrEnum):
    """What a request is about."""

    STARTED = "started.json"
    LIST = "list"
    CHUNK = "chunk"
    MANIFEST = "manifest.json"
    CLAIM = "claim.json"
    QUARANTINE = "quarantine.json"
    OTHER = "other"


class Fate(StrEnum):
    """What becomes of a request."""

    ERROR = "answered 500"
    SLOW_DOWN = "answered 503 SlowDown"
    EXPIRED = "answered that the credentials have expired"
    SKEWED = "answered that the clock is wrong"
    RESET = "connection reset before the answer"
    STALL = "no answer for a long time"
    CUT = "answer cut short"
    FLIP = "one byte of the answer flipped"
    LOST = "done, but the answer lost"
    ABSENT = "answered that the object is not there"
    OLD = "answered as it was the first time"


_ERRORS: Final = {
    Fate.ERROR: (500, "InternalError"),
    Fate.SLOW_DOWN: (503, "SlowDown"),
    Fate.EXPIRED: (400, "ExpiredToken"),
    Fate.SKEWED: (403, "RequestTimeTooSkewed"),
    Fate.ABSENT: (404, "NoSuchKey"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something wrong.

    Attributes:
        what: which requests it concerns.
        method: of these, those with this method.
        fate: what becomes of them.
        first: the first of them that it concerns, from 0.
        times: how many in a row.
    """

    what: What
    method: str
    fate: Fate
    first: int = 0
    times: int = 1

    def __str__(self) -> str:
        which = "every" if self.times == FOR_EVER else "once"
        return f"{self.method} {self.what}: {self.fate}, {which}"


class Troubles:
    """What is wrong at the moment; safe for many threads.

    Attributes:
        met: how many requests something became of.
    """

    def __init__(self) -> None:
        self._all: tuple[Trouble, ...] = ()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.met = 0

    def begin(self, *troubles: Trouble) -> None:
        """Have these from now on."""
        with self._lock:
            self._all, self.met = troubles, 0
            self._counts.clear()
            self._over.clear()

    def end(self) -> None:
        """Have none any more; what stalls goes on."""
        self._all = ()
        self._over.set()

    def fate(self, method: str, what: What) -> Fate | None:
        """Count a request, and say what becomes of it."""
        with self._lock:
            number = self._counts[method, what]
            self._counts[method, what] += 1
            for trouble in self._all:
                concerned = (trouble.method, trouble.what) == (method, what)
                if concerned and trouble.first <= number < trouble.first + trouble.times:
                    self.met += 1
                    return trouble.fate
        return None

    def stall(self) -> None:
        """Wait until everything is well again."""
        self._over.wait(60)


def what_of(path: str) -> What:
    """Return what a request to a path of S3 is about."""
    parts = urlsplit(path)
    if "list-type=" in parts.query:
        return What.LIST
    if "/chunks/" in parts.path:
        return What.CHUNK
    return next((each for each in What if parts.path.endswith(f"/{each}")), What.OTHER)


@contextlib.contextmanager
def troubled(endpoint: str, troubles: Troubles) -> Iterator[str]:
    """Run the proxy in front of a server; yield its URL."""
    behind = urlsplit(endpoint).netloc
    lists: dict[str, tuple[http.client.HTTPResponse, bytes]] = {}

    class Proxy(Quiet):
        def forward(self) -> None:
            body = self.body()
            fate = troubles.fate(self.command, what_of(self.path))
            if fate in _ERRORS:
                status, code = _ERRORS[fate]
                self.answer(status, f"<Error><Code>{code}</Code><Message>trouble</Message></Error>".encode())
                return
            if fate is Fate.STALL:
                troubles.stall()
            if fate in {Fate.RESET, Fate.STALL}:
                self._abort()
                return
            with contextlib.closing(http.client.HTTPConnection(behind, timeout=20)) as connection:
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                data = answer.read()
            if fate is Fate.LOST:
                self._abort()
                return
            if what_of(self.path) is What.LIST:
                first = lists.setdefault(self.path, (answer, data))
                answer, data = first if fate is Fate.OLD else (answer, data)
            self._pass_on(answer, data, fate)

        def _pass_on(self, answer: http.client.HTTPResponse, data: bytes, fate: Fate | None) -> None:
            if fate is Fate.FLIP and data:
                middle = len(data) // 2
                data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
            kept = {"etag", "last-modified", "content-type"}
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() in kept:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(data[: len(data) // 2] if fate is Fate.CUT else data)
            if fate is Fate.CUT:
                self.close_connection = True

        def _abort(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)

        do_PUT = do_GET = do_DELETE = do_HEAD = forward  # noqa: N815  # the names are the base class's

    with running(Proxy) as url:
        try:
            yield url
        finally:
            troubles.end()
