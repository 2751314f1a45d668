"""Stands in for a capsule's launcher, to say what the real one never would.

It is a listening socket of this process and a thread that talks to one connection after the other as it was told.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Talk = Callable[[socket.socket], None]

WAITING = b"crikpy-launch 1 waiting 0 -1\n"
RUNNING = b"crikpy-launch 1 running 9001 -1\n"


@contextmanager
def launcher(path: Path, talk: Talk, *, backlog: int = 8) -> Iterator[socket.socket]:
    """Lend a socket that listens at the path; each connection is talked to, then closed."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(backlog)
        stopped = threading.Event()
        thread = threading.Thread(target=_accept, args=(listener, talk, stopped))
        thread.start()
        try:
            yield listener
        finally:
            stopped.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listener: socket.socket, talk: Talk, stopped: threading.Event) -> None:
    while not stopped.is_set():
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, suppress(ConnectionError):
            talk(connection)


def says(*answers: bytes, heard: list[str] | None = None) -> Talk:
    """Talk so: the first answer unasked, each further one after a line, which is kept; then wait for the end."""

    def talk(connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            for number, answer in enumerate(answers):
                if number:
                    line = lines.readline()
                    if not line:
                        return
                    if heard is not None:
                        heard.append(line.decode())
                connection.sendall(answer)
            while lines.readline():
                pass

    return talk


def hangs_up_after(*answers: bytes) -> Talk:
    """Talk as `says` does, but close the connection after the last answer."""

    def talk(connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            for number, answer in enumerate(answers):
                if number:
                    lines.readline()
                connection.sendall(answer)

    return talk


def repeats(text: bytes, *, first: bytes = b"", pause_s: float = 0.0) -> Talk:
    """Say something without end, until the other side has gone."""

    def talk(connection: socket.socket) -> None:
        pause = threading.Event()
        connection.sendall(first)
        while True:
            connection.sendall(text)
            pause.wait(pause_s)

    return talk
