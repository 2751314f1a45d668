"""What a second checkpoint costs after a job has changed some of its memory, in one run or here and there."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import data
import jobs
import servers
from measuring import Cost, Table, machine, publish, rows_of, runs_option

FIRST = "first checkpoint"
DIRTY = 0.05


def compare(subject: data.Subject, kind: str, gib: float, runs: int) -> Table:
    """Save, change, save again, so many times."""
    found: dict[str, list[Cost]] = {
        FIRST: [],
        "again, nothing changed": [],
        "again, 5 % changed in one run": [],
        "again, 5 % of the pages changed": [],
    }
    changes = (None, 0.0, DIRTY, DIRTY)
    for number in range(runs + 1):
        with subject.place() as url:
            for scattered, (name, share) in enumerate(zip(found, changes, strict=True)):
                if share:
                    subject.job.dirty(share, scattered=scattered == len(found) - 1)
                cost = subject.save(url)[0]
                dirty = (share or 0) * gib * 1024
                stored = cost.more["stored MiB"]
                more = {**cost.more, "stored/dirty": stored / dirty} if dirty else cost.more
                if number:
                    found[name].append(Cost(cost.wall_s, cost.cpu_s, more))
    return Table(
        key=f"repeat-{subject.server.name}-{kind}-{gib:g}",
        title=f"Second checkpoint of {gib:g} GiB of {kind} memory to {subject.server.title}",
        command=f"hack/bench repeating --server {subject.server.name} --kind {kind} --gib {gib:g}",
        machine=machine(),
        rows=rows_of(found, FIRST, gib=gib),
        base=FIRST,
    )


def main() -> None:
    """Start jobs and compare."""
    parser = argparse.ArgumentParser(prog="hack/bench repeating", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gib", default="1", help="sizes of the job (default: %(default)s)")
    parser.add_argument("--kind", default=jobs.RANDOM, help="kinds of memory (default: %(default)s)")
    parser.add_argument("--server", default=servers.SEAWEEDFS, help="S3 servers (default: %(default)s)")
    runs_option(parser)
    chosen = parser.parse_args()
    for name in chosen.server.split(","):
        for kind in chosen.kind.split(","):
            for gib in map(float, chosen.gib.split(",")):
                with tempfile.TemporaryDirectory(prefix="crikpy-bench-") as folder:
                    work = Path(folder)
                    with servers.server(name, work / "s3") as server, jobs.running(kind, gib, work) as job:
                        os.environ.update(server.environment())
                        publish(compare(data.Subject(job, server), kind, gib, chosen.runs))


if __name__ == "__main__":
    main()
