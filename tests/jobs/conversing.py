"""A job that talks to itself by TCP, in one process and between two, with much on its way in both directions.

    conversing [cut] HOST...

Every connection must go on after a move where it was, with not a byte lost, doubled or in the wrong place; with
`cut` all are to end instead. Halves that were shut down end in any case. The host `own` is the container's.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
from collections.abc import Iterator

from tests.jobs import addresses, proving

_PATIENCE_S = 5
_PATTERN = bytes(range(251)) * 4096


def family_of(host: str) -> socket.AddressFamily:
    """Return the family of an address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def listening(host: str) -> socket.socket:
    """Return a listener at an address."""
    made = socket.socket(family_of(host), socket.SOCK_STREAM)
    made.bind((host, 0))
    made.listen()
    return made


class Way:
    """One direction of a connection: a pattern without an end."""

    def __init__(self, sender: socket.socket, receiver: socket.socket) -> None:
        self._sender, self._receiver = sender, receiver
        self._sent = self._received = 0

    def fill(self) -> int:
        """Send until nothing goes any more; return how many bytes are on the way."""
        self._sender.setblocking(False)
        try:
            while True:
                self._sent += self._sender.send(self._part(self._sent, 65536))
        except BlockingIOError:
            return self._sent - self._received

    def put(self, count: int) -> None:
        """Send some bytes."""
        self._sender.settimeout(_PATIENCE_S)
        self._sender.sendall(self._part(self._sent, count))
        self._sent += count

    def empty(self) -> None:
        """Read all that was sent; fail where it is something else."""
        self._receiver.settimeout(_PATIENCE_S)
        while self._received < self._sent:
            data = self._receiver.recv(min(65536, self._sent - self._received))
            if data != self._part(self._received, len(data)) or not data:
                raise AssertionError(f"other bytes than were sent, from the {self._received}th on: {data[:20]!r}")
            self._received += len(data)

    def _part(self, start: int, count: int) -> bytes:
        return _PATTERN[start % 251 : start % 251 + count]


class Talk:
    """A connection of a process with itself, through a listener that is gone; some bytes are always on the way."""

    def __init__(self, host: str, *, crowded: bool) -> None:
        with listening(host) as listener:
            near = socket.create_connection(listener.getsockname()[:2], _PATIENCE_S)
            far = listener.accept()[0]
        for each in (near, far):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ends = near, far
        self._ways = Way(near, far), Way(far, near)
        self._crowded = crowded
        self._send()

    def prove(self) -> None:
        """Read all that is on its way, have a word in both directions, and send anew."""
        for way in self._ways:
            way.empty()
            way.put(100)
            way.empty()
        proving.check_equal(self.ends[0].getpeername(), self.ends[1].getsockname(), "the other end's name")
        proving.check_equal(self.ends[1].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1, "an option")
        self._send()

    def _send(self) -> None:
        for way, count in zip(self._ways, (1000, 70_000), strict=True):
            if self._crowded:
                way.fill()
            else:
                way.put(count)


class Child:
    """A connection with a child process that gives back what it gets, and one line at a time."""

    def __init__(self, host: str) -> None:
        with listening(host) as listener:
            if os.fork() == 0:
                near = socket.create_connection(listener.getsockname()[:2], _PATIENCE_S)
                listener.close()
                near.settimeout(None)
                while data := near.recv(4096):
                    near.sendall(data)
                os._exit(0)
            self.end = listener.accept()[0]
        self._numbers = itertools.count()

    def prove(self) -> None:
        """Ask, and fail without the answer."""
        self.end.settimeout(_PATIENCE_S)
        question = b"question %d" % next(self._numbers)
        self.end.sendall(question)
        proving.check_equal(self.end.recv(64), question, "an answer of the child's")


class Half:
    """A connection of which one direction was shut down."""

    def __init__(self, host: str) -> None:
        with listening(host) as listener:
            self._near = socket.create_connection(listener.getsockname()[:2], _PATIENCE_S)
            self._far = listener.accept()[0]
        self._near.shutdown(socket.SHUT_WR)

    def prove(self) -> None:
        """Fail unless nobody waits there for ever."""
        self._far.settimeout(_PATIENCE_S)
        proving.check_equal(self._far.recv(64), b"", "a word over what was shut down")


def ended(end: socket.socket) -> bool:
    """Say whether a connection is at its end, as its user sees it."""
    end.settimeout(_PATIENCE_S)
    try:
        while end.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def main() -> None:
    """Connect, then prove it."""
    proving.block()
    cut, *hosts = sys.argv[1:] if sys.argv[1] == "cut" else ("", *sys.argv[1:])
    places = [addresses.own(socket.AF_INET) if host == "own" else host for host in hosts]
    talks = [Talk(host, crowded=crowded) for host in places for crowded in (False, True)]
    children = [Child(host) for host in places]
    halves = [Half(host) for host in places]

    def ends() -> Iterator[socket.socket]:
        for talk in talks:
            yield from talk.ends
        yield from (child.end for child in children)

    def prove(count: int) -> None:
        for half in halves:
            half.prove()
        if cut and count > 1:
            proving.check_equal([ended(end) for end in ends()], [True] * 5 * len(places), "connections that ended")
            return
        for talk in talks:
            talk.prove()
        for child in children:
            child.prove()

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
