"""Looks at the processes of a job through /proc, from the node; changes nothing.

Sources: proc_pid_status(5), proc_pid_fdinfo(5), proc_pid_maps(5). The job may be running: a process that ends
meanwhile is left out, except the root.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from crikpy.capsule import procfs, syscalls, terminals
from crikpy.capsule.beneath import stat_inside
from crikpy.capsule.buildids import read_build_id
from crikpy.capsule.mounts import read_mounts
from crikpy.capsule.preflight import Descriptor, Inode, LostName, Mapping, ProcessView, Survey, Watched, summarise
from crikpy.capsule.socketkinds import protocol_of
from crikpy.capsule.syscalls import Seen
from crikpy.errors import NoSuchJobError
from crikpy.model.manifest import ProcessFact

_DELETED = " (deleted)"
_WATCHING = frozenset({"anon_inode:inotify", "anon_inode:[fanotify]"})
_WATCH = re.compile(r"^(?:inotify wd:[0-9a-f]+|fanotify) ino:([0-9a-f]+) sdev:([0-9a-f]+) ", re.MULTILINE)
_MEMORY = ("/memfd:", "/SYSV", "/dev/zero (deleted)", "/anon_hugepage")
_MQUEUE_MAGIC = 0x19800202
_FLAGS = re.compile(r"^flags:\s*([0-7]+)$", re.MULTILINE)
_AREA = re.compile(r"([0-9a-f]+-[0-9a-f]+) (....) \S+ ([0-9a-f]+):([0-9a-f]+) (\d+) +(.*)", re.DOTALL)
_INODES = {
    stat.S_IFREG: Inode.REGULAR,
    stat.S_IFDIR: Inode.DIRECTORY,
    stat.S_IFCHR: Inode.CHARACTER,
    stat.S_IFBLK: Inode.BLOCK,
}


def survey(pids: Sequence[int]) -> Survey:
    """Look at the processes of a job.

    Args:
        pids: the processes as this process sees them, the root first.

    Raises:
        NoSuchJobError: the root is gone.
    """
    inside: dict[int, int] = {}
    known = _Known()
    views: list[ProcessView] = []
    for pid in pids:
        try:
            views.append(_view(pid, inside, known))
        except (FileNotFoundError, ProcessLookupError) as gone:
            if pid == pids[0]:
                raise NoSuchJobError(f"the job's root process {pid} has ended") from gone
    return summarise(views)


def alarmed(pids: Sequence[int]) -> tuple[int, ...]:
    """Return the PIDs inside of those processes that have not been told yet of an alarm that has gone off."""
    found = []
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = procfs.read_status(Path(f"/proc/{pid}"))
            if int(status["ShdPnd"], 16) & procfs.ALARM:
                found.append(_innermost(status["NSpid"]))
    return tuple(found)


def _view(pid: int, inside: dict[int, int], known: _Known) -> ProcessView:
    process = Path(f"/proc/{pid}")
    status = procfs.read_status(process)
    inside[pid] = _innermost(status["NSpid"])
    # The list of PIDs need not be in the order of descent; the parent of the root is the capsule's init.
    parent = int(status["PPid"])
    if parent and parent not in inside:
        with contextlib.suppress(OSError):
            inside[parent] = _innermost(procfs.read_status(Path(f"/proc/{parent}"))["NSpid"])
    fact = ProcessFact(
        pid=inside[pid],
        parent=inside.get(parent, 0),
        command=procfs.shown(status["Name"]),
        threads=int(status["Threads"]),
        resident_bytes=_kilobytes(status, "VmRSS"),
        anonymous_bytes=_kilobytes(status, "RssAnon"),
        file_bytes=_kilobytes(status, "RssFile"),
        shared_bytes=_kilobytes(status, "RssShmem"),
    )
    areas = procfs.read_lines(process / "maps")
    # The command's name, which may hold anything, ends with the last parenthesis.
    numbers = (process / "stat").read_bytes().rpartition(b")")[2].split()
    return ProcessView(
        fact=fact,
        state=status["State"][0],
        session=_innermost(status["NSsid"]),
        tracer=int(status["TracerPid"]),
        terminal=terminals.controlling(int(numbers[4])),
        namespaces=tuple(_links(process / "ns")),
        descriptors=tuple(_descriptors(process)),
        mappings=tuple(_mappings(process, areas, known)),
        areas_left=known.most_areas - len(areas),
        highest=max(_threads(process), default=fact.pid),
        outer=pid,
    )


def _innermost(ids: str) -> int:
    return int(ids.rsplit(maxsplit=1)[-1])


def _kilobytes(status: dict[str, str], name: str) -> int:
    return int(status.get(name, "0").removesuffix(" kB")) * 1024


def _threads(process: Path) -> Iterator[int]:
    for thread in (process / "task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield _innermost(procfs.read_status(thread)["NSpid"])


def _links(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield names and targets of links that may vanish meanwhile; a zombie has none."""
    folder = str(directory)
    with os.scandir(folder) as links:
        for link in links:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                yield link.name, os.readlink(f"{folder}/{link.name}")  # of which there may be tens of thousands


def _facts(path: str) -> str:
    with open(path, errors="surrogateescape") as file:  # noqa: PTH123  see _links
        return file.read()


def _descriptors(process: Path) -> Iterator[Descriptor]:
    folder = str(process)
    for name, target in sorted(_links(process / "fd"), key=lambda link: int(link[0])):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            link = f"{folder}/fd/{name}"
            status = syscalls.look(link)
            inode = _inode(link, target, status)
            master = inode is Inode.CHARACTER and status.node == terminals.MASTER
            telling = inode is Inode.REGULAR or master or target in _WATCHING or target.startswith("pipe:")
            facts = _facts(f"{folder}/fdinfo/{name}") if telling else ""
            found = _FLAGS.search(facts)
            flags = int(found[1], 8) if found else 0
            yield Descriptor(
                fd=int(name),
                target=target,
                inode=inode,
                device=status.node,
                path=_path(process, target, status),
                size=status.size if inode is Inode.REGULAR else 0,
                writable=flags & os.O_ACCMODE != os.O_RDONLY,
                protocol=protocol_of(link) if target.startswith("socket:[") else "",
                direct=bool(flags & os.O_DIRECT),
                master=terminals.master_of(facts) if master else None,
                ghost=_ghost(target, status),
                lost=_lost(process, target, status),
                watched=tuple(_watched(facts)) if target in _WATCHING else (),
            )


def _inode(link: str, target: str, status: Seen) -> Inode:
    found = _INODES.get(stat.S_IFMT(status.mode), Inode.OTHER)
    # A queue's name has no folder; only what could be one is asked, since a filesystem's server may be silent.
    if found is Inode.REGULAR and target.rfind("/") == 0 and syscalls.filesystem(link) == _MQUEUE_MAGIC:
        return Inode.QUEUE
    return found


def _ghost(target: str, status: Seen) -> int:
    """Return the bytes of a file without a name; memory that only looks like one travels whatever its size."""
    if status.links or not stat.S_ISREG(status.mode) or target.startswith(_MEMORY):
        return 0
    return status.occupied


def _watched(facts: str) -> Iterator[Watched]:
    """Yield what the lines of an inotify or fanotify name."""
    for inode, device in _WATCH.findall(facts):
        number = int(device, 16)  # as the kernel keeps it
        yield Watched(device=f"{number >> 20}:{number & 0xFFFFF}", inode=int(inode, 16))


def _lost(process: Path, target: str, status: Seen) -> LostName | None:
    if not stat.S_ISREG(status.mode) or not target.startswith("/") or not target.endswith(_DELETED):
        return None
    if not status.links or _path(process, target, status):
        return None
    return LostName(path=target.removesuffix(_DELETED), device=status.device, inode=status.inode)


class _Known:
    """What processes of one job have in common, so that a thousand of them are not asked for it one by one.

    Attributes:
        mapped: by filesystem, number, name and rights of a file that has its name.
        most_areas: how many mappings each may have.
    """

    def __init__(self) -> None:
        self.most_areas = int(Path("/proc/sys/vm/max_map_count").read_bytes())
        self.mapped: dict[tuple[str, ...], Mapping] = {}
        self._remote: dict[tuple[str, str], frozenset[str]] = {}

    def remote(self, process: Path) -> frozenset[str]:
        """Return the filesystems whose files other machines see."""
        try:
            view = (os.readlink(process / "ns/mnt"), os.readlink(process / "root"))
            if view not in self._remote:
                self._remote[view] = frozenset(mount.device for mount in read_mounts(process) if mount.network)
            return self._remote[view]
        except (NoSuchJobError, FileNotFoundError, ProcessLookupError):
            return frozenset()  # a zombie has neither mounts nor mapped files


def _mappings(process: Path, areas: Iterable[str], known: _Known) -> Iterator[Mapping]:
    """Yield the mapped files, each once for each way of mapping it."""
    remote = known.remote(process)
    seen: set[tuple[str, str]] = set()
    for line in areas:
        found = _AREA.fullmatch(line)
        if found is None or not found[3] or found[3].startswith("["):
            continue
        area, rights, major, minor, inode, name = found.groups()
        if (name, rights) in seen:
            continue
        seen.add((name, rights))
        file = (major, minor, inode, name, rights)
        mapping = known.mapped.get(file)
        if mapping is None:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                readable = rights[2] == "x" and f"{int(major, 16)}:{int(minor, 16)}" not in remote
                mapping = _mapping(process, area, rights, name, readable=readable)
                if not name.endswith(_DELETED):
                    known.mapped[file] = mapping
        if mapping is not None:
            yield mapping


def _mapping(process: Path, area: str, rights: str, name: str, *, readable: bool) -> Mapping:
    # The list pads addresses below 2^28, where programs lie that were linked for one place; the folder does not.
    link = process / "map_files" / "-".join(f"{int(end, 16):x}" for end in area.split("-"))
    if not stat.S_ISREG(syscalls.look(str(link)).mode) or name.startswith("/SYSV"):
        return Mapping(target=name)
    # A filesystem's server that is silent would keep us as long as it likes.
    status, target, build_id = _opened(link) if readable else (syscalls.look(str(link)), str(link.readlink()), "")
    path = _path(process, target, status)
    return Mapping(
        target=target,
        path=path,
        size=status.size if path else 0,
        shared=rights[1] == "w" and rights[3] == "s",
        build_id=build_id if path and rights[2] == "x" else "",
        ghost=_ghost(target, status),
        lost=_lost(process, target, status),
    )


def _opened(link: Path) -> tuple[Seen, str, str]:
    """Return what is mapped, its name and its build id; nothing that was put in its place is opened."""
    pinned = os.open(link, os.O_PATH | os.O_CLOEXEC)
    try:
        held = Path(f"/proc/self/fd/{pinned}")
        status = syscalls.look(str(held))
        # The list of mappings escapes newlines; the link does not.
        target = str(held.readlink())
        if not stat.S_ISREG(status.mode):
            return status, target, ""
        with held.open("rb", buffering=0) as file:
            return status, target, read_build_id(file.fileno())
    finally:
        os.close(pinned)


def _path(process: Path, target: str, status: Seen) -> str:
    """Return where a regular file lies inside the capsule; empty for one without a name."""
    if not stat.S_ISREG(status.mode) or not target.startswith("/") or not status.links:
        return ""
    if target.endswith(_DELETED):
        # Either this name is gone and another is left, or the file is really called so.
        try:
            named = stat_inside(process / "root", target)
        except OSError:
            return ""
        if (named.st_dev, named.st_ino) != (os.makedev(*status.device), status.inode):
            return ""
    return target
