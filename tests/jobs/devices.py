"""A job with sockets that are bound to an interface: `devices INTERFACE`."""

from __future__ import annotations

import socket
import sys

from tests.jobs import proving

_SO_BINDTODEVICE = 25


def main() -> None:
    """Bind the sockets, then prove that they still are."""
    proving.block()
    device = sys.argv[1].encode()
    sockets = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, device)
        each.bind(("", 0))

    def prove(_count: int) -> None:
        for each in sockets:
            found = each.getsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, 64).rstrip(b"\0")
            proving.check_equal(found, device, "the interface of a socket")

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
