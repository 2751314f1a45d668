"""The addresses of a capsule's network, and which of them take the place of another capsule's.

The kernel is asked by a thread that enters the network namespace and ends with its answer; nothing of the capsule
is run or read, and nothing is changed there. Source: rtnetlink(7).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import queue
import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from crikpy.capsule import syscalls
from crikpy.capsule.holding import Process, folder_of
from crikpy.errors import CapsuleError
from crikpy.model.network import Address

MOST: Final = 4096
"""Addresses that are looked at; a container with more has them beyond what a move minds."""

_ANSWER_S: Final = 5.0
_RTM_NEWADDR, _RTM_GETADDR, _NLMSG_ERROR, _NLMSG_DONE = 20, 22, 2, 3
_REQUEST_DUMP: Final = 0x301
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_MESSAGE: Final = struct.Struct("=IHHII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_RECEIVED_BYTES: Final = 65536
_LISTING_CHARACTERS: Final = 1024 * 1024

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address


def read_addresses(launcher: Process) -> tuple[Address, ...]:
    """Return the addresses of a capsule's network but for loopback's, in the kernel's order.

    Raises:
        CapsuleError: the launcher is gone, or the kernel does not answer.
    """
    answer: queue.SimpleQueue[list[Address] | OSError] = queue.SimpleQueue()
    try:
        namespace = os.open(folder_of(launcher) / "ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as fault:
        raise CapsuleError(f"the launcher (process {launcher}) is gone") from fault
    try:
        asking = threading.Thread(target=_ask_inside, args=(namespace, answer), name="crikpy-addresses")
        asking.start()
        asking.join()
    finally:
        os.close(namespace)
    found = answer.get()
    if isinstance(found, OSError):
        raise CapsuleError(f"the addresses of the capsule cannot be read: {found}") from found
    return tuple(found)


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


def _ask_inside(namespace: int, answer: queue.SimpleQueue[list[Address] | OSError]) -> None:
    try:
        syscalls.enter_network(namespace)
        answer.put(list(_ask()))
    except OSError as fault:
        answer.put(fault)


def _ask() -> Iterator[Address]:
    names: dict[int, str] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_ANSWER_S)
        length = _MESSAGE.size + _ADDRESS.size
        kernel.send(
            _MESSAGE.pack(length, _RTM_GETADDR, _REQUEST_DUMP, 1, 0) + _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        )
        count = 0
        while count < MOST:
            for kind, body in _messages(kernel.recv(_RECEIVED_BYTES)):
                if kind in {_NLMSG_DONE, _NLMSG_ERROR}:
                    return
                found = _address(body) if kind == _RTM_NEWADDR else None
                if found is None or found[1].is_loopback:
                    continue
                index, address = found
                if index not in names:
                    with contextlib.suppress(OSError):  # it has just gone
                        names[index] = socket.if_indextoname(index)
                if index in names:
                    count += 1
                    yield Address(interface=names[index], address=str(address))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _MESSAGE.size <= len(data):
        length, kind, *_ = _MESSAGE.unpack_from(data, position)
        yield kind, data[position + _MESSAGE.size : position + length]
        position += max(length + 3 & ~3, _MESSAGE.size)


def _address(body: bytes) -> tuple[int, _IP] | None:
    *_, index = _ADDRESS.unpack_from(body)
    found: dict[int, bytes] = {}
    position = _ADDRESS.size
    while position + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, position)
        found[kind] = body[position + _ATTRIBUTE.size : position + length]
        position += max(length + 3 & ~3, _ATTRIBUTE.size)
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
