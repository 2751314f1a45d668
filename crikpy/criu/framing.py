"""The messages between CRIU and an image streamer.

Source: criu/img-streamer.c and images/img-streamer.proto of CRIU 4.2. Each message is a u32 length in host byte
order and a protobuf body; both bodies have one field, so they are read and written here by hand. After a request
(and, in a restore, a positive reply) CRIU sends its end of a pipe by SCM_RIGHTS beside one dummy byte.
Messages must be read to their exact length: a longer read would swallow the byte that carries the descriptor.
"""

from __future__ import annotations

import os
import socket
import struct

from crikpy.errors import CriuError

_LENGTH = struct.Struct("=I")
_FILENAME_TAG = 0x0A  # field 1, length-delimited
_EXISTS_TAG = 0x08  # field 1, varint
_LONGEST_REQUEST = 4096
_WENT_AWAY = "CRIU went away within a message"


def encode_request(name: str) -> bytes:
    """Return a request for an image; only tests and CRIU send one."""
    text = name.encode()
    body = bytes([_FILENAME_TAG]) + _encode_varint(len(text)) + text
    return _LENGTH.pack(len(body)) + body


def encode_reply(*, exists: bool) -> bytes:
    """Return the answer to a request in a restore."""
    body = bytes([_EXISTS_TAG, int(exists)])
    return _LENGTH.pack(len(body)) + body


def read_request(connection: socket.socket) -> str | None:
    """Return the name that CRIU asks for, or None when it has asked for the last one.

    Raises:
        CriuError: the message is not one of CRIU's.
    """
    head = _read_exactly(connection, _LENGTH.size)
    if not head:
        return None
    (length,) = _LENGTH.unpack(head)
    if not 2 <= length <= _LONGEST_REQUEST:
        raise CriuError(f"CRIU sent a request of {length} bytes")
    body = _read_exactly(connection, length)
    if not body:
        raise CriuError(_WENT_AWAY)
    return decode_request(body)


def decode_request(body: bytes) -> str:
    """Return the file name of a request's body.

    Raises:
        CriuError: the body is not a request.
    """
    try:
        if body[0] != _FILENAME_TAG:
            raise ValueError("unknown field")
        length, start = _decode_varint(body, 1)
        if start + length != len(body):
            raise ValueError("wrong length")
        return body[start:].decode("ascii")
    except (ValueError, IndexError) as fault:
        raise CriuError(f"CRIU sent a request that cannot be read: {fault}") from fault


def receive_pipe(connection: socket.socket) -> int:
    """Return the descriptor that follows a request.

    Raises:
        CriuError: there was none.
    """
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    if len(descriptors) != 1:
        raise CriuError("CRIU asked for an image but sent no pipe")
    os.set_inheritable(descriptors[0], False)  # a child's copy would keep CRIU from seeing that ours is closed
    return descriptors[0]


def _read_exactly(connection: socket.socket, count: int) -> bytes:
    """Read so many bytes, or none at all at the end of the connection."""
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            if data:
                raise CriuError(_WENT_AWAY)
            return b""
        data += part
    return data


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _decode_varint(data: bytes, start: int) -> tuple[int, int]:
    value = shift = 0
    for position in range(start, min(start + 5, len(data))):
        value |= (data[position] & 0x7F) << shift
        if data[position] < 0x80:
            return value, position + 1
        shift += 7
    raise ValueError("bad length")
