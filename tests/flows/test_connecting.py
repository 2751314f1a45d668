"""Which connections of a job have both ends in it, and go on in a new container."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.criu.tcpstreams import image_name
from crikpy.flows.connecting import kept, pairs
from crikpy.model.network import End, InternetSocket, TcpState


def end(inode: int, source: tuple[str, int], destination: tuple[str, int]) -> InternetSocket:
    return InternetSocket(
        inode=inode,
        family=socket.AF_INET6 if ":" in source[0] else socket.AF_INET,
        protocol=socket.IPPROTO_TCP,
        state=TcpState.ESTABLISHED,
        source=End(address=source[0], port=source[1]),
        destination=End(address=destination[0], port=destination[1]),
    )


HERE, THERE, STORE = ("10.77.1.2", 40000), ("10.77.1.2", 80), ("198.51.100.7", 443)
NEAR, FAR = end(1, HERE, THERE), end(2, THERE, HERE)
OUTWARD = end(3, HERE, STORE)
LOOP = end(4, ("127.0.0.1", 1), ("127.0.0.1", 2)), end(5, ("127.0.0.1", 2), ("127.0.0.1", 1))
SIX = end(6, ("::1", 1), ("::1", 2)), end(7, ("::1", 2), ("::1", 1))
ALL = (NEAR, OUTWARD, *LOOP, FAR, *SIX)
IMAGES = {image_name(inode) for inode in range(1, 8)}


def test_ends_find_each_other_by_their_addresses_and_ports() -> None:
    assert list(pairs(ALL)) == [LOOP, (NEAR, FAR), SIX]


def test_a_connection_by_an_ipv4_address_has_ends_of_either_family() -> None:
    assert list(pairs([NEAR, replace(FAR, family=socket.AF_INET6)])) != []


@pytest.mark.parametrize("other", [replace(FAR, state=8), replace(FAR, protocol=socket.IPPROTO_UDP)])
def test_only_open_tcp_connections_count(other: InternetSocket) -> None:
    assert list(pairs([NEAR, other])) == []


def test_a_socket_that_is_connected_to_itself_is_no_pair() -> None:
    assert list(pairs([end(1, HERE, HERE)])) == []


@given(st.permutations(ALL))
def test_the_order_does_not_matter(sockets: list[InternetSocket]) -> None:
    assert {frozenset((one.inode, other.inode)) for one, other in pairs(sockets)} == {
        frozenset((1, 2)),
        frozenset((4, 5)),
        frozenset((6, 7)),
    }


def test_connections_go_on_whose_address_is_here_and_of_which_both_ends_were_stored() -> None:
    assert kept(ALL, IMAGES, {"10.77.1.2"}) == {1, 2, 4, 5, 6, 7}
    assert kept(ALL, IMAGES, {"10.77.2.2"}) == {4, 5, 6, 7}
    assert kept(ALL, IMAGES - {image_name(5)}, {"10.77.1.2"}) == {1, 2, 6, 7}
    assert kept(ALL, (), {"10.77.1.2"}) == frozenset()
