"""The image of what a job has open: which sockets and files there are, read and rewritten.

CRIU binds sockets to the addresses and opens files under the names that they had. In another container some of
these are others, so `files.img` says other things when it is given back than when it was dumped. Sources:
images/fdinfo.proto, sk-inet.proto, sk-opts.proto and regfile.proto of CRIU 4.2. What is not named here is kept
byte for byte (crikpy.criu.wire). Nothing here decides what is to be changed, nor touches a file or a socket.
"""

from __future__ import annotations

import ipaddress
import socket
import stat
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from crikpy.criu import wire
from crikpy.errors import CriuError
from crikpy.model.network import End, InternetSocket, TcpState
from crikpy.model.streams import ImageSink, ImageWriter

FILES_IMAGE: Final = "files.img"
REMOVED_IMAGE: Final = "remap-fpath.img"

_MAGIC: Final = 0x56303138
_REMAP_MAGIC: Final = 0x59133954
_GHOST: Final = 1
_REGULAR, _INET, _UNIX = 3, 4, 16
"""Fields of a file_entry."""

_INODE, _FAMILY, _PROTOCOL, _STATE, _SOURCE_PORT, _DESTINATION_PORT = 2, 3, 5, 6, 7, 8
_BACKLOG, _SOURCE, _DESTINATION, _OPTIONS, _INTERFACE, _SHUTDOWN = 10, 11, 12, 14, 17, 19
"""Fields of an inet_sk_entry."""

_DEVICE: Final = 15
"""Field of a sk_opts_entry."""

_UNIX_TYPE, _UNIX_FLAGS, _UNIX_PEER, _UNIX_SHUTDOWN = 3, 6, 8, 12
"""Fields of a unix_sk_entry; its inode has the same as that of an inet_sk_entry."""

_STRANGER: Final = 1
"""Flag of a socket that is none of the job's (USK_EXTERN)."""

_BOTH: Final = 3
"""A socket that was shut down for reading and writing (sk_shutdown)."""

_ID, _NAME, _SIZE, _MODE = 1, 6, 8, 10
"""Fields of a reg_file_entry."""

_WORDS: Final[dict[int, int]] = {socket.AF_INET: 1, socket.AF_INET6: 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFile:
    """How a regular file or directory is found again.

    Attributes:
        name: its path.
        directory: it is one.
        removed: it had no name any more, so that CRIU makes it anew, and its name says only where.
        checked: whether CRIU refuses it when its size or mode is another.
    """

    name: str
    directory: bool = False
    removed: bool = False
    checked: bool = True


def sockets(image: bytes) -> tuple[InternetSocket, ...]:
    """Return the IPv4 and IPv6 sockets of an image.

    Raises:
        CriuError: it is no such image.
    """
    return tuple(_socket(entry) for entry in _entries(image, _INET))


def rewritten(
    image: bytes,
    of_socket: Callable[[InternetSocket], InternetSocket | None],
    of_file: Callable[[NamedFile], NamedFile],
    removed: Collection[int] = (),
) -> bytes:
    """Return an image that says something else of some sockets and files.

    Unix sockets that were connected to somebody else come back as connections that have ended: left alone, CRIU
    connects them to whoever has that name then, in the middle of a talk, and gives all up where nobody has.

    Args:
        image: the image.
        of_socket: given each socket, returns what it shall be; None for one without a peer: not bound, not
            connected, and shut down, as a connection that has ended.
        of_file: given each regular file or directory, returns where it shall be found.
        removed: what removed_files found in the checkpoint.

    Raises:
        CriuError: it is no such image.
    """
    messages = []
    here = {
        wire.number(entry, _INODE)
        for entry in _entries(image, _UNIX)
        if not wire.number(entry, _UNIX_FLAGS) & _STRANGER
    }
    for message in wire.records(image, _MAGIC):
        message = _changed(message, _UNIX, partial(_without_stranger, here))  # noqa: PLW2901
        changed = _changed(message, _INET, partial(_changed_socket, of_socket))
        messages.append(_changed(changed, _REGULAR, partial(_changed_file, of_file, removed)))
    return wire.image_of(_MAGIC, messages)


def removed_files(image: bytes) -> frozenset[int]:
    """Return the ids of files that had no name any more, of the image that says so (remap-file-path.proto).

    Raises:
        CriuError: it is no such image.
    """
    messages = wire.records(image, _REMAP_MAGIC)
    return frozenset(wire.number(message, 1) for message in messages if wire.number(message, 3) == _GHOST)


def _changed(message: bytes, kind: int, change: Callable[[bytes], bytes]) -> bytes:
    entry = wire.first(message, kind)
    if not isinstance(entry, bytes) or (after := change(entry)) == entry:
        return message
    return wire.replaced(message, {kind: [after]})


def _entries(image: bytes, kind: int) -> Iterator[bytes]:
    for message in wire.records(image, _MAGIC):
        found = wire.first(message, kind)
        if isinstance(found, bytes):
            yield found


def _socket(entry: bytes) -> InternetSocket:
    family = wire.number(entry, _FAMILY)
    return InternetSocket(
        inode=wire.number(entry, _INODE),
        family=family,
        protocol=wire.number(entry, _PROTOCOL),
        state=wire.number(entry, _STATE),
        source=_end(entry, family, _SOURCE, _SOURCE_PORT),
        destination=_end(entry, family, _DESTINATION, _DESTINATION_PORT),
        device=wire.part(wire.part(entry, _OPTIONS), _DEVICE).decode(errors="replace"),
    )


def _end(entry: bytes, family: int, address: int, port: int) -> End:
    words = wire.numbers(entry, address)
    if len(words) != _WORDS.get(family) or any(word >= 2**32 for word in words):
        raise CriuError(f"CRIU's image holds a socket of family {family} with {len(words)} words of address")
    packed = struct.pack(f"={len(words)}I", *words)
    return End(address=_text(packed), port=wire.number(entry, port))


def _text(packed: bytes) -> str:
    found = ipaddress.ip_address(packed)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def _words(text: str, family: int) -> list[wire.Value]:
    packed = ipaddress.ip_address(text).packed
    if family == socket.AF_INET6 and len(packed) == 4:
        packed = bytes(10) + b"\xff\xff" + packed
    if len(packed) != 4 * _WORDS[family]:
        raise CriuError(f"the address {text} is not one of family {family}")
    return list(struct.unpack(f"={_WORDS[family]}I", packed))


def _changed_socket(change: Callable[[InternetSocket], InternetSocket | None], entry: bytes) -> bytes:
    before = _socket(entry)
    after = change(before)
    if after == before:
        return entry
    if after is None:
        nothing: list[wire.Value] = [0] * _WORDS[before.family]
        return wire.replaced(
            entry,
            {
                _STATE: [TcpState.CLOSE],
                _SOURCE_PORT: [0],
                _DESTINATION_PORT: [0],
                _BACKLOG: [0],
                _SOURCE: nothing,
                _DESTINATION: nothing,
                _INTERFACE: [],
                _SHUTDOWN: [_BOTH],
            },
        )
    return wire.replaced(
        entry,
        {
            _SOURCE: _words(after.source.address, before.family),
            _DESTINATION: _words(after.destination.address, before.family),
        },
    )


def _without_stranger(here: Collection[int], entry: bytes) -> bytes:
    """Return a Unix socket, at its end if it was connected to somebody else."""
    peer = wire.number(entry, _UNIX_PEER)
    if peer == 0 or peer in here:
        return entry
    if wire.number(entry, _UNIX_TYPE) == socket.SOCK_DGRAM:
        return wire.replaced(entry, {_UNIX_PEER: [0]})
    return wire.replaced(entry, {_UNIX_PEER: [0], _UNIX_SHUTDOWN: [_BOTH]})


def _changed_file(change: Callable[[NamedFile], NamedFile], removed: Collection[int], entry: bytes) -> bytes:
    try:
        before = NamedFile(
            name=wire.part(entry, _NAME).decode(errors="surrogateescape"),
            directory=stat.S_ISDIR(wire.number(entry, _MODE)),
            removed=wire.number(entry, _ID) in removed,
        )
        after = change(before)
        changes: dict[int, list[wire.Value]] = {}
        if after.name != before.name:
            changes[_NAME] = [after.name.encode(errors="surrogateescape")]
        if not after.checked:
            changes |= {_SIZE: [], _MODE: []}
    except UnicodeError as fault:
        raise CriuError("CRIU's image holds the name of a file that cannot be read") from fault
    return wire.replaced(entry, changes) if changes else entry


class FilesWatch:
    """A sink that passes every image on, and keeps the one of open files."""

    def __init__(self, sink: ImageSink) -> None:
        self._sink = sink
        self._seen = bytearray()

    def open(self, name: str) -> ImageWriter:
        """Begin an image (crikpy.model.streams.ImageSink)."""
        writer = self._sink.open(name)
        return _CopyingWriter(writer, self._seen) if name == FILES_IMAGE else writer

    def sockets(self) -> tuple[InternetSocket, ...]:
        """Return the job's IPv4 and IPv6 sockets; call it when every image has passed.

        Raises:
            CriuError: the image cannot be read.
        """
        return sockets(bytes(self._seen)) if self._seen else ()


class _CopyingWriter:
    """Writes an image and keeps a copy of its bytes."""

    def __init__(self, writer: ImageWriter, copy: bytearray) -> None:
        self._writer = writer
        self._copy = copy
        self._lent = memoryview(b"")

    def buffer(self) -> memoryview:
        self._lent = self._writer.buffer()
        return self._lent

    def advance(self, count: int) -> None:
        self._copy += self._lent[:count]
        self._writer.advance(count)

    def close(self) -> None:
        self._writer.close()
