"""Says before a dump what CRIU could not save, in the words of those who run the job.

Pure decisions over views of processes; surveying.py gathers them from /proc. A refusal costs nothing: the job
runs on untouched. What is not known here to fail is left to CRIU, which has the last word.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from crikpy.capsule import socketkinds, terminals
from crikpy.capsule.procfs import shown
from crikpy.model.manifest import OpenFile, ProcessFact, StdioEnd
from crikpy.settings import MIB

_SAVABLE_DEVICES = frozenset({(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)})
"""null, zero, full, random, urandom."""

_UNSAVABLE_KERNEL_OBJECTS = {
    "io_uring": "io_uring",
    "perf_event": "performance counters",
    "userfaultfd": "userfaultfd",
    "bpf-prog": "a BPF program",
    "bpf_link": "a BPF link",
    "seccomp notify": "a seccomp listener",
    "landlock-ruleset": "a Landlock rule set",
    "kvm-vm": "a virtual machine",
    "kvm-vcpu": "a virtual machine",
}

_DEVICES = {
    "/dev/infiniband/": "RDMA",
    "/dev/net/tun": "a network interface of its own making (TUN or TAP)",
    "/dev/kvm": "virtual machines",
    "/dev/vfio/": "hardware of its own",
    "/dev/fuse": "a filesystem that it serves (FUSE)",
    "/dev/vhost-": "a virtual machine's devices",
}

_AREAS_FOR_CRIU = 16
"""What CRIU maps into a process, to read it from within, and what it splits for that."""

_NAMESPACES = {
    "mnt": "mount",
    "net": "network",
    "pid": "PID",
    "pid_for_children": "PID",
    "ipc": "IPC",
    "user": "user",
    "uts": "host name",
    "cgroup": "cgroup",
    "time": "time",
    "time_for_children": "time",
}


class Inode(StrEnum):
    """What a descriptor leads to."""

    REGULAR = "regular"
    DIRECTORY = "directory"
    QUEUE = "queue"
    CHARACTER = "character"
    BLOCK = "block"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class LostName:
    """A regular file that has lost the name by which it was opened, and has another.

    Attributes:
        path: the lost name.
        device: major and minor number of its filesystem.
        inode: its number there.
    """

    path: str
    device: tuple[int, int]
    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A file or directory that inotify or fanotify watches.

    Attributes:
        device: `major:minor` of its filesystem.
        inode: its number there.
    """

    device: str
    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """One open file of a process.

    Attributes:
        fd: its number.
        target: the link that /proc/<pid>/fd/<n> shows.
        inode: what it leads to.
        device: major and minor number of a device node.
        path: path inside the capsule of a regular file that still has it; empty otherwise.
        size: bytes of a regular file.
        writable: whether it is open for writing.
        protocol: of a socket, as the kernel calls it.
        direct: whether it was opened with O_DIRECT, which for a pipe is packet mode.
        master: number of the pseudo-terminal whose master it is; None for all else.
        ghost: bytes that a file takes up which was deleted while open; 0 for all others.
        lost: of a file that has lost this name, and has another.
        watched: by an inotify or fanotify.
    """

    fd: int
    target: str
    inode: Inode
    device: tuple[int, int] = (0, 0)
    path: str = ""
    size: int = 0
    writable: bool = False
    protocol: str = ""
    direct: bool = False
    master: int | None = None
    ghost: int = 0
    lost: LostName | None = None
    watched: tuple[Watched, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """One file that a process has mapped.

    Attributes:
        target: the name that /proc/<pid>/maps shows.
        path: path inside the capsule of a regular file that still has it; empty otherwise.
        size: bytes of a regular file.
        shared: whether writes to the memory go to the file.
        build_id: GNU build id in hex of an ELF file mapped to be run, or empty.
        ghost: bytes that a file takes up which was deleted while mapped; 0 for all others.
        lost: of a file that has lost this name, and has another.
    """

    target: str
    path: str = ""
    size: int = 0
    shared: bool = False
    build_id: str = ""
    ghost: int = 0
    lost: LostName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessView:
    """What preflight knows of one process; all PIDs as inside the capsule.

    Attributes:
        fact: what the manifest records.
        state: letter of proc_pid_stat(5): R, S, D, T, t, Z.
        session: PID of its session's leader, 0 when the leader is outside.
        tracer: PID of who traces it, on the node; 0 for nobody.
        terminal: number of its controlling terminal; None without one.
        namespaces: identity of each namespace by the name in /proc/<pid>/ns.
        descriptors: its open files.
        mappings: its mapped files.
        highest: highest PID or thread id of it.
        areas_left: how many more mappings the kernel would let it have.
        outer: its PID on the node.
    """

    fact: ProcessFact
    state: str = "S"
    session: int = 0
    tracer: int = 0
    terminal: int | None = None
    namespaces: tuple[tuple[str, str], ...] = ()
    descriptors: tuple[Descriptor, ...] = ()
    mappings: tuple[Mapping, ...] = ()
    highest: int = 0
    areas_left: int = _AREAS_FOR_CRIU
    outer: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a look at the job's processes showed.

    Attributes:
        views: every process, the root first.
        written: paths inside the capsule of regular files open for writing, or mapped so, sorted.
        files: regular files open or mapped, sorted by path.
        stdio: the root's standard descriptors.
        processes: every process.
        highest_pid: highest PID or thread id in use.
        stopped: processes that a signal stopped.
        lost_sessions: whether children of the root are in sessions whose leaders have ended.
        attaches_system_v: whether there is System V shared memory among what is mapped.
        lost: files open or mapped that have lost the name by which they were.
        watched: what inotify and fanotify watch.
    """

    views: tuple[ProcessView, ...]
    written: tuple[str, ...]
    files: tuple[OpenFile, ...]
    stdio: tuple[StdioEnd, ...]
    processes: tuple[ProcessFact, ...]
    highest_pid: int
    stopped: tuple[int, ...]
    lost_sessions: bool = False
    attaches_system_v: bool = False
    lost: frozenset[LostName] = frozenset()
    watched: frozenset[Watched] = frozenset()


def summarise(views: Sequence[ProcessView]) -> Survey:
    """Draw together what the views of the processes say, the root first."""
    files: dict[str, OpenFile] = {}
    for view in views:
        for descriptor in view.descriptors:
            if descriptor.path:
                files.setdefault(descriptor.path, OpenFile(path=descriptor.path, size=descriptor.size))
    for view in views:
        for mapping in view.mappings:
            known = files.get(mapping.path)
            if mapping.path and (known is None or not known.build_id):
                files[mapping.path] = OpenFile(path=mapping.path, size=mapping.size, build_id=mapping.build_id)
    written = {found.path for view in views for found in view.descriptors if found.writable and found.path}
    written |= {found.path for view in views for found in view.mappings if found.shared and found.path}
    return Survey(
        views=tuple(views),
        written=tuple(sorted(written)),
        files=tuple(files[path] for path in sorted(files)),
        stdio=tuple(
            StdioEnd(fd=found.fd, target=shown(found.target))
            for view in views[:1]
            for found in sorted(view.descriptors, key=lambda descriptor: descriptor.fd)
            if found.fd <= 2
        ),
        processes=tuple(view.fact for view in views),
        highest_pid=max((view.highest for view in views), default=0),
        stopped=tuple(view.fact.pid for view in views if view.state == "T"),
        lost_sessions=not {view.session for view in views} <= {view.fact.pid for view in views},
        lost=frozenset(
            lost
            for view in views
            for lost in (
                *(found.lost for found in view.descriptors),
                *(found.lost for found in view.mappings),
            )
            if lost is not None
        ),
        watched=frozenset(one for view in views for found in view.descriptors for one in found.watched),
        attaches_system_v=any(found.target.startswith("/SYSV") for view in views for found in view.mappings),
    )


def refusals(views: Sequence[ProcessView], *, ghost_limit_bytes: int = sys.maxsize) -> tuple[str, ...]:
    """Return why CRIU cannot save these processes, a sentence for each program and reason; empty when it may.

    Args:
        views: every process of the job, the root first.
        ghost_limit_bytes: what a file may take up that was deleted while open; without it as much as it likes.
    """
    sessions = {view.fact.pid: view.session for view in views}
    held = {found.master for view in views for found in view.descriptors if found.master is not None}
    found: dict[tuple[str, str], dict[int, None]] = {}
    for view in views:
        for reason in (
            *_of_the_process(view, views[0], sessions),
            *_of_its_terminals(view, held),
            *_of_its_namespaces(view, views[0]),
            *(why for descriptor in view.descriptors if (why := _of_a_descriptor(descriptor))),
            *(why for mapping in view.mappings if (why := _of_a_mapping(mapping))),
            *_of_ghosts(view, ghost_limit_bytes),
        ):
            found.setdefault((view.fact.command, reason), {})[view.fact.pid] = None
    return tuple(f"{command} ({_pids(list(pids))}) {reason}" for (command, reason), pids in found.items())


def _pids(pids: Sequence[int]) -> str:
    return f"PID {pids[0]}" + (f" and {len(pids) - 1} more" if pids[1:] else "")


def _of_the_process(view: ProcessView, root: ProcessView, sessions: dict[int, int]) -> list[str]:
    reasons = []
    if view.tracer:
        reasons.append("is traced by a debugger: detach the debugger")
    if not _session_can_be_made(view, root, sessions):
        reasons.append("belongs to a session whose leader has ended: let the leader wait for its children")
    if view.areas_left < _AREAS_FOR_CRIU and view.state != "Z":
        reasons.append("has as many mappings as the kernel permits: raise vm.max_map_count on the node")
    if view.state == "Z" and view.fact.threads > 1:
        reasons.append("has ended its main thread but not its others: let the main thread wait for them")
    return reasons


def _of_its_terminals(view: ProcessView, held: Collection[int]) -> Iterator[str]:
    if why := terminals.refusal_of_controlling(view.terminal, held):
        yield why
    for found in view.descriptors:
        target = shown(found.target)
        is_one = found.inode is Inode.CHARACTER and terminals.is_terminal(target)
        if is_one and (why := terminals.refusal(target, found.master, held)):
            yield why


def _session_can_be_made(view: ProcessView, root: ProcessView, sessions: dict[int, int]) -> bool:
    """Say whether CRIU finds who leads the session, or has somebody lead it whose children are the root's."""
    if view.session in sessions:
        return True
    parent = view.fact.parent  # one that is not known has just ended, and its children are the root's by now
    of_root = parent == root.fact.pid or parent not in sessions
    return view.session != 0 and view is not root and (of_root or sessions[parent] == view.session)


def _of_its_namespaces(view: ProcessView, root: ProcessView) -> list[str]:
    outer = dict(root.namespaces)
    inner = sorted(
        {
            _NAMESPACES[kind]
            for kind, identity in view.namespaces
            if kind in _NAMESPACES and identity != outer.get(kind.removesuffix("_for_children"), identity)
        }
    )
    return [of_a_sandbox("is", inner)] if inner else []


def of_a_sandbox(who: str, kinds: Sequence[str]) -> str:
    """Say that what is in namespaces of its own cannot be saved, and what to do about it."""
    which = f"a {kinds[0]} namespace" if len(kinds) == 1 else f"{', '.join(kinds[:-1])} and {kinds[-1]} namespaces"
    return (
        f"{who} in {which} of its own, which CRIU cannot save: run it without that sandbox (--no-sandbox, bwrap)"
    )


def _of_a_descriptor(descriptor: Descriptor) -> str:
    target = shown(descriptor.target)
    if descriptor.protocol:
        return socketkinds.refusal(descriptor.protocol)
    if target.startswith("anon_inode:"):
        return _of_a_kernel_object(target)
    if descriptor.inode is Inode.QUEUE:
        return (
            f"uses the POSIX message queue {target}, which CRIU cannot save: use one of System V, or a Unix socket"
        )
    if descriptor.direct and target.startswith("pipe:"):
        return "uses a pipe in packet mode (O_DIRECT), which CRIU cannot save: use a Unix socket (SOCK_SEQPACKET)"
    if descriptor.inode not in {Inode.CHARACTER, Inode.BLOCK}:
        return ""
    if terminals.is_terminal(target):
        return ""  # _of_its_terminals knows
    if descriptor.inode is Inode.CHARACTER and descriptor.device in _SAVABLE_DEVICES:
        return ""
    return _of_a_device(target)


def _of_ghosts(view: ProcessView, limit_bytes: int) -> Iterator[str]:
    """Yield a reason for each deleted file that is too large to travel in CRIU's images."""
    ghosts = {
        **{found.target: found.ghost for found in view.descriptors},
        **{found.target: found.ghost for found in view.mappings},
    }
    for target, size in ghosts.items():
        if size > limit_bytes:
            yield (
                f"holds {shown(target)} open, of {size // MIB} MiB; without a name {limit_bytes // MIB} MiB at "
                "most can be saved: close it, keep its name, or raise CRIKPY_CRIU_GHOST_LIMIT_BYTES"
            )


def _of_a_mapping(mapping: Mapping) -> str:
    target = mapping.target
    if target.startswith("anon_inode:"):
        return _of_a_kernel_object(target)
    return ""


def _of_a_kernel_object(target: str) -> str:
    word = target.removeprefix("anon_inode:").strip("[]")
    if word == "io_uring":
        return "uses io_uring: turn it off (UV_USE_IO_URING=0 for libuv), or use epoll"
    kind = _UNSAVABLE_KERNEL_OBJECTS.get(word)
    return f"uses {kind}, which CRIU cannot save: turn it off" if kind else ""


def _of_a_device(target: str) -> str:
    if target.startswith("/dev/nvidia"):
        return ""  # accelerators.py knows
    if target.startswith(("/dev/dri/", "/dev/kfd")):
        return f"uses a GPU ({target}), of which only NVIDIA's can be saved: run it on one of these, or on the CPU"
    kind = next((kind for start, kind in _DEVICES.items() if target.startswith(start)), "")
    if kind:
        return f"uses {kind} ({target}), which CRIU cannot save: do without it"
    return f"has the device {target} open, which CRIU cannot save: close it before"
