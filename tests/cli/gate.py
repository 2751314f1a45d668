"""A gate between crikpy and its S3 server, which a test shuts and opens: what is shut refuses connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Gate:
    """Passes bytes both ways as long as it is open; closed when its context ends.

    Attributes:
        endpoint: URL of the gate.
    """

    def __init__(self, endpoint: str) -> None:
        """Take the URL of the server behind it."""
        parts = urlsplit(endpoint)
        self._behind = (parts.hostname or "", parts.port or 80)
        self._at = ("127.0.0.1", 0)
        self._plugs: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.open()
        self.endpoint = f"http://{self._at[0]}:{self._at[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut()

    def open(self) -> None:
        """Let connections through, at the same port as before."""
        listener = socket.create_server(self._at)
        self._at = listener.getsockname()
        self._plugs.append(listener)
        self._begin(self._welcome, listener)

    def shut(self) -> None:
        """Break every connection and refuse new ones; fine when it is shut."""
        if not self._plugs:
            return
        _end(self._plugs[0])
        self._threads[0].join()
        for plug in self._plugs:
            _end(plug)
        self._plugs.clear()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _welcome(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                guest, _ = listener.accept()
                host = socket.create_connection(self._behind)
                self._plugs += [guest, host]
                self._begin(self._pass, guest, host)
                self._begin(self._pass, host, guest)

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)

    def _begin(self, act: Callable[..., None], *plugs: socket.socket) -> None:
        thread = threading.Thread(target=act, args=plugs, daemon=True)
        self._threads.append(thread)
        thread.start()


def _end(plug: socket.socket) -> None:
    with contextlib.suppress(OSError):
        plug.shutdown(socket.SHUT_RDWR)
    plug.close()
