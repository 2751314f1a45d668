"""What a job has to do with the network of its container, as far as a move has to know it.

Addresses are texts as inet_ntop(3) writes them; an IPv4 address that an IPv6 socket uses is an IPv4 address here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class TcpState(IntEnum):
    """States of a TCP socket that matter here (include/net/tcp_states.h); sockets of other kinds have them too."""

    ESTABLISHED = 1
    CLOSE = 7
    LISTEN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One address of a container.

    Attributes:
        interface: the name of the interface that has it.
        address: the address.
    """

    interface: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end of a socket.

    Attributes:
        address: the address, or the one that means any.
        port: the port, 0 for none.
    """

    address: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InternetSocket:
    """An IPv4 or IPv6 socket that a job has open.

    Attributes:
        inode: its number in the kernel that it was dumped on.
        family: AF_INET or AF_INET6.
        protocol: IPPROTO_TCP, IPPROTO_UDP, …
        state: as TCP numbers them.
        source: its own end.
        destination: the other end; port 0 when it is not connected.
        device: the interface that it is bound to, or empty.
    """

    inode: int
    family: int
    protocol: int
    state: int
    source: End
    destination: End
    device: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What of its container's network a job was found to use, as the manifest records it.

    Attributes:
        addresses: the container's, without loopback.
        bound: addresses of its own that sockets of the job are bound to, other than by a TCP connection.
        devices: interfaces that sockets of the job are bound to.
        ipv6: whether the job has IPv6 sockets.
    """

    addresses: tuple[Address, ...] = ()
    bound: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    ipv6: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnd:
    """One end of a TCP connection between two sockets of one job.

    Attributes:
        inode: its socket's.
        received: what it is to read next, all that the other end has sent to it.
    """

    inode: int
    received: bytes
