"""Look at a job's processes from the node: what they are, what they have open, what CRIU could not save.

Interface used by crikpy.flows.checkpointing (the lead's draft; complete it, keep these names).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import psutil

from crikpy.capsule import entering
from crikpy.model.manifest import OpenFile, ProcessFact


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The job as it stands.

    Attributes:
        processes: every process of the tree.
        highest_pid: highest PID or thread id inside the capsule.
        files: regular files open or mapped, by their paths inside.
        written: paths of regular files that are open for writing.
    """

    processes: tuple[ProcessFact, ...]
    highest_pid: int
    files: tuple[OpenFile, ...]
    written: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """All that refusals are decided from."""

    root: int
    strays: tuple[int, ...] = ()


def view(launcher_pid: int, root: int) -> JobView:
    """Gather what `refusals` decides from; root is the job's root as the node sees it."""
    return JobView(root=root)


def refusals(job: JobView) -> tuple[str, ...]:
    """Return in the user's words what cannot be saved; empty when all can."""
    return ()


def stopped(launcher_pid: int) -> tuple[int, ...]:
    """Return the PIDs inside of the capsule's processes that a signal has stopped."""
    found = []
    for outer, inner in entering.members(launcher_pid).items():
        if Path(f"/proc/{outer}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            found.append(inner)
    return tuple(found)


def survey(launcher_pid: int, root: int) -> Survey:
    """Describe a job whose tree is stopped."""
    tree = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    processes, highest = [], 0
    written: set[str] = set()
    files: dict[str, int] = {}
    for process in tree:
        pid = process.pid
        inner = entering.inner_pid(pid)
        threads = [entering.inner_pid(int(task)) for task in os.listdir(f"/proc/{pid}/task")]
        highest = max(highest, inner, *threads)
        memory = process.memory_info()
        processes.append(
            ProcessFact(pid=inner, parent=0, command=process.name(), threads=len(threads), resident_bytes=memory.rss)
        )
        for fd in os.listdir(f"/proc/{pid}/fd"):
            link = f"/proc/{pid}/fd/{fd}"
            path = os.readlink(link)
            status = os.stat(link)
            if not path.startswith("/") or path.endswith(" (deleted)") or not stat.S_ISREG(status.st_mode):
                continue
            files[path] = status.st_size
            flags = next(
                int(line.split()[1], 8)
                for line in Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines()
                if line.startswith("flags:")
            )
            if flags & os.O_ACCMODE != os.O_RDONLY:
                written.add(path)
    return Survey(
        processes=tuple(processes),
        highest_pid=highest,
        files=tuple(OpenFile(path=path, size=size) for path, size in sorted(files.items())),
        written=tuple(sorted(written)),
    )
