"""Sockets that CRIU cannot save are told by their kind, without being opened."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest

from crikpy.capsule.socketkinds import out_of_reach, protocol_of, refusal

_MPTCP, _VSOCK, _XDP = (
    (socket.AF_INET, socket.SOCK_STREAM, 262),
    (40, socket.SOCK_STREAM, 0),
    (44, socket.SOCK_RAW, 0),
)


def _protocol(family: int, kind: int, number: int = 0) -> str:
    with socket.socket(family, kind, number) as made:
        return protocol_of(f"/proc/self/fd/{made.fileno()}")


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_what_jobs_use_is_not_refused(family: int, kind: int) -> None:
    protocol = _protocol(family, kind)
    assert protocol
    assert refusal(protocol) == ""


def test_talks_with_the_kernel_are_not_refused() -> None:
    assert refusal(_protocol(socket.AF_NETLINK, socket.SOCK_RAW)) == ""


@pytest.mark.parametrize(
    ("what", "words"),
    [(_MPTCP, "Multipath TCP"), (_VSOCK, "vsock"), (_XDP, "AF_XDP")],
    ids=["mptcp", "vsock", "xdp"],
)
def test_what_criu_does_not_know_is_refused_by_its_name(what: tuple[int, int, int], words: str) -> None:
    try:
        protocol = _protocol(*what)
    except OSError:
        pytest.skip("this kernel has none")
    assert words in refusal(protocol)


def test_kinds_that_nobody_has_thought_of_are_refused_too() -> None:
    assert refusal("SCTPv6").startswith("uses SCTP")
    assert refusal("L2CAP") == "uses a socket of the kind L2CAP, which CRIU cannot save: close it before"
    assert refusal("") == ""


def test_what_is_no_socket_has_no_protocol(tmp_path: Path) -> None:
    place = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(place))
        named = os.open(place, os.O_PATH)
    with contextlib.closing(os.fdopen(os.open("/dev/null", os.O_RDONLY))) as null:
        assert protocol_of(f"/proc/self/fd/{null.fileno()}") == ""
        assert protocol_of(f"/proc/self/fd/{named}") == ""
    os.close(named)
    assert protocol_of("/proc/self/fd/999999") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to enter a network namespace")
def test_datagrams_within_a_network_namespace_are_in_reach(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as letters,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        letters.bind(str(tmp_path / "letters"))
        sender.connect(str(tmp_path / "letters"))
        inodes = [os.fstat(each.fileno()).st_ino for each in (letters, sender)]
        assert list(out_of_reach(inodes, os.getpid())) == []
    assert list(out_of_reach([], os.getpid())) == []
    assert list(out_of_reach([1], 2**22 + 1)) == []
