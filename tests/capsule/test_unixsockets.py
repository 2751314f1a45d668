"""A job's own ends of connections by Unix sockets are found; listeners, datagrams and other people's are none."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from crikpy.capsule.unixsockets import connected_ends


def _inode(end: socket.socket) -> int:
    return os.fstat(end.fileno()).st_ino


def test_connected_ends_of_streams_and_packets_are_found_once(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as client,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as letters,
    ):
        listener.bind(str(tmp_path / "03 0001 socket"))
        listener.listen()
        client.connect(str(tmp_path / "03 0001 socket"))
        letters.bind(str(tmp_path / "letters"))
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        again = client.dup()
        with pair[0], pair[1], again, listener.accept()[0] as served:
            found = connected_ends([os.getpid()], os.getpid())
            assert {_inode(end) for end in (client, served, *pair)} <= set(found)
            assert not {_inode(end) for end in (listener, letters)} & set(found)
            assert len(found) == len(set(found))


def test_a_process_that_is_gone_has_none() -> None:
    assert connected_ends([2**22 + 1], os.getpid()) == ()
    assert connected_ends([os.getpid()], Path("/proc/none")) == ()
