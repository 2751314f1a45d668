"""Whom the launcher believes, and what it puts up with from anyone."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from tests.launcher.capsule import Capsule, until
from tests.launcher.conftest import Start

CONNECT = """
import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
try:
    peer.sendall(b"start\\n")
except BrokenPipeError:
    pass
print(peer.recv(4096).decode(), end="")
"""
FORBIDDEN = "error forbidden to all but the node's root\n"


def greeting_for(capsule: Capsule, *, uid: int) -> str:
    """What the launcher says to a peer of this uid from outside."""
    with socket.socket(socket.AF_UNIX) as peer:
        os.seteuid(uid)
        try:
            peer.connect(str(capsule.socket_path))
        finally:
            os.seteuid(0)
        return peer.recv(4096).decode()


@pytest.fixture
def capsule(start: Start) -> Capsule:
    """A waiting capsule that listens."""
    capsule = start("sleep", "1000")
    capsule.connect().close()
    return capsule


def test_root_inside_the_capsule_is_refused(capsule: Capsule) -> None:
    said = capsule.enter(sys.executable, "-c", CONNECT, str(capsule.socket_path))
    assert said == FORBIDDEN
    assert capsule.ask("status") == "ok waiting 0 -1"


def test_the_job_itself_is_refused(start: Start, folder: Path) -> None:
    capsule = start(sys.executable, "-c", CONNECT, str(folder / "launch.sock"), agent_wait=0)
    assert capsule.wait() == 0
    assert capsule.stdout == FORBIDDEN


@pytest.mark.parametrize(("uid", "trusted"), [(0, True), (65534, True), (1000, False), (65533, False)])
def test_outside_only_root_and_the_overflow_uid_are_trusted(capsule: Capsule, uid: int, trusted: bool) -> None:
    assert greeting_for(capsule, uid=uid) == ("crikpy-launch 1 waiting 0 -1\n" if trusted else FORBIDDEN)


def test_a_ninth_connection_is_told_that_the_launcher_is_busy(capsule: Capsule) -> None:
    peers = [capsule.connect() for _ in range(8)]
    refused = capsule.connect()
    assert refused.greeting == "error busy"
    assert refused.read_line() == ""
    assert greeting_for(capsule, uid=1000) == FORBIDDEN
    peers[3].close()
    until(lambda: capsule.greeting().startswith("crikpy-launch 1 "), "a free place")
    assert {peer.ask("status") for peer in peers if peer is not peers[3]} == {"ok waiting 0 -1"}


@pytest.mark.parametrize(
    "line", [b"\xff\n", b"status\r\n", b"sta\ttus\n", b"status\0\n", b"\x7f\n", b"a" * 512, b"a" * 5000]
)
def test_garbage_is_answered_and_the_connection_closed(capsule: Capsule, line: bytes) -> None:
    peer = capsule.connect()
    peer.send(line)
    assert peer.read_line() == "error garbage instead of a line"
    assert peer.read_line() == ""
    assert capsule.ask("status") == "ok waiting 0 -1"


def test_the_longest_line_is_512_bytes_with_its_end(capsule: Capsule) -> None:
    peer = capsule.connect()
    assert peer.ask("a" * 511) == "error unknown request"
    assert peer.ask("status") == "ok waiting 0 -1"


def test_requests_before_the_garbage_are_obeyed(capsule: Capsule) -> None:
    peer = capsule.connect()
    peer.send(b"status\nhold\n\xff\nstart\n")
    answers = [peer.read_line() for _ in range(4)]
    assert answers == ["ok waiting 0 -1", "ok waiting 0 -1", "error garbage instead of a line", ""]


def test_requests_in_one_packet_are_answered_in_order(capsule: Capsule) -> None:
    peer = capsule.connect()
    peer.send(b"status\nrelease\nhold\nrelease 1\nnonsense\n")
    assert [peer.answer() for _ in range(5)] == [
        "ok waiting 0 -1",
        "error unheld by this connection",
        "ok waiting 0 -1",
        "error state is not ended",
        "error unknown request",
    ]


def test_a_request_may_come_byte_by_byte(capsule: Capsule) -> None:
    peer, other = capsule.connect(), capsule.connect()
    for byte in b"status\n":
        peer.send(bytes([byte]))
        assert other.ask("status") == "ok waiting 0 -1"
    assert peer.answer() == "ok waiting 0 -1"


def test_what_was_asked_before_half_a_close_is_answered(capsule: Capsule) -> None:
    peer = capsule.connect()
    peer.send(b"status\n")
    peer.socket.shutdown(socket.SHUT_WR)
    assert [peer.read_line(), peer.read_line()] == ["ok waiting 0 -1", ""]


def test_a_peer_that_does_not_read_is_dropped_with_its_hold(start: Start) -> None:
    capsule = start("sh", "-c", "echo cold; exec sleep 1000")
    peer = capsule.connect()
    peer.ask("hold")
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        while True:
            peer.send(b"status\n" * 50)
    capsule.prints("cold")
    assert capsule.ask("status").startswith("ok running ")


def test_a_flood_of_connections_leaves_the_launcher_reachable(capsule: Capsule) -> None:
    for _ in range(300):
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(capsule.socket_path))
        peer.close()
    until(lambda: capsule.greeting().startswith("crikpy-launch 1 "), "a free place")
