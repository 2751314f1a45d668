"""What a checkpoint costs beside its two bounds: CRIU's own dump, and the upload of the same bytes.

Each row stops the same job, whose memory is random and so neither shrinks nor repeats, and lets it run on. The
store is a directory in memory, so that no disk and no server stands between the rows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import Cost, cost_of, interleave, report

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy import names, settings
from crikpy.aio.clock import Deadline
from crikpy.capsule import entering
from crikpy.capsule.launcher import LauncherConnection
from crikpy.capsule.making import CapsulePlan, PlainCapsule
from crikpy.criu.quieting import stop_tree
from crikpy.criu.running import Criu
from crikpy.flows.checkpointing import checkpoint
from crikpy.flows.members import CheckpointOrder, Member
from crikpy.flows.reporting import Silent
from crikpy.flows.stopping import Inhabitants
from crikpy.model.capsule import Capsule
from crikpy.model.notices import Trigger
from crikpy.model.workload import Workload
from crikpy.store.opening import open_store

GIB = float(os.environ.get("BENCH_GIB", "1"))
JOB = f"""
import os, sys, time
memory = bytearray()
for _ in range(int({GIB} * 64)):
    memory += os.urandom(16 << 20)
open(sys.argv[1], "w").close()
while True:
    time.sleep(1)
"""


class Nowhere:
    """A sink that throws images away."""

    def __init__(self) -> None:
        self._memory = memoryview(bytearray(1 << 20))

    def open(self, name: str) -> Nowhere:
        """Begin an image."""
        return self

    def buffer(self) -> memoryview:
        """Lend the one buffer."""
        return self._memory

    def advance(self, count: int) -> None:
        """Forget what was written."""

    def close(self) -> None:
        """End an image."""


def main() -> None:
    """Start a job and compare."""
    here = settings.from_env(os.environ)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        work = Path(folder)
        plan = CapsulePlan(
            launcher=here.criu.launcher,
            socket=work / "run" / names.LAUNCHER_SOCKET,
            temporary=work / "tmp",
            command=(sys.executable, "-c", JOB, str(work / "tmp" / "ready")),
            agent_wait_s=0,
        )
        made = PlainCapsule(plan, dict(os.environ))
        try:
            made.await_launcher()
            await_file(work / "tmp" / "ready")
            compare(here, Path(memory), plan.socket)
        finally:
            made.child.kill_tree()


def await_file(path: Path) -> None:
    """Wait until the job has its memory."""
    deadline = Deadline.after(120)
    while not path.exists():
        deadline.check("waiting for the job's memory")
        time.sleep(0.1)


def compare(here: settings.Settings, work: Path, socket: Path) -> None:
    """Run the rows."""
    with LauncherConnection(socket, Deadline.after(10)) as launcher:
        capsule = Capsule(launcher_pid=launcher.launcher_pid, socket=socket)
        root = launcher.status(Deadline.after(10)).job_pid
    outer = next(pid for pid, inner in entering.members(capsule.launcher_pid).items() if inner == root)
    number = iter(range(1000))

    def only_criu() -> Cost:
        def act() -> None:
            entry = entering.dump_entry(capsule.launcher_pid)
            stop_tree(outer, Deadline.after(120))
            Criu(here.criu).dump(entry, root, Nowhere(), Deadline.after(120))

        try:
            return cost_of(act)
        finally:
            with Inhabitants(capsule.launcher_pid) as inhabitants:
                inhabitants.let_go(but=())

    def whole(fresh: bool) -> Cost:
        store = open_store(str(work / "store"), here.store)
        workload = Workload(cluster="bench", namespace="bench", name=f"job-{next(number)}" if fresh else "again")
        order = CheckpointOrder(trigger=Trigger.MANUAL, deadline=Deadline.after(120), leave_running=True)
        member = Member(capsule=capsule, workload=workload)
        cost = cost_of(lambda: checkpoint(member, store, order, here, Silent()) and None)
        if fresh:
            subprocess.run(["rm", "-rf", str(work / "store" / "bench" / "bench" / workload.name)], check=True)
        return cost

    acts = {
        "criu dump --stream, thrown away": only_criu,
        "crikpy, first checkpoint": lambda: whole(True),
        "crikpy, again, nothing changed": lambda: whole(False),
    }
    found = interleave(acts, 5)
    title = f"checkpoint of {GIB:g} GiB of random memory, left running"
    report(title, found, GIB, "criu dump --stream, thrown away")


main()
