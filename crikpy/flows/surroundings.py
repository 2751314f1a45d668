"""What of its container a job depends on, and how its images come to say what is so in another one.

At the dump it is recorded; before the claim it is compared; at the restore CRIU is given the image of open files
with the new container's addresses. Nothing here opens a file or a socket of a job, nor changes the store.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from crikpy.capsule.addresses import read_addresses, read_interfaces, successors
from crikpy.capsule.holding import Process
from crikpy.capsule.mounts import Mount
from crikpy.capsule.ownfiles import Counterparts, is_own
from crikpy.capsule.procfs import is_text
from crikpy.criu import openfiles, tcpstreams
from crikpy.criu.openfiles import NamedFile
from crikpy.criu.substituting import SubstitutedSource
from crikpy.errors import CriuError
from crikpy.flows.connecting import is_connection, kept
from crikpy.model.manifest import Manifest, OpenFile
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
    bound = {each.source.address for each in sockets if each.source.port and not is_connection(each)}
    return Network(
        addresses=addresses,
        bound=tuple(sorted(bound & own)),
        devices=tuple(sorted({each.device for each in sockets if each.device})),
        ipv6=any(each.family == socket.AF_INET6 for each in sockets),
    )


def own_files(files: Sequence[OpenFile], mounts: Sequence[Mount]) -> tuple[str, ...]:
    """Return which of a job's files are its container's own."""
    return tuple(file.path for file in files if is_text(file.path) and is_own(file.path, mounts))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """A checkpoint's images as they fit the container that the job is to go on in.

    Attributes:
        source: gives them.
        kept: inodes of the sockets of connections that go on; all others are cut.
    """

    source: ImageSource
    kept: frozenset[int]


def adapted(manifest: Manifest, reader: ChunkReader, launcher: Process, *, cut: bool = False) -> Adapted:
    """Make a checkpoint's images fit a container.

    Args:
        manifest: the checkpoint.
        reader: gives its images.
        launcher: of the container.
        cut: cut connections that could be kept, too.

    Raises:
        CriuError: the checkpoint's image of open files cannot be read.
        CrikpyError: it cannot be had.
    """
    size = reader.size(openfiles.FILES_IMAGE)
    if size is None:
        return Adapted(source=reader, kept=frozenset())
    if size > _MOST_BYTES:
        raise CriuError(f"the checkpoint's image of open files has {size} bytes, more than can be read")
    here = read_addresses(launcher)
    moved = {old: new for old, new in successors(manifest.network.addresses, here).items() if new is not None}
    processes = [process.pid for process in manifest.job.processes]
    counterparts = Counterparts(launcher, manifest.own_files, processes)
    removed = openfiles.REMOVED_IMAGE
    image = openfiles.rewritten(
        _read(reader, openfiles.FILES_IMAGE),
        partial(_moved_socket, moved),
        partial(_moved_file, counterparts),
        openfiles.removed_files(_read(reader, removed)) if reader.size(removed) else (),
    )
    images = {each.name for each in manifest.images} if not cut else frozenset[str]()
    keeping = kept(openfiles.sockets(image), images, {each.address for each in here})
    replaced = {openfiles.FILES_IMAGE: image}
    if keeping:
        replaced[openfiles.FILES_IMAGE] = openfiles.rewritten(image, partial(_ended, keeping), _same_file)
        inventory = tcpstreams.INVENTORY_IMAGE
        replaced[inventory] = tcpstreams.keeping_inventory(_read(reader, inventory))
    return Adapted(source=SubstitutedSource(reader, replaced), kept=keeping)


def _read(reader: ChunkReader, image: str) -> bytes:
    with reader.file(image) as file:
        return file.read()


def _same_file(file: NamedFile) -> NamedFile:
    return file


def _moved_file(counterparts: Counterparts, found: NamedFile) -> NamedFile:
    # CRIU names files relative to the root.
    path = counterparts.of(f"/{found.name.lstrip('/')}", directory=found.directory, removed=found.removed)
    if path is None:
        return found
    return replace(found, name=path if found.name.startswith("/") else path.lstrip("/"), checked=False)


def _ended(keeping: frozenset[int], found: InternetSocket) -> InternetSocket | None:
    """Return what becomes of a socket where CRIU closes none by itself."""
    return None if is_connection(found) and found.inode not in keeping else found


def _moved_socket(moved: Mapping[str, str], found: InternetSocket) -> InternetSocket:
    return replace(found, source=_moved(found.source, moved), destination=_moved(found.destination, moved))


def _moved(end: End, moved: Mapping[str, str]) -> End:
    return replace(end, address=moved.get(end.address, end.address))


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return True
