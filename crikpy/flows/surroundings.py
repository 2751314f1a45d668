"""What of its container a job depends on, and how its images come to say what is so in another one.

At the dump it is recorded; before the claim it is compared; at the restore CRIU is given the image of open files
with the new container's addresses. Nothing here opens a file or a socket of a job, nor changes the store.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from crikpy.capsule.addresses import read_addresses, read_interfaces, successors
from crikpy.capsule.holding import Process
from crikpy.criu import openfiles
from crikpy.criu.openfiles import NamedFile
from crikpy.criu.substituting import SubstitutedSource
from crikpy.errors import CriuError
from crikpy.model.manifest import Manifest
from crikpy.model.network import End, InternetSocket, Network
from crikpy.model.streams import ImageSource
from crikpy.store.reading import ChunkReader

_MOST_BYTES = 256 * 1024 * 1024
"""Of the image of open files, which is read into memory: a hundred bytes for each."""


def network_of(launcher: Process, sockets: Sequence[InternetSocket]) -> Network:
    """Return what a dumped job has to do with its container's network.

    Raises:
        CapsuleError: the addresses cannot be read.
    """
    if not sockets:
        return Network()
    addresses = read_addresses(launcher)
    own = {each.address for each in addresses}
    bound = {each.source.address for each in sockets if each.source.port and not _is_connection(each)}
    return Network(
        addresses=addresses,
        bound=tuple(sorted(bound & own)),
        devices=tuple(sorted({each.device for each in sockets if each.device})),
        ipv6=any(each.family == socket.AF_INET6 for each in sockets),
    )


def network_differences(network: Network, launcher: Process) -> Iterator[str]:
    """Yield what a job needs of its network and does not find in a container.

    Raises:
        CapsuleError: the container's network cannot be looked at.
    """
    if network.ipv6 and not _has_ipv6():
        yield "the job has IPv6 sockets, this machine has no IPv6"
    if network.devices:
        here = read_interfaces(launcher)
        for device in network.devices:
            if device not in here:
                yield f"a socket of the job is bound to the interface {device}, which is not here"
    if network.bound:
        replaced = successors(network.addresses, read_addresses(launcher))
        for address in network.bound:
            if replaced.get(address, address) is None:
                family = "IPv6" if ":" in address else "IPv4"
                yield f"a socket of the job is bound to {address}, and no {family} address here can take its place"


def adapted(manifest: Manifest, reader: ChunkReader, launcher: Process) -> ImageSource:
    """Return a source of a checkpoint's images that fit the container that the job is to go on in.

    Raises:
        CriuError: the checkpoint's image of open files cannot be read.
        CrikpyError: it cannot be had.
    """
    size = reader.size(openfiles.FILES_IMAGE)
    if size is None:
        return reader
    if size > _MOST_BYTES:
        raise CriuError(f"the checkpoint's image of open files has {size} bytes, more than can be read")
    network = manifest.network
    replaced = successors(network.addresses, read_addresses(launcher)) if network.addresses else {}
    moved = {old: new for old, new in replaced.items() if new is not None}
    with reader.file(openfiles.FILES_IMAGE) as file:
        image = file.read()
    files = openfiles.rewritten(image, partial(_moved_socket, moved), _same_file)
    return SubstitutedSource(reader, {openfiles.FILES_IMAGE: files})


def _same_file(file: NamedFile) -> NamedFile:
    return file


def _moved_socket(moved: Mapping[str, str], found: InternetSocket) -> InternetSocket:
    if _is_connection(found):
        return found  # CRIU closes it, and binds it to nothing
    return replace(found, source=_moved(found.source, moved), destination=_moved(found.destination, moved))


def _moved(end: End, moved: Mapping[str, str]) -> End:
    return replace(end, address=moved.get(end.address, end.address))


def _is_connection(found: InternetSocket) -> bool:
    return found.protocol == socket.IPPROTO_TCP and found.destination.port != 0


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return True
