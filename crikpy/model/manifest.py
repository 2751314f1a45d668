"""What a checkpoint consists of, as its manifest records it.

docs/formats.md is the authority for the bytes; these records only name its fields. They hold facts, never
secrets: of the job's memory only hashes and sizes appear here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from crikpy.model.network import Network

_INDEX = "index/"

PROCESS_MODE = "process"
APPLICATION_MODE = "application"
"""How a job was saved: by CRIU, or by itself, so that the checkpoint holds files alone."""


class Extent(NamedTuple):
    """A run of an image's bytes: `length` bytes at `offset` of a chunk's plain bytes; chunk None means zeros."""

    chunk: str | None
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """One stream of bytes of a checkpoint: an image of CRIU or an archive of files.

    Attributes:
        name: CRIU's file name (`pages-1.img`), `files/<n>.tar` for an archive of ours, or `index/<image>` for what
            later checkpoints need to know of another image's pages, and a restore does not.
        size: length in bytes, the sum of the extents' lengths.
        extents: the bytes in order.
    """

    name: str
    size: int
    extents: tuple[Extent, ...]


def index_name(image: str) -> str:
    """Return the name of an image's index."""
    return _INDEX + image


def is_index(image: str) -> bool:
    """Say whether an image of that name is an index."""
    return image.startswith(_INDEX)


@dataclass(frozen=True, slots=True, kw_only=True)
class StdioEnd:
    """What one of the job's standard descriptors was at the dump.

    Attributes:
        fd: 0, 1 or 2.
        target: the link that /proc/<pid>/fd/<n> showed, such as `pipe:[4711]` or `/dev/null`.
    """

    fd: int
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFile:
    """A regular file that the job has open or mapped and that the checkpoint does not carry.

    Attributes:
        path: as seen inside the capsule.
        size: bytes at the dump; CRIU refuses a file of another size.
        build_id: GNU build id in hex of a mapped ELF file, or empty.
    """

    path: str
    size: int
    build_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileArchive:
    """Where the files of one archive go.

    Attributes:
        image: name of the StoredImage that holds the archive.
        kind: `overlay` (changes of the root), `tree` (a whole directory) or `files` (single files).
        root: the path inside the capsule that the archive's names are relative to.
        entries: number of members.
    """

    image: str
    kind: str
    root: str
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """The GPUs that a capsule sees, and their driver.

    Attributes:
        driver: the driver's version, `570.124.06`; empty where there is none, and for jobs that use no GPU.
        models: names of the GPUs' models, in the order of their bus addresses.
        uuids: their UUIDs in the same order, `GPU-…`; empty text for one that the driver does not tell.
        on_node: how many GPUs the whole machine has.
    """

    driver: str = ""
    models: tuple[str, ...] = ()
    uuids: tuple[str, ...] = ()
    on_node: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compatibility:
    """Facts of the dump's machine that the restore's machine must match.

    Attributes:
        architecture: `uname -m`.
        page_size: bytes.
        kernel: `uname -r`.
        criu: version of CRIU, `4.2.1`.
        cpu_model: for messages only.
        cpu_features: flags of /proc/cpuinfo that user space can use, sorted.
        image: digest of the container's image, or empty on a plain machine.
        gpus: those that the job uses; empty when it uses none.
    """

    architecture: str
    page_size: int
    kernel: str
    criu: str
    cpu_model: str
    cpu_features: tuple[str, ...]
    image: str = ""
    gpus: GpuFacts = field(default_factory=GpuFacts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFact:
    """One process of the job, for `crikpy show`.

    Attributes:
        pid: inside the capsule.
        parent: its parent's PID inside the capsule.
        command: the program's short name.
        threads: number of threads.
        resident_bytes: resident memory.
        anonymous_bytes: resident anonymous memory.
        file_bytes: resident memory that files back.
        shared_bytes: resident shared memory.
    """

    pid: int
    parent: int
    command: str
    threads: int
    resident_bytes: int
    anonymous_bytes: int = 0
    file_bytes: int = 0
    shared_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where and why the checkpoint was taken.

    Attributes:
        host: host name.
        instance: EC2 instance id, or empty.
        boot_id: /proc/sys/kernel/random/boot_id.
        trigger: word of crikpy.model.notices.Trigger.
        notice: id of the interruption notice, or empty.
        pod: `namespace/name` of the pod, or empty.
        pod_uid: its UID, or empty.
        together: names of the workloads, this one among them, whose jobs were saved as one; empty for a job alone.
        group: name of the group of pods that was saved as one, or empty.
        set: id of that group's set, without which the checkpoint does not count; empty likewise.
        trace: traceparent (W3C) of the rescue that it is part of; empty where nobody traces.
    """

    host: str
    instance: str
    boot_id: str
    trigger: str
    notice: str = ""
    pod: str = ""
    pod_uid: str = ""
    together: tuple[str, ...] = ()
    group: str = ""
    set: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The processes of a checkpoint.

    Attributes:
        command: the command line that `crikpy run` was given; informative only.
        root_pid: PID of the root process inside the capsule.
        highest_pid: highest PID or thread id in use, so that later children stay clear of it.
        processes: every process.
        stdio: the root's standard descriptors.
        stopped: PIDs that were stopped by a signal before the dump and must stay so.
        tiles: it may have asked for AMX's tile registers, so that its restore asks for them too.
        apparmor: AppArmor profile of the root process, or empty.
        container_apparmor: that of its launcher, and so of all that its container starts.
        cuda: PIDs of processes whose GPU memory is in their own, to be given back before they can go on.
        alarmed: PIDs with a SIGALRM that was pending when the dump was over.
        lost_sessions: children of the root are in sessions whose leaders have ended.
    """

    command: tuple[str, ...]
    root_pid: int
    highest_pid: int
    processes: tuple[ProcessFact, ...]
    stdio: tuple[StdioEnd, ...]
    stopped: tuple[int, ...] = ()
    tiles: bool = False
    apparmor: str = ""
    container_apparmor: str = ""
    cuda: tuple[int, ...] = ()
    alarmed: tuple[int, ...] = ()
    lost_sessions: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large the checkpoint is, in bytes.

    Attributes:
        image_bytes: plain bytes of all images.
        zero_bytes: of these, zeros that are not stored.
        reused_bytes: of these, bytes in chunks that an earlier checkpoint had stored.
        stored_bytes: bytes newly written to the store.
        chunks: number of chunks newly written.
    """

    image_bytes: int
    zero_bytes: int
    reused_bytes: int
    stored_bytes: int
    chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The whole of a checkpoint; its presence in the store is the checkpoint's completeness.

    Attributes:
        format: version of the format, checked before anything else is read.
        checkpoint: the checkpoint's id.
        workload: the workload that it belongs to.
        created: RFC 3339 time in UTC of the commit.
        release: version of crikpy that wrote it.
        origin: where and why.
        job: the processes.
        compatibility: what the restore's machine must match.
        images: every image and archive.
        archives: what the archives hold.
        open_files: files that must be on the restore's machine already.
        own_files: files that the job has open and that every container has for itself.
        network: what of its container's network the job uses.
        sizes: how large it is.
        frozen_s: seconds between the first stopped process and the commit, as far as known then.
        mode: how it was saved.
    """

    format: int
    checkpoint: str
    workload: str
    created: str
    release: str
    origin: Origin
    job: Job
    compatibility: Compatibility
    images: tuple[StoredImage, ...]
    archives: tuple[FileArchive, ...] = ()
    open_files: tuple[OpenFile, ...] = ()
    own_files: tuple[str, ...] = ()
    network: Network = field(default_factory=Network)
    sizes: Sizes = field(
        default_factory=lambda: Sizes(image_bytes=0, zero_bytes=0, reused_bytes=0, stored_bytes=0, chunks=0)
    )
    frozen_s: float = 0.0
    mode: str = PROCESS_MODE

    @property
    def job_images(self) -> tuple[StoredImage, ...]:
        """Return the images that a restore needs."""
        return tuple(image for image in self.images if not is_index(image.name))
