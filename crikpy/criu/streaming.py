"""What both ends of CRIU's image stream share: one socket, one thread, many pipes.

A server is a context that leaves no thread, pipe or socket behind. It never waits for CRIU: whoever runs CRIU
says when that has ended. When anything fails here, everything is closed, and CRIU fails of a broken pipe.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import socket
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from crikpy.aio.threads import Thread
from crikpy.criu import framing
from crikpy.errors import CrikpyError, CriuError

PIPE_BYTES = (4 * 1024 * 1024, 1024 * 1024)
"""Room of each pipe: what CAP_SYS_RESOURCE allows, and what everybody may have (fcntl(2), F_SETPIPE_SZ; pipe(7)).
The larger one lets CRIU run a fifth faster; more than that brings nothing."""


class StreamServer(ABC):
    """One end of the stream; a subclass says what happens to each image.

    Attributes:
        failure: what went wrong, or None.
    """

    def __init__(self, path: Path) -> None:
        self.failure: CrikpyError | None = None
        self._path = path
        self._listener = _listen(path)
        self._connection: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopped = threading.Event()
        self._thread = Thread(target=self._run, name=f"crikpy-{path.stem}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()
        self._thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._path.unlink(missing_ok=True)

    def abort(self) -> None:
        """Stop at once; what is under way stays incomplete."""
        self._stopped.set()
        self._wake()
        if (connection := self._connection) is not None:
            with contextlib.suppress(OSError):  # it may be closed by now
                connection.shutdown(socket.SHUT_RDWR)  # the thread may wait for the rest of a message

    @abstractmethod
    def _begin(self, connection: socket.socket, name: str) -> None:
        """Answer CRIU's request for an image."""

    @abstractmethod
    def _close_pipes(self) -> None:
        """Close every pipe that is still open."""

    def _finished(self) -> bool:
        """Say whether there is nothing left to do."""
        return False

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")

    def _run(self) -> None:
        try:
            self._serve()
        except CrikpyError as fault:
            self._fail(fault)
        except Exception as fault:  # noqa: BLE001 - nobody sees this thread end: a defect would pass for success
            broken = CriuError(f"the stream of images broke: {fault}")
            broken.__cause__ = fault
            self._fail(broken)
        finally:
            self._close_everything()

    def _fail(self, fault: CrikpyError) -> None:
        """Keep a failure; those that an abort provokes are none."""
        if not self._stopped.is_set():
            self.failure = fault

    def _serve(self) -> None:
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._drain_wake)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        while not (self._stopped.is_set() or self._finished()):
            for key, _ in self._selector.select():
                key.data()

    def _drain_wake(self) -> None:
        os.read(self._wake_read, 4096)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        if self._connection is not None:
            connection.close()
            return
        self._connection = connection
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read_request(connection))

    def _read_request(self, connection: socket.socket) -> None:
        name = framing.read_request(connection)
        if name is not None:
            self._begin(connection, name)
            return
        self._selector.unregister(connection)
        connection.close()
        self._connection = None

    def _close_everything(self) -> None:
        self._selector.close()
        self._listener.close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._close_pipes()


def widen(pipe: int) -> None:
    """Give a pipe more room where the system allows it; it works without."""
    for size in PIPE_BYTES:
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size)
            return


def _listen(path: Path) -> socket.socket:
    """Return a listening socket; its directory is ours alone, so no one else reaches it.

    Raises:
        CriuError: it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            listener.bind(str(path))
            path.chmod(0o600)
        except OSError as fault:
            raise CriuError(
                f"no socket for CRIU's images can be made in {path.parent}: {fault.strerror}",
                remedy="make room in the directory for temporary files, or name another by TMPDIR",
            ) from fault
        listener.listen(1)
        listener.setblocking(False)
        stack.pop_all()
    return listener
