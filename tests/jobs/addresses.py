"""A job whose sockets are bound to the address of its container, which is another one after a move.

What waits there must wait at the new address; what was connected has ended, in whatever way it was.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from tests.jobs import proving

_ELSEWHERE = {socket.AF_INET: ("198.51.100.7", 9), socket.AF_INET6: ("2001:db8::7", 9)}
"""Addresses for documentation: nobody answers there."""

_RESET = struct.pack("ii", 1, 0)
_PATIENCE_S = 5


def own(family: socket.AddressFamily) -> str:
    """Return the address that the container has now."""
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.connect(_ELSEWHERE[family])
        return str(asking.getsockname()[0])


class Waiting:
    """A TCP listener, two that share a port, one that is only bound, and a UDP socket with one connected to it."""

    def __init__(self, family: socket.AddressFamily, address: Callable[[], str]) -> None:
        self._family, self._address = family, address
        self._listener = self._bound(socket.SOCK_STREAM)
        self._listener.listen()
        self._shared = [self._bound(socket.SOCK_STREAM, share=True)]
        self._shared.append(self._bound(socket.SOCK_STREAM, self._shared[0].getsockname()[1], share=True))
        for each in self._shared:
            each.listen()
        self._idle = self._bound(socket.SOCK_STREAM)
        self._letters = self._bound(socket.SOCK_DGRAM)
        self._sender = socket.socket(family, socket.SOCK_DGRAM)
        self._sender.connect(self._letters.getsockname())
        self._all = [self._listener, *self._shared, self._idle, self._letters, self._sender]
        self._ports = [each.getsockname()[1] for each in self._all]

    def prove(self) -> None:
        """Fail unless all are at the container's address, at their old ports, and work."""
        here = self._address()
        proving.check_equal({each.getsockname()[0] for each in self._all}, {here}, "addresses")
        proving.check_equal([each.getsockname()[1] for each in self._all], self._ports, "ports")
        with socket.socket(self._family, socket.SOCK_STREAM) as client:
            client.settimeout(_PATIENCE_S)
            client.connect(self._listener.getsockname())
            self._listener.accept()[0].close()
        self._sender.send(b"letter")
        self._letters.settimeout(_PATIENCE_S)
        proving.check_equal(self._letters.recv(64), b"letter", "a datagram")

    def _bound(self, kind: socket.SocketKind, port: int = 0, *, share: bool = False) -> socket.socket:
        made = socket.socket(self._family, kind)
        if share:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((self._address(), port))
        return made


class Ended:
    """Connections of the container's address that are over or never came to be; and by UDP, which has no end."""

    def __init__(self, family: socket.AddressFamily) -> None:
        self._family = family
        self._listener = socket.create_server((own(family), 0), family=family)
        self._was_reset, far = self._pair()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        far.close()
        self._both_ended = self._pair()
        for each in self._both_ended:
            each.shutdown(socket.SHUT_RDWR)
        self._half = socket.socket(family, socket.SOCK_STREAM)
        self._half.setblocking(False)
        self._half.connect_ex(_ELSEWHERE[family])
        self._letters = socket.socket(family, socket.SOCK_DGRAM)
        self._letters.connect(_ELSEWHERE[family])
        self._never_accepted = socket.create_connection(self._listener.getsockname()[:2], _PATIENCE_S)
        self._expect_end(self._was_reset)

    def prove(self, *, moved: bool) -> None:
        """Fail unless whoever uses them learns of it at once, and the one by UDP can be used.

        Args:
            moved: whether connections have been cut, one that nobody has accepted yet among them.
        """
        if moved:
            self._expect_end(self._never_accepted)
        for each in (self._was_reset, *self._both_ended):
            self._expect_end(each)
        self._letters.send(b"letter")
        proving.check_equal(self._letters.getsockname()[0], own(self._family), "address of a connected socket")
        proving.check_equal(self._letters.getpeername()[:2], _ELSEWHERE[self._family], "its other end")

    def _pair(self) -> tuple[socket.socket, socket.socket]:
        near = socket.create_connection(self._listener.getsockname()[:2], _PATIENCE_S)
        return near, self._listener.accept()[0]

    def _expect_end(self, ended: socket.socket) -> None:
        ended.settimeout(_PATIENCE_S)
        try:
            proving.check_equal(ended.recv(64), b"", "bytes of a connection that has ended")
            ended.send(b"more")
        except ConnectionError:
            return
        raise AssertionError("something was sent over a connection that has ended")


def main() -> None:
    """Open everything, then prove it."""
    proving.block()
    four, six = socket.AF_INET, socket.AF_INET6
    waiting = [
        Waiting(four, lambda: own(four)),
        Waiting(six, lambda: own(six)),
        Waiting(six, lambda: f"::ffff:{own(four)}"),
    ]
    ended = [Ended(four), Ended(six)]

    def prove(count: int) -> None:
        for sockets in waiting:
            sockets.prove()
        for connections in ended:
            connections.prove(moved=count > 1)

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
