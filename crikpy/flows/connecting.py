"""Which TCP connections of a job go on after a move: those of which it holds both ends.

At the dump what is on its way in them is stored beside CRIU's images; at the restore they are told from all
others, which are cut. What cannot be kept is cut, and never keeps a job from moving.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator, Sequence

from crikpy.capsule.connections import read_ends
from crikpy.criu import tcpstreams
from crikpy.model.network import End, InternetSocket, TcpState
from crikpy.store.writing import ChunkWriter

_MOST_PAIRS = 10_000
"""Each costs some tenth of a millisecond, for which the job stands still."""


def is_connection(found: InternetSocket) -> bool:
    """Say whether a socket is one end of a TCP connection, or asks for one."""
    return found.protocol == socket.IPPROTO_TCP and found.destination.port != 0


def pairs(sockets: Sequence[InternetSocket]) -> Iterator[tuple[InternetSocket, InternetSocket]]:
    """Yield the two ends of each connection that begins and ends in these sockets."""
    waiting: dict[tuple[End, End], InternetSocket] = {}
    for each in sockets:
        if not is_connection(each) or each.state != TcpState.ESTABLISHED:
            continue
        other = waiting.pop((each.destination, each.source), None)
        if other is None:
            waiting[each.source, each.destination] = each
        else:
            yield other, each


def store_connections(sockets: Sequence[InternetSocket], pids: Sequence[int], writer: ChunkWriter) -> None:
    """Store what is on its way in a job's connections with itself.

    Args:
        sockets: those of the job.
        pids: its processes, all stopped, as this process sees them.
        writer: takes the images.

    Raises:
        CrikpyError: the store failed.
    """
    inodes = [(one.inode, other.inode) for one, other in pairs(sockets)][:_MOST_PAIRS]
    for one, other in read_ends(pids, inodes):
        for end, its_other in ((one, other), (other, one)):
            with writer.file(tcpstreams.image_name(end.inode)) as image:
                image.write(tcpstreams.image_of(end, its_other))


def kept(sockets: Sequence[InternetSocket], images: Collection[str], addresses: Collection[str]) -> frozenset[int]:
    """Return the inodes of the ends of all connections that go on in a new container.

    Args:
        sockets: those of the job, with addresses of the new container.
        images: names of the images of the checkpoint.
        addresses: those of the new container, without loopback's.
    """
    return frozenset(
        end.inode
        for pair in pairs(sockets)
        if all(tcpstreams.image_name(end.inode) in images and _is_here(end, addresses) for end in pair)
        for end in pair
    )


def _is_here(end: InternetSocket, addresses: Collection[str]) -> bool:
    return end.source.address in addresses or _is_loopback(end.source.address)


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"
