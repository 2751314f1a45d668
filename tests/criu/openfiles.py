"""Images of open files as CRIU writes them, for tests; what is written here is what images/*.proto of CRIU say."""

from __future__ import annotations

import ipaddress
import socket
import struct

from crikpy.criu.wire import Value, field, image_of

MAGIC = 0x56303138
CONNECTED, CLOSED, LISTENING = 1, 7, 10


def words(address: str, family: int) -> list[int]:
    """Return an address as the words that CRIU keeps."""
    packed = ipaddress.ip_address(address).packed
    if family == socket.AF_INET6 and len(packed) == 4:
        packed = ipaddress.ip_address(f"::ffff:{address}").packed
    return list(struct.unpack(f"={len(packed) // 4}I", packed))


def message(*fields: tuple[int, Value]) -> bytes:
    """Return a message of these fields."""
    return b"".join(field(number, value) for number, value in fields)


def inet(
    number: int,
    source: tuple[str, int],
    destination: tuple[str, int] | None = None,
    *,
    protocol: int = socket.IPPROTO_TCP,
    family: int = socket.AF_INET,
    state: int = CLOSED,
    device: str = "",
) -> bytes:
    """Return the entry of a socket in files.img, with `number` as its id and inode."""
    other, port = destination or ("0.0.0.0" if family == socket.AF_INET else "::", 0)
    kind = socket.SOCK_DGRAM if protocol == socket.IPPROTO_UDP else socket.SOCK_STREAM
    options = message((1, 16384), (2, 131072), (7, 1), *(((15, device.encode()),) if device else ()))
    entry = message(
        *((1, number), (2, number), (3, family), (4, kind), (5, protocol), (6, state), (7, source[1])),
        *((8, port), (9, 2), (10, 5 if state == LISTENING else 0)),
        *((11, word) for word in words(source[0], family)),
        *((12, word) for word in words(other, family)),
        *((13, message((1, 0), (2, 0))), (14, options), (20, message((2, 1)))),
    )
    return message((1, 4), (2, number), (4, entry))


def regular(number: int, name: str, *, size: int = 10, mode: int = 0o100644) -> bytes:
    """Return the entry of a regular file in files.img."""
    owner = message((1, 0), (2, 0), (3, 0), (4, 0))
    entry = message((1, number), (2, 0), (3, 7), (5, owner), (6, name.encode()), (8, size), (10, mode))
    return message((1, 1), (2, number), (3, entry))


def unix(number: int, peer: int, *, kind: int = socket.SOCK_STREAM, outside: bool = False) -> bytes:
    """Return the entry of a Unix socket in files.img; `outside` says that it is none of the job's."""
    owner, options = message((1, 0), (2, 0)), message((1, 1), (2, 1))
    entry = message(
        *((1, number), (2, number), (3, kind), (4, CONNECTED), (5, 0), (6, int(outside)), (7, 0), (8, peer)),
        *((9, owner), (10, options), (11, b"name")),
    )
    return message((1, 5), (2, number), (16, entry))


def pipe(number: int) -> bytes:
    """Return the entry of a pipe in files.img."""
    return message((1, 2), (2, number), (18, message((1, number), (2, number), (3, 0))))


def files_image(*entries: bytes) -> bytes:
    """Return files.img with these entries."""
    return image_of(MAGIC, entries)
