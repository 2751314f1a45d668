"""Asks the kernel about the network of a capsule, by a thread that enters its namespace and ends with the answer.

Nothing of the capsule is run or read, and nothing is changed there. Sources: netlink(7), sock_diag(7).
"""

from __future__ import annotations

import os
import queue
import socket
import struct
from collections.abc import Iterator
from typing import Final

from crikpy.aio.threads import Thread
from crikpy.capsule import syscalls
from crikpy.capsule.holding import Process, folder_of
from crikpy.errors import CapsuleError

_ANSWER_S: Final = 5.0
_RECEIVED_BYTES: Final = 65536
_ERROR, _DONE = 2, 3
_REQUEST_DUMP: Final = 0x301
_HEAD: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")

_Answer = tuple[list[bytes], dict[int, str]]


def ask(launcher: Process, protocol: int, kind: int, request: bytes, *, most: int) -> _Answer:
    """Return the messages by which the kernel answers, and the names of the interfaces there by their numbers.

    Args:
        launcher: whose network is asked about.
        protocol: of netlink.
        kind: of the request, and of its answers.
        request: its body.
        most: after so many messages no more are read.

    Raises:
        CapsuleError: the launcher is gone, or the kernel does not answer.
    """
    answer: queue.SimpleQueue[_Answer | OSError] = queue.SimpleQueue()
    try:
        namespace = os.open(folder_of(launcher) / "ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as fault:
        raise CapsuleError(f"the launcher (process {launcher}) is gone") from fault

    def work() -> None:
        try:
            syscalls.enter_network(namespace)
            answer.put((list(_dump(protocol, kind, request, most)), dict(socket.if_nameindex())))
        except OSError as fault:
            answer.put(fault)

    try:
        asking = Thread(target=work, name="crikpy-netlink")
        asking.start()
        asking.join()
    finally:
        os.close(namespace)
    found = answer.get()
    if isinstance(found, OSError):
        raise CapsuleError(f"the kernel does not tell of the capsule's network: {found}") from found
    return found


def _dump(protocol: int, kind: int, request: bytes, most: int) -> Iterator[bytes]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as kernel:
        kernel.settimeout(_ANSWER_S)
        kernel.send(_HEAD.pack(_HEAD.size + len(request), kind, _REQUEST_DUMP, 1, 0) + request)
        count = 0
        while count < most:
            for found, body in _messages(kernel.recv(_RECEIVED_BYTES)):
                if found in {_DONE, _ERROR}:
                    return
                count += 1
                yield body


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _HEAD.size <= len(data):
        length, kind, *_ = _HEAD.unpack_from(data, position)
        yield kind, data[position + _HEAD.size : position + length]
        position += max(length + 3 & ~3, _HEAD.size)


def attributes(body: bytes, begin: int) -> dict[int, bytes]:
    """Return the attributes of a message, which begin behind its fixed part."""
    found: dict[int, bytes] = {}
    position = begin
    while position + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, position)
        found[kind] = body[position + _ATTRIBUTE.size : position + length]
        position += max(length + 3 & ~3, _ATTRIBUTE.size)
    return found
