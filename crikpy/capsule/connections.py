"""What is on its way in TCP connections of which a stopped job holds both ends.

Such a connection can go on after a move, since both ends move. An end is reached by a descriptor of ours for the
same socket (pidfd_getfd), whose queue is looked at without taking anything out of it. Only what a sender still
holds back cannot be seen so: then both ends are put into the kernel's repair mode (TCP_REPAIR, net/ipv4/tcp.c) for
the moment of a look, and no longer: a job must never be let go with a socket in it. Sockets with another end
elsewhere are never touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import stat
import struct
import termios
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from crikpy.capsule import procfs, syscalls
from crikpy.errors import CapsuleError
from crikpy.model.network import StreamEnd, TcpState

MOST_BYTES: Final = 64 * 1024 * 1024
"""On the way in one direction; a connection with more is not kept. Kernels allow some 10 MiB by themselves."""

_TRIES: Final = 8
"""Data may arrive while it is looked at, from the kernel's own queue."""

_TCP_INFO_BYTES: Final = 8
_SO_PEEK_OFF: Final = 42
_TCP_REPAIR, _TCP_REPAIR_QUEUE, _TCP_QUEUE_SEQ, _TCP_ULP = 19, 20, 21, 31
_ON, _OFF = 1, -1
"""Switched off without a word to the other end (TCP_REPAIR_OFF_NO_WP)."""

_RECEIVED, _SENT = 1, 2


class _Unkept(Exception):  # noqa: N818 - it is no fault
    """The connection is one that cannot be kept."""


def read_ends(pids: Sequence[int], pairs: Sequence[tuple[int, int]]) -> Iterator[tuple[StreamEnd, StreamEnd]]:
    """Yield both ends of each connection that can be kept; the others are left out.

    Args:
        pids: the job's processes, all stopped, as this process sees them.
        pairs: inodes of the two ends of each connection.
    """
    holders = _holders(pids, {inode for pair in pairs for inode in pair})
    for one, other in pairs:
        if one in holders and other in holders:
            with contextlib.suppress(_Unkept, OSError, CapsuleError):
                yield _read_pair((one, holders[one]), (other, holders[other]))


def _holders(pids: Sequence[int], inodes: set[int]) -> Mapping[int, tuple[int, int]]:
    """Return who has each socket open: a process and the number of its descriptor."""
    found: dict[int, tuple[int, int]] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for number, inode in procfs.sockets(Path(f"/proc/{pid}")):
                if inode in inodes:
                    found.setdefault(inode, (pid, number))
    return found


def _read_pair(
    one: tuple[int, tuple[int, int]], other: tuple[int, tuple[int, int]]
) -> tuple[StreamEnd, StreamEnd]:
    with _shared(*one) as near, _shared(*other) as far:
        _require_plain(near)
        _require_plain(far)
        # First what is held back, then what has arrived: so nothing that comes over meanwhile is missed.
        held = _waiting(near, termios.TIOCOUTQ), _waiting(far, termios.TIOCOUTQ)
        if not any(held):
            return _ends(one[0], _peek(near), other[0], _peek(far))
        with _repaired(near), _repaired(far):
            sent = _sent(near), _sent(far)
            return _ends(one[0], _received(near, *sent[1]), other[0], _received(far, *sent[0]))


def _ends(one: int, received: bytes, other: int, its: bytes) -> tuple[StreamEnd, StreamEnd]:
    return StreamEnd(inode=one, received=received), StreamEnd(inode=other, received=its)


@contextlib.contextmanager
def _shared(inode: int, holder: tuple[int, int]) -> Iterator[socket.socket]:
    """Lend the very socket that a process has open."""
    pid, number = holder
    process = os.pidfd_open(pid)
    try:
        descriptor = syscalls.getfd(process, number)
    finally:
        os.close(process)
    seen = syscalls.look(f"/proc/self/fd/{descriptor}")
    if seen.inode != inode or not stat.S_ISSOCK(seen.mode):
        os.close(descriptor)
        raise _Unkept
    with socket.socket(fileno=descriptor) as found:
        yield found


def _require_plain(end: socket.socket) -> None:
    """Make sure that an end is an open TCP connection with nothing in it that a restored one would lack."""
    if end.type != socket.SOCK_STREAM or end.proto != socket.IPPROTO_TCP:
        raise _Unkept
    if end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)[0] != TcpState.ESTABLISHED:
        raise _Unkept
    if end.getsockopt(socket.IPPROTO_TCP, _TCP_ULP, 16).strip(b"\0"):  # the kernel encrypts it
        raise _Unkept
    if end.getsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF) >= 0:  # our look would move where the job's begin
        raise _Unkept
    urgent = select.poll()
    urgent.register(end, select.POLLPRI)
    if any(events & select.POLLPRI for _, events in urgent.poll(0)):
        raise _Unkept


def _waiting(end: socket.socket, queue: int) -> int:
    """Return how many bytes are in one of a socket's queues."""
    (count,) = struct.unpack("=i", fcntl.ioctl(end.fileno(), queue, bytes(4)))
    if not 0 <= count <= MOST_BYTES:
        raise _Unkept
    return int(count)


def _peek(end: socket.socket) -> bytes:
    """Return what has arrived and was not read, all of it."""
    for _ in range(_TRIES):
        count = _waiting(end, termios.FIONREAD)
        data = b"" if count == 0 else end.recv(count + 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        if len(data) == count == _waiting(end, termios.FIONREAD):
            return data
    raise _Unkept


@contextlib.contextmanager
def _repaired(end: socket.socket) -> Iterator[None]:
    """Have the kernel show what it else hides of a socket; it forgets SO_REUSEADDR by that."""
    reuse = end.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    end.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _ON)
    try:
        yield
    finally:
        end.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _OFF)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)


def _position(end: socket.socket, queue: int) -> int:
    """Choose a queue to look into; return the number of the byte behind its last one."""
    end.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, queue)
    return end.getsockopt(socket.IPPROTO_TCP, _TCP_QUEUE_SEQ) % 2**32


def _sent(end: socket.socket) -> tuple[int, bytes]:
    """Return what an end holds back as long as it is not confirmed, and the number of the byte behind it."""
    behind = _position(end, _SENT)
    count = _waiting(end, termios.TIOCOUTQ)
    data = b"" if count == 0 else end.recv(count + 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    if len(data) != count:
        raise _Unkept
    return behind, data


def _received(end: socket.socket, behind: int, sent: bytes) -> bytes:
    """Return what an end has received and not read, and what is still on its way to it."""
    for _ in range(_TRIES):
        before = _position(end, _RECEIVED)
        data = _peek(end)
        if _position(end, _RECEIVED) == before:
            missing = (behind - before) % 2**32
            if missing > len(sent) or len(data) + missing > MOST_BYTES:
                raise _Unkept
            return data + sent[len(sent) - missing :]
    raise _Unkept
