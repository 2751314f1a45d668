"""How long a job that runs on stands still: until it is stored, or read, or read into memory of its own."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import data
import jobs
import servers
from measuring import Cost, Table, cost_of, interleave, machine, publish, rows_of, runs_option

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy.aio.clock import Deadline
from crikpy.flows.members import CheckpointOrder, Member, OrderedGate
from crikpy.flows.reporting import Silent
from crikpy.flows.saving import save
from crikpy.model.notices import Trigger
from crikpy.model.workload import Workload
from crikpy.settings import MIB
from crikpy.store.opening import open_store

STOPPED = "stopped until it is stored"


class Closed(OrderedGate):
    """A gate that lets nobody through, as for a job that is to end."""

    def opens(self, abandon: Callable[[str], None]) -> bool:
        """Say no."""
        return False


def first(subject: data.Subject, *, staging_gib: float, closed: bool) -> Cost:
    """Make the first checkpoint of a workload, and let the job run on early or late."""
    staging = int(staging_gib * 1024) * MIB
    here = replace(subject.here, store=replace(subject.here.store, staging_bytes=staging))
    with subject.place() as url:
        store = open_store(url, here.store)
        store.check()
        order = CheckpointOrder(trigger=Trigger.MANUAL, deadline=Deadline.after(data.LATE_S), leave_running=True)
        workload = Workload(cluster="bench", namespace="bench", name="job")
        member = Member(capsule=subject.job.capsule, workload=workload)
        frozen: list[float] = []

        def act() -> None:
            gate = Closed(order) if closed else OrderedGate(order)
            with save([member], store, order, here, Silent(), gate=gate) as saved:
                frozen.append(saved.manifests[0].frozen_s)

        data.forget_peak()
        cost = cost_of(act)
        store.close()
    return Cost(cost.wall_s, cost.cpu_s, {"frozen s": frozen[0], "peak MiB": data.peak_mib()})


def compare(subject: data.Subject, gib: float, wire: float, runs: int) -> Table:
    """Run the rows in turn."""
    acts = {
        STOPPED: lambda: first(subject, staging_gib=0, closed=True),
        "runs on once it is read": lambda: first(subject, staging_gib=0, closed=False),
        "the same, with memory for a quarter of it": lambda: first(subject, staging_gib=gib / 4, closed=False),
        "the same, with memory for all of it": lambda: first(subject, staging_gib=gib + 0.1, closed=False),
    }
    where = subject.server.title + (f" behind {wire * 8 / 1e9:g} Gbit/s" if wire else "")
    return Table(
        key=f"thawing-{subject.server.name}-{gib:g}",
        title=f"Checkpoint of {gib:g} GiB of random memory that is left running, to {where}",
        command=f"hack/bench thawing --server {subject.server.name} --gib {gib:g} --bytes-per-s {wire:g}",
        machine=machine(),
        rows=rows_of(interleave(acts, runs, warm=False), STOPPED, gib=gib),
        base=STOPPED,
    )


def main() -> None:
    """Start jobs and compare."""
    parser = argparse.ArgumentParser(prog="hack/bench thawing", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gib", default="1,4", help="sizes of the job (default: %(default)s)")
    parser.add_argument("--server", default=servers.MEMORY, help="S3 servers (default: %(default)s)")
    parser.add_argument("--bytes-per-s", type=float, default=312.5e6, help="the wire of the server in memory")
    runs_option(parser)
    chosen = parser.parse_args()
    for name in chosen.server.split(","):
        wire = chosen.bytes_per_s if name == servers.MEMORY else 0
        for gib in map(float, chosen.gib.split(",")):
            with tempfile.TemporaryDirectory(prefix="crikpy-bench-") as folder, data.pipes_of_a_node():
                work = Path(folder)
                with (
                    servers.server(name, work / "s3", bytes_per_s=wire, discard=True) as server,
                    jobs.running(jobs.RANDOM, gib, work) as job,
                ):
                    os.environ.update(server.environment())
                    publish(compare(data.Subject(job, server), gib, wire, chosen.runs))


if __name__ == "__main__":
    main()
