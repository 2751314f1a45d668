"""A job with sockets of every kind, which all live on, those that listen or wait and connections by TCP."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from tests.jobs import proving

_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


class Tcp:
    """A listener, a connection through it, a socket that is only bound and one that is not even that."""

    def __init__(self, family: socket.AddressFamily, host: str) -> None:
        self._family = family
        self._listener = socket.create_server((host, 0), family=family)
        self._address = self._listener.getsockname()
        self._bound = socket.socket(family, socket.SOCK_STREAM)
        self._bound.bind((host, 0))
        self._bound_address = self._bound.getsockname()
        self._idle = socket.socket(family, socket.SOCK_STREAM)
        self._connect()

    def prove(self) -> None:
        """Fail unless all of them work."""
        if not self._carries():
            raise AssertionError("the connection carries nothing")
        self._connect()
        proving.check_equal(self._listener.getsockname(), self._address, "a listener's address")
        proving.check_equal(self._bound.getsockname(), self._bound_address, "a bound socket's address")
        self._idle.connect(self._address)
        self._listener.accept()[0].close()
        self._idle.close()
        self._idle = socket.socket(self._family, socket.SOCK_STREAM)

    def _connect(self) -> None:
        self._near = socket.create_connection(self._address[:2], timeout=5)
        self._far = self._listener.accept()[0]
        self._far.settimeout(5)

    def _carries(self) -> bool:
        try:
            self._near.sendall(b"over there")
            return self._far.recv(64) == b"over there"
        except OSError:
            return False


class Datagrams:
    """A UDP socket that waits and one that is connected to it, a datagram on its way between them."""

    def __init__(self, family: socket.AddressFamily, host: str) -> None:
        self._waiting = socket.socket(family, socket.SOCK_DGRAM)
        self._waiting.bind((host, 0))
        self._waiting.settimeout(5)
        self._connected = socket.socket(family, socket.SOCK_DGRAM)
        self._connected.connect(self._waiting.getsockname())
        self._idle = socket.socket(family, socket.SOCK_DGRAM)
        self._names = self._waiting.getsockname(), self._connected.getsockname()

    def prove(self) -> None:
        """Fail unless both carry datagrams between the same addresses."""
        names = self._waiting.getsockname(), self._connected.getsockname()
        proving.check_equal(names, self._names, "the addresses of datagrams")
        self._connected.send(b"one")
        proving.check_equal(self._waiting.recvfrom(64), (b"one", self._names[1]), "a datagram")
        self._idle.sendto(b"two", self._names[0])
        proving.check_equal(self._waiting.recv(64), b"two", "a datagram of an idle socket")


class Local:
    """Unix sockets: pairs with bytes on their way, a listener below the temporary directory, one by datagrams."""

    def __init__(self, folder: Path) -> None:
        self._near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._packets = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._path = folder / "listener.sock"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._client.connect(str(self._path))
        self._served = self._listener.accept()[0]
        self._letters = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._letters.bind(str(folder / "letters.sock"))
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.connect(str(folder / "letters.sock"))
        self._send(0)

    def prove(self, count: int) -> None:
        """Fail unless what was sent at the last proof arrives, and new connections work."""
        last = b"sent %d" % (count - 1)
        for end in (self._far, self._packets[1], self._served, self._letters):
            end.settimeout(5)
            proving.check_equal(end.recv(64), last, "bytes that were on their way")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as late:
            late.connect(str(self._path))
            self._listener.accept()[0].close()
        self._send(count)

    def _send(self, count: int) -> None:
        for end in (self._near, self._packets[0], self._client, self._sender):
            end.sendall(b"sent %d" % count)


def main() -> None:
    """Open everything, then prove it."""
    proving.block()
    folder = Path(tempfile.mkdtemp(prefix=f"sockets-{os.getpid()}-"))
    streams = [Tcp(*where) for where in _LOOPBACK]
    datagrams = [Datagrams(*where) for where in _LOOPBACK]
    local = Local(folder)

    def prove(count: int) -> None:
        for stream in streams:
            stream.prove()
        for datagram in datagrams:
            datagram.prove()
        local.prove(count)

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
