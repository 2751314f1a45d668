"""The bytes of CRIU's images: heads, records, and fields of protobuf messages, read and replaced one by one.

Only what crikpy has to know or to change of an image is understood; everything else is kept as it is, byte for
byte, so that an image of a later CRIU with further fields is neither misread nor robbed of them. Sources:
criu/protobuf.c and criu/include/magic.h of CRIU 4.2, protobuf.dev/programming-guides/encoding. What is read may
come from a store that somebody has changed: it is understood or refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from crikpy.errors import CriuError

Value = int | bytes

COMMON_MAGIC: Final = 0x54564319
_MAGIC: Final = struct.Struct("<I")
_LENGTH: Final = struct.Struct("<I")
_MOST: Final = 2**64


def records(image: bytes, magic: int, *, common: bool = True) -> list[bytes]:
    """Return the messages of an image.

    Args:
        image: magic numbers, then a length and a message, any number of times.
        magic: the last of the magic numbers, which says what the messages are.
        common: whether the one comes first that nearly all images begin with.

    Raises:
        CriuError: it is something else.
    """
    head = _head(magic, common=common)
    if not image.startswith(head):
        raise _unreadable("it does not begin as it should")
    found, position = [], len(head)
    while position < len(image):
        begin = position + _LENGTH.size
        if begin > len(image):
            raise _unreadable("it is cut off")
        (length,) = _LENGTH.unpack_from(image, position)
        if begin + length > len(image):
            raise _unreadable("it is cut off")
        found.append(image[begin : begin + length])
        position = begin + length
    return found


def image_of(magic: int, messages: Sequence[bytes], *, common: bool = True) -> bytes:
    """Return an image that holds these messages."""
    parts = [_head(magic, common=common)]
    for message in messages:
        parts += [_LENGTH.pack(len(message)), message]
    return b"".join(parts)


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Yield the number and value of each field of a message.

    Raises:
        CriuError: it is no message.
    """
    for number, value, _, _ in _spans(message):
        yield number, value


def first(message: bytes, number: int) -> Value | None:
    """Return the value of the first field of that number, or None; the same errors."""
    return next((value for found, value in fields(message) if found == number), None)


def number(message: bytes, field: int) -> int:
    """Return the value of a field that is a number; 0 where it is left out. The same errors."""
    value = first(message, field)
    return value if isinstance(value, int) else 0


def part(message: bytes, field: int) -> bytes:
    """Return the value of a field that has a length; empty where it is left out. The same errors."""
    value = first(message, field)
    return value if isinstance(value, bytes) else b""


def numbers(message: bytes, field: int) -> tuple[int, ...]:
    """Return the values of a repeated field of numbers, packed or not. The same errors."""
    found: list[int] = []
    for each, value in fields(message):
        if each != field:
            continue
        if isinstance(value, int):
            found.append(value)
            continue
        position = 0
        while position < len(value):
            one, position = _varint(value, position)
            found.append(one)
    return tuple(found)


def replaced(message: bytes, changes: Mapping[int, Sequence[Value]]) -> bytes:
    """Return a message with other values for some fields, none of them for an empty list; all else as it was.

    Raises:
        CriuError: it is no message.
    """
    kept = [message[begin:end] for found, _, begin, end in _spans(message) if found not in changes]
    added = [field(found, value) for found, values in changes.items() for value in values]
    return b"".join((*kept, *added))


def field(number: int, value: Value) -> bytes:
    """Return the bytes of a field."""
    if isinstance(value, int):
        return _of_varint(number << 3) + _of_varint(value)
    return _of_varint(number << 3 | 2) + _of_varint(len(value)) + value


def _head(magic: int, *, common: bool) -> bytes:
    return (_MAGIC.pack(COMMON_MAGIC) if common else b"") + _MAGIC.pack(magic)


def _spans(message: bytes) -> Iterator[tuple[int, Value, int, int]]:
    position = 0
    while position < len(message):
        begin = position
        tag, position = _varint(message, position)
        match tag & 7:
            case 0:
                value, position = _varint(message, position)
                yield tag >> 3, value, begin, position
                continue
            case 1:
                length = 8
            case 2:
                length, position = _varint(message, position)
            case 5:
                length = 4
            case kind:
                raise _unreadable(f"a field of kind {kind}")
        end = position + length
        if end > len(message):
            raise _unreadable("a field is cut off")
        yield tag >> 3, message[position:end], begin, end
        position = end


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise _unreadable("a number is cut off")
        byte = message[position]
        value, position = value | (byte & 0x7F) << shift, position + 1
        if byte < 0x80:
            return value % _MOST, position
    raise _unreadable("a number without an end")


def _unreadable(why: str) -> CriuError:
    return CriuError(f"an image of CRIU cannot be read: {why}")


def _of_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
