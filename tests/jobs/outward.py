"""A job that is connected to a service outside of it by Unix sockets: `outward STREAM-SOCKET [DATAGRAM-SOCKET]`.

As long as it is not moved it must be heard; afterwards it must learn at once that it has to connect anew.
"""

from __future__ import annotations

import socket
import sys

from tests.jobs import proving

_PATIENCE_S = 5


def main() -> None:
    """Connect, then prove it."""
    proving.block()
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    letters = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in sys.argv[2:]]
    stream.connect(sys.argv[1])
    for each in letters:
        each.connect(sys.argv[2])
    stream.settimeout(_PATIENCE_S)

    def prove(count: int) -> None:
        if count == 1:
            stream.sendall(b"word")
            proving.check_equal(stream.recv(64), b"word", "an echo")
            for each in letters:
                each.send(b"letter")
            return
        proving.check_equal(stream.recv(64), b"", "the end of a connection")
        for each in (stream, *letters):
            _must_fail(each)

    proving.stand_by(prove)


def _must_fail(end: socket.socket) -> None:
    try:
        end.send(b"word")
    except OSError:
        return
    raise AssertionError("something was sent to nobody")


if __name__ == "__main__":
    main()
