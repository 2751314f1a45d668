"""What sockets of a job CRIU could not save, in the words of those who run the job.

The kernel tells what a socket is by an attribute of its inode (system.sockprotoname, net/socket.c), read by a
descriptor that only means the file; so no socket of a job is opened or held. Who is connected with whom by
Unix sockets it tells by netlink (unix_diag.h).
"""

from __future__ import annotations

import functools
import os
import socket
import stat
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from crikpy.capsule import netlink, syscalls
from crikpy.capsule.holding import Process
from crikpy.errors import CapsuleError

_NAME: Final = "system.sockprotoname"

_SAVED: Final = frozenset(
    {
        *("TCP", "TCPv6", "UDP", "UDPv6", "UDP-Lite", "UDPLITEv6", "RAW", "RAWv6", "PING", "PINGv6"),
        *("UNIX", "UNIX-STREAM", "NETLINK", "PACKET"),
    }
)
"""As protocols name themselves (struct proto)."""

_KINDS: Final = {
    "MPTCP": "Multipath TCP, which CRIU cannot save: turn it off (GODEBUG=multipathtcp=0 for programs in Go)",
    "SCTP": "SCTP, which CRIU cannot save: use TCP",
    "AF_VSOCK": "a socket to the machine's host (vsock), which CRIU cannot save: use TCP or a Unix socket",
    "ALG": "the kernel's cryptography (AF_ALG), which CRIU cannot save: use that of a library",
    "XDP": "packets by AF_XDP, which CRIU cannot save: use sockets of UDP",
    "SMC": "SMC, which CRIU cannot save: use TCP",
    "RDS": "RDS, which CRIU cannot save: use TCP",
    "TIPC": "TIPC, which CRIU cannot save: use TCP",
}

_MOST: Final = 100_000
_SOCK_DIAG: Final = 20
_REQUEST: Final = struct.Struct("=BBHIIIII")
_ANSWER: Final = struct.Struct("=BBBBIII")
_ALL_STATES, _SHOW_PEER, _PEER = 0xFFFFFFFF, 4, 2
_NETLINK_SOCK_DIAG: Final = 4


def protocol_of(link: str) -> str:
    """Return what the kernel calls the protocol of a socket; empty for anything else, or where it does not say.

    Args:
        link: of a descriptor below /proc, which may mean something else at any moment.
    """
    try:
        pin = os.open(link, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        pinned = f"/proc/self/fd/{pin}"
        seen = syscalls.look(pinned)
        if not stat.S_ISSOCK(seen.mode) or seen.device != _device_of_sockets():
            return ""  # a file that only looks like a socket may be of a filesystem whose server is silent
        return os.getxattr(pinned, _NAME).rstrip(b"\0").decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(pin)


@functools.cache
def _device_of_sockets() -> tuple[int, int]:
    with socket.socket(socket.AF_UNIX) as one:
        device = os.fstat(one.fileno()).st_dev
    return os.major(device), os.minor(device)


def refusal(protocol: str) -> str:
    """Return why CRIU could not save a socket of that protocol, or nothing."""
    if not protocol or protocol in _SAVED:
        return ""
    known = _KINDS.get(protocol) or _KINDS.get(protocol.removesuffix("v6"))
    return f"uses {known or f'a socket of the kind {protocol}, which CRIU cannot save: close it before'}"


def out_of_reach(inodes: Iterable[int], launcher: Process) -> Iterator[int]:
    """Yield which Unix sockets of a job send datagrams to one of another network namespace, where CRIU fails.

    Args:
        inodes: of the job's sockets.
        launcher: of its capsule.
    """
    wanted = frozenset(inodes)
    if not wanted:
        return
    request = _REQUEST.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, 0, _SHOW_PEER, *(0xFFFFFFFF,) * 2)
    try:
        messages, _ = netlink.ask(launcher, _NETLINK_SOCK_DIAG, _SOCK_DIAG, request, most=_MOST)
    except CapsuleError:
        return  # CRIU has the last word
    here, towards = set(), {}
    for message in messages:
        _, kind, _, _, inode, *_ = _ANSWER.unpack_from(message)
        here.add(inode)
        peer = netlink.attributes(message, _ANSWER.size).get(_PEER)
        if inode in wanted and kind == socket.SOCK_DGRAM and peer:
            (towards[inode],) = struct.unpack("=I", peer)
    if len(messages) < _MOST:
        yield from (inode for inode, peer in towards.items() if peer and peer not in here)
