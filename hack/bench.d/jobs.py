"""The job that every benchmark saves: memory of one kind, a step every 10 ms, and pages that change on order.

It runs below a launcher in a plain capsule, as `crikpy run` starts it. Nothing here dumps or restores.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy import names, settings
from crikpy.aio.clock import Deadline
from crikpy.capsule import entering
from crikpy.capsule.launcher import LauncherConnection
from crikpy.capsule.making import CapsulePlan, PlainCapsule
from crikpy.model.capsule import Capsule

RANDOM, COMPRESSIBLE = "random", "compressible"
"""Memory that neither shrinks nor repeats, and memory that zstd shrinks to about a third."""

PROGRAM = Path(__file__).resolve().parent / "job.py"
_FILLS_S = 300.0


@dataclass(frozen=True)
class BenchJob:
    """A job that runs in a capsule.

    Attributes:
        capsule: where.
        root: its root process as the node sees it.
        root_inside: the same as the capsule sees it.
        beats: file to which it appends the monotonic time of each step.
        orders: folder in which it finds what to do to its memory.
    """

    capsule: Capsule
    root: int
    root_inside: int
    beats: Path
    orders: Path

    def dirty(self, share: float, *, scattered: bool = False) -> None:
        """Have it write a share of its memory anew, in one run of pages or here and there; wait for it."""
        order = self.orders / "dirty"
        fresh = order.with_suffix(".new")
        fresh.write_text(json.dumps({"share": share, "scattered": scattered}))
        fresh.rename(order)
        deadline = Deadline.after(_FILLS_S)
        while order.exists():
            deadline.check("waiting for the job to write its memory")
            time.sleep(0.01)


def await_step(beats: Path, before: int, deadline: Deadline) -> None:
    """Wait until a job has taken a step after its beats had so many bytes.

    What it wrote there tells nothing: CRIU has its monotonic clock go on from where it was dumped.
    """
    while beats.stat().st_size <= before:
        deadline.check("waiting for a step of the job")
        time.sleep(0.002)


def program(kind: str, gib: float, folder: Path) -> tuple[str, ...]:
    """Return the command line of a job that keeps its files below a folder."""
    return (sys.executable, str(PROGRAM), kind, str(int(gib * 1024)), str(folder))


@contextlib.contextmanager
def running(kind: str, gib: float, folder: Path) -> Iterator[BenchJob]:
    """Run a job whose files are below a folder, and end it."""
    here = settings.from_env(os.environ)
    own = folder / "job"
    own.mkdir()
    plan = CapsulePlan(
        launcher=here.criu.launcher,
        socket=folder / "run" / names.LAUNCHER_SOCKET,
        temporary=folder / "tmp",
        command=program(kind, gib, own),
        agent_wait_s=0,
    )
    made = PlainCapsule(plan, dict(os.environ))
    try:
        made.await_launcher()
        await_file(own / "ready")
        yield _found(plan.socket, own)
    finally:
        made.child.kill_tree()


def _found(socket: Path, own: Path) -> BenchJob:
    with LauncherConnection(socket, Deadline.after(10)) as launcher:
        capsule = Capsule(launcher_pid=launcher.launcher_pid, socket=socket)
        inside = launcher.status(Deadline.after(10)).job_pid
    root = next(pid for pid, inner in entering.members(capsule.launcher_pid).items() if inner == inside)
    return BenchJob(capsule, root, inside, own / "beats", own)


def await_file(path: Path) -> None:
    """Wait until a file is there."""
    deadline = Deadline.after(_FILLS_S)
    while not path.exists():
        deadline.check("waiting for the job's memory")
        time.sleep(0.05)
