"""The addresses of a capsule's network, and which of them take the place of another capsule's.

Source: rtnetlink(7).
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Final

from crikpy.capsule import netlink
from crikpy.capsule.holding import Process, folder_of
from crikpy.errors import CapsuleError
from crikpy.model.network import Address

MOST: Final = 4096
"""Addresses that are looked at; a container with more has them beyond what a move minds."""

_RTM_GETADDR: Final = 22
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_ADDRESS: Final = struct.Struct("=BBBBI")
_LISTING_CHARACTERS: Final = 1024 * 1024

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address


def read_addresses(launcher: Process) -> tuple[Address, ...]:
    """Return the addresses of a capsule's network but for loopback's, in the kernel's order.

    Raises:
        CapsuleError: the launcher is gone, or the kernel does not answer.
    """
    request = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    messages, names = netlink.ask(launcher, socket.NETLINK_ROUTE, _RTM_GETADDR, request, most=MOST)
    found = (_address(message) for message in messages)
    return tuple(
        Address(interface=names[index], address=str(address))
        for index, address in (each for each in found if each is not None)
        if index in names and not address.is_loopback
    )


def read_interfaces(launcher: Process) -> frozenset[str]:
    """Return the names of a capsule's network interfaces.

    Raises:
        CapsuleError: the launcher is gone.
    """
    try:
        with (folder_of(launcher) / "net/dev").open(errors="replace") as listing:
            lines = listing.read(_LISTING_CHARACTERS).split("\n")
    except OSError as fault:
        raise CapsuleError(f"the launcher (process {launcher}) is gone") from fault
    return frozenset(line.partition(":")[0].strip() for line in lines[2:] if ":" in line)


def _address(message: bytes) -> tuple[int, _IP] | None:
    *_, index = _ADDRESS.unpack_from(message)
    found = netlink.attributes(message, _ADDRESS.size)
    # Of a link between two points the address is the other's, and the local one its own.
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
    return (int(index), ipaddress.ip_address(packed)) if packed else None


def successors(old: Sequence[Address], new: Sequence[Address]) -> Mapping[str, str | None]:
    """Return what takes the place of each address of an old container that the new one does not have.

    That is the address of the same family and scope at the same place on an interface of the same name, else the
    first of that family and scope; None where there is none. An address of one link only stays on its interface.
    What is no address, which a manifest that somebody has changed may hold, is passed over.
    """
    old = [each for each in old if _is_outer(each)]
    here = {each.address for each in new}
    return {each.address: _successor(each, old, new) for each in old if each.address not in here}


def _successor(lost: Address, old: Sequence[Address], new: Sequence[Address]) -> str | None:
    alike = [each for each in new if _sort(each) == _sort(lost)]
    same = [each for each in alike if each.interface == lost.interface]
    if same:
        before = [each for each in old if _sort(each) == _sort(lost) and each.interface == lost.interface]
        return same[min(before.index(lost), len(same) - 1)].address
    if ipaddress.ip_address(lost.address).is_link_local or not alike:
        return None
    return alike[0].address


def _is_outer(address: Address) -> bool:
    try:
        return not ipaddress.ip_address(address.address).is_loopback
    except ValueError:
        return False


def _sort(address: Address) -> tuple[int, bool, bool]:
    found = ipaddress.ip_address(address.address)
    return found.version, found.is_link_local, found.is_loopback
