"""How much a checkpoint of a job that runs on slows its neighbours down, and what the bounds are worth."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import data
import jobs
import servers
from measuring import Cost, Table, interleave, machine, publish, rows_of, runs_option

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy.aio.children import Child
from crikpy.aio.clock import Deadline
from crikpy.flows.members import CheckpointOrder, Member
from crikpy.flows.reporting import Silent
from crikpy.flows.saving import save
from crikpy.model.notices import Trigger
from crikpy.model.workload import Workload
from crikpy.settings import MIB
from crikpy.store.opening import open_store
from crikpy.store.pacing import Pace

KINDS = {"cores": "computes on every core", "memory": "copies memory on every core"}
ALONE_S = 3.0
CAP_BYTES_PER_S = 100 * MIB
STAGING_BYTES = 1200 * MIB
UNBOUND = "as for a job that has to go"
PROGRAM = Path(__file__).resolve().parent / "neighbour.py"


def rate(notes: Path, start: float, end: float) -> float:
    """Return how often per second the neighbour did its thing between two moments."""
    times = [float(line) for line in notes.read_text().splitlines() if line.count(".") == 1]
    return sum(start <= at < end for at in times) / (end - start)


def beside(subject: data.Subject, notes: Path, pace: Callable[[], Pace]) -> Cost:
    """Make a first checkpoint beside the neighbour; return how much of its rate it kept."""
    began = time.monotonic()
    time.sleep(ALONE_S)
    alone = rate(notes, began, time.monotonic())
    here = replace(subject.here, store=replace(subject.here.store, staging_bytes=STAGING_BYTES))
    with subject.place() as url:
        store = open_store(url, here.store)
        store.check()
        order = CheckpointOrder(
            trigger=Trigger.MANUAL, deadline=Deadline.after(data.LATE_S), leave_running=True, pace=pace()
        )
        workload = Workload(cluster="bench", namespace="bench", name="job")
        member = Member(capsule=subject.job.capsule, workload=workload)
        start = time.monotonic()
        with save([member], store, order, here, Silent()) as saved:
            end = time.monotonic()
            frozen_s = saved.manifests[0].frozen_s
        store.close()
    kept = rate(notes, start, end) / alone
    lost = (end - start) * (1 - kept)
    return Cost(end - start, 0, {"frozen s": frozen_s, "neighbour keeps": kept, "neighbour loses s": lost})


def compare(subject: data.Subject, kind: str, notes: Path, gib: float, runs: int) -> Table:
    """Run the bounds in turn."""
    paces: dict[str, Callable[[], Pace]] = {
        UNBOUND: lambda: Pace(0),
        "nice 10 once the job runs on (the default)": lambda: Pace(0, nice=10),
        "at most 100 MiB/s": lambda: Pace(CAP_BYTES_PER_S),
        "both": lambda: Pace(CAP_BYTES_PER_S, nice=10),
    }
    acts = {name: lambda pace=pace: beside(subject, notes, pace) for name, pace in paces.items()}
    return Table(
        key=f"interference-{kind}",
        title=f"A neighbour that {KINDS[kind]}, beside the first checkpoint of {gib:g} GiB of random memory",
        command="hack/bench interference",
        machine=machine(),
        rows=rows_of(interleave(acts, runs, warm=False), UNBOUND),
        base=UNBOUND,
    )


def main() -> None:
    """Start jobs and neighbours, and compare."""
    parser = argparse.ArgumentParser(
        prog="hack/bench interference", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--gib", type=float, default=1, help="size of the job (default: %(default)s)")
    runs_option(parser)
    chosen = parser.parse_args()
    for kind in KINDS:
        with tempfile.TemporaryDirectory(prefix="crikpy-bench-") as folder, data.pipes_of_a_node():
            work = Path(folder)
            notes = work / "notes"
            with (
                servers.server(servers.MEMORY, work / "s3", discard=True) as server,
                jobs.running(jobs.RANDOM, chosen.gib, work) as job,
            ):
                os.environ.update(server.environment())
                with Child((sys.executable, str(PROGRAM), kind, str(notes))) as neighbour:
                    time.sleep(1)
                    try:
                        publish(compare(data.Subject(job, server), kind, notes, chosen.gib, chosen.runs))
                    finally:
                        neighbour.kill_tree()


if __name__ == "__main__":
    main()
