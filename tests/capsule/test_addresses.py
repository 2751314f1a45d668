"""What addresses a capsule has, and which of them take the place of another's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.capsule.addresses import read_addresses, read_interfaces, successors
from crikpy.errors import CapsuleError
from crikpy.model.network import Address

_MAKE = """
ip link set lo up
ip link add eth0 type veth peer name peer
ip link set eth0 up
ip addr add 10.77.1.2/32 dev eth0
ip addr add 10.77.1.3/24 peer 10.77.1.9 dev eth0
ip -6 addr add fd00:77::1/128 dev eth0 nodad
ip addr add 10.78.0.1/32 dev lo
echo made
exec sleep 60
"""


def at(*texts: str) -> tuple[Address, ...]:
    return tuple(Address(interface=each.split("=")[0], address=each.split("=")[1]) for each in texts)


@pytest.fixture
def inhabitant() -> Iterator[int]:
    """A process in a network of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a network namespace")
    words = ("unshare", "--net", "sh", "-euc", _MAKE)
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"made\n"
            yield process.pid
        finally:
            process.kill()


def test_all_but_loopback_is_found_with_its_interface_and_ours_are_not(inhabitant: int) -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    found = [each for each in read_addresses(inhabitant) if not each.address.startswith("fe80:")]
    assert sorted((each.interface, each.address) for each in found) == [
        ("eth0", "10.77.1.2"),
        ("eth0", "10.77.1.3"),
        ("eth0", "fd00:77::1"),
        ("lo", "10.78.0.1"),
    ]
    assert read_interfaces(inhabitant) == {"lo", "eth0", "peer"}
    assert os.readlink("/proc/thread-self/ns/net") == before


def test_a_process_that_is_gone_is_an_error() -> None:
    with subprocess.Popen("true") as process:
        process.wait()
    with pytest.raises(CapsuleError):
        read_addresses(process.pid)
    with pytest.raises(CapsuleError):
        read_interfaces(process.pid)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(at("eth0=10.0.0.1"), at("eth0=10.0.0.2"), {"10.0.0.1": "10.0.0.2"}, id="one for one"),
        pytest.param(at("eth0=10.0.0.1"), at("eth0=10.0.0.1"), {}, id="the same stays"),
        pytest.param(
            at("eth0=10.0.0.1", "net1=10.1.0.1"),
            at("net1=10.1.0.2", "eth0=10.0.0.2"),
            {"10.0.0.1": "10.0.0.2", "10.1.0.1": "10.1.0.2"},
            id="by interface",
        ),
        pytest.param(
            at("eth0=10.0.0.1", "eth0=10.0.0.5"),
            at("eth0=10.0.0.2", "eth0=10.0.0.6"),
            {"10.0.0.1": "10.0.0.2", "10.0.0.5": "10.0.0.6"},
            id="by place",
        ),
        pytest.param(
            at("ens5=172.31.0.1"), at("enX0=172.31.0.2"), {"172.31.0.1": "172.31.0.2"}, id="another interface"
        ),
        pytest.param(
            at("eth0=10.0.0.1", "eth0=fd00::1"),
            at("eth0=10.0.0.2"),
            {"10.0.0.1": "10.0.0.2", "fd00::1": None},
            id="a family that is not here",
        ),
        pytest.param(
            at("eth0=fe80::1", "eth0=fd00::1"),
            at("eth0=fd00::2", "eth0=fe80::2", "eth1=fe80::3"),
            {"fe80::1": "fe80::2", "fd00::1": "fd00::2"},
            id="by scope",
        ),
        pytest.param(at("eth0=fe80::1"), at("net1=fe80::2"), {"fe80::1": None}, id="a link of its own"),
        pytest.param(
            at("lo=127.0.0.2", "eth0=words"), at("eth0=10.0.0.2"), {}, id="loopback, and what is no address"
        ),
        pytest.param((), at("eth0=10.0.0.2"), {}, id="nothing is known"),
    ],
)
def test_what_takes_the_place_of_an_address(
    old: tuple[Address, ...], new: tuple[Address, ...], expected: dict[str, str | None]
) -> None:
    assert successors(old, new) == expected


_ADDRESSES = st.lists(
    st.builds(
        Address,
        interface=st.sampled_from(["eth0", "net1", "lo"]),
        address=st.sampled_from(
            ["127.0.0.2", "10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2", "fe80::1"]
        ),
    ),
    unique=True,
)


@given(_ADDRESSES, _ADDRESSES)
def test_only_what_is_here_takes_a_place_and_it_is_of_the_same_family(
    old: list[Address], new: list[Address]
) -> None:
    here = {each.address for each in new}
    for lost, found in successors(old, new).items():
        assert lost not in here
        assert found is None or (found in here and (":" in found) == (":" in lost))
