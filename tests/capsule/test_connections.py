"""What is on its way in a connection is seen from outside, and the connection is as it was afterwards.

Both ends belong to a process of their own, which stands still while it is looked at.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crikpy.capsule import connections
from crikpy.model.network import StreamEnd

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to look into the sockets of others")

_PAIR = """
import os, socket, sys
with socket.create_server(("127.0.0.1", 0)) as listener:
    near = socket.create_connection(listener.getsockname())
    far = listener.accept()[0]
def fill(end):
    end.setblocking(False)
    sent = 0
    try:
        while True:
            sent += end.send(bytes(range(251)) * 400)
    except BlockingIOError:
        return sent
def drain(end):
    end.settimeout(5)
    data = b""
    while len(data) < expected:
        data += end.recv(65536)
    return data
expected = 0
"""
_AFTER = """
print(os.fstat(near.fileno()).st_ino, os.fstat(far.fileno()).st_ino, expected, flush=True)
sys.stdin.readline()
got = drain(far)
near.settimeout(5)
near.sendall(b"more")
far.settimeout(5)
assert far.recv(64) == b"more"
reuse = [end.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) for end in (near, far)]
print(len(got), reuse, flush=True)
"""


class Subject:
    """A process with a connection to itself, standing still.

    Attributes:
        pid: its PID.
        pair: inodes of the near and the far end.
        expected: how many bytes are on the way from near to far.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        near, far, expected = map(int, process.stdout.readline().split())
        self._process, self.pid, self.pair, self.expected = process, process.pid, (near, far), expected
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def read(self) -> list[tuple[StreamEnd, StreamEnd]]:
        """Look at the connection."""
        return list(connections.read_ends([self.pid], [self.pair]))

    def go_on(self) -> str:
        """Let it run on and say what it finds."""
        os.kill(self.pid, signal.SIGCONT)
        said, _ = self._process.communicate("\n", 20)
        assert self._process.returncode == 0
        return said.strip()


@contextmanager
def subject(does: str) -> Iterator[Subject]:
    words = (sys.executable, "-c", _PAIR + does + _AFTER)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Subject(process)
        finally:
            process.kill()


def pattern(length: int) -> bytes:
    return (bytes(range(251)) * (length // 251 + 1))[:length]


def test_an_idle_connection_has_nothing_on_its_way() -> None:
    with subject("near.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)") as found:
        near, far = found.pair
        assert found.read() == [(StreamEnd(inode=near, received=b""), StreamEnd(inode=far, received=b""))]
        assert found.go_on() == "0 [1, 1]"


def test_what_was_not_read_is_seen_and_stays() -> None:
    with subject("expected = near.send(bytes(range(251)))\nfar.send(b'back')\n") as found:
        for _ in range(2):
            assert [end.received for end in found.read()[0]] == [b"back", pattern(251)]
        assert found.go_on() == "251 [0, 1]"


def test_what_a_sender_holds_back_is_seen_and_stays() -> None:
    with subject("expected = fill(near)\n") as found:
        for _ in range(2):
            ends = found.read()[0]
            assert len(ends[1].received) == found.expected > 251 * 400
            assert ends[1].received == pattern(found.expected)
        assert found.go_on() == f"{found.expected} [0, 1]"


def test_what_has_arrived_but_is_not_confirmed_is_seen_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far = listener.accept()[0]
    with near, far:
        pair = os.fstat(near.fileno()).st_ino, os.fstat(far.fileno()).st_ino
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        near.send(b"once")
        assert struct.unpack("i", fcntl.ioctl(near, termios.TIOCOUTQ, bytes(4))) == (4,)
        ((one, other),) = connections.read_ends([os.getpid()], [pair])
        assert (one.received, other.received) == (b"", b"once")
        assert far.recv(64) == b"once"


@pytest.mark.parametrize(
    "does",
    [
        pytest.param("far.send(b'!', socket.MSG_OOB)", id="urgent bytes"),
        pytest.param("near.setsockopt(socket.SOL_SOCKET, 42, 0)", id="an offset for looks"),
    ],
)
def test_a_connection_that_would_lack_something_is_left_alone(does: str) -> None:
    with subject(does) as found:
        assert found.read() == []
        assert found.go_on() == "0 [0, 1]"


def test_a_connection_of_which_one_direction_has_ended_is_left_alone() -> None:
    with subject("far.shutdown(socket.SHUT_WR)") as found:
        assert found.read() == []
        assert found.go_on() == "0 [0, 1]"


def test_what_is_gone_or_something_else_is_left_out() -> None:
    ours, theirs = socket.socketpair()
    inodes = os.fstat(ours.fileno()).st_ino, os.fstat(theirs.fileno()).st_ino
    with ours, theirs, subject("") as found:
        assert list(connections.read_ends([os.getpid(), found.pid], [inodes, (1, 2), found.pair])) == found.read()
    assert list(connections.read_ends([found.pid], [found.pair])) == []
    assert not Path(f"/proc/{found.pid}").exists()
