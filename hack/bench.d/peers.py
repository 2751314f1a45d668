"""What a save and a restore take beside what one would put together: CRIU or runc, a folder on disk, a way to S3.

qawolf/crik itself is not among the rows: its module cannot be fetched from Go's proxy. What it does is the first
two: it has CRIU dump into a folder of a volume, and leaves the way to S3 to others.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import data
import jobs
import restoring
import rivals
import servers
from measuring import Cost, Table, cost_of, interleave, machine, publish, rows_of, runs_option

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy import settings
from crikpy.aio.clock import Deadline

OURS = "crikpy"


class Subject:
    """The ways to save and restore one kind of job, each with a job of its own."""

    def __init__(self, work: Path, kind: str, gib: float, server: servers.Server) -> None:
        self._disk = work / "disk"
        self._disk.mkdir()
        self._work, self._kind, self._gib, self._server = work, kind, gib, server
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def victim(self, make: Callable[..., rivals.Victim], tools: rivals.Tools) -> Iterator[rivals.Victim]:
        """Lend a job that steps."""
        own = self._work / f"job-{next(self._numbers)}"
        own.mkdir()
        python = os.path.realpath(sys.executable)
        command = (python, str(jobs.PROGRAM), self._kind, str(int(self._gib * 1024)), str(own))
        with rivals.lived(make(tools, command, own / "beats")) as victim:
            jobs.await_file(own / "ready")
            yield victim

    def save(self, victim: rivals.Victim, carrier: rivals.Carrier) -> Cost:
        """Save it on disk, then to a bucket of its own."""
        with self._folder() as folder, self._server.bucket(f"peers-{next(self._numbers)}") as bucket:

            def act() -> None:
                victim.dump(folder)
                carrier.upload(folder, bucket)

            cost = cost_of(act)
            return Cost(cost.wall_s, cost.cpu_s, {"disk MiB": _mib(folder)})

    def restore(self, victim: rivals.Victim, carrier: rivals.Carrier, bucket: str) -> Cost:
        """Bring it back from its bucket, until it takes a step, and end it."""
        with self._folder() as folder:
            before = victim.beats.stat().st_size

            def act() -> None:
                carrier.download(bucket, folder)
                victim.restore(folder)
                jobs.await_step(victim.beats, before, Deadline.after(data.LATE_S))

            try:
                cost = cost_of(act)
            finally:
                victim.end()
            return Cost(cost.wall_s, cost.cpu_s, {"disk MiB": _mib(folder)})

    @contextlib.contextmanager
    def saved(self, victim: rivals.Victim, carrier: rivals.Carrier) -> Iterator[str]:
        """Lend a bucket with a checkpoint of a job, which has ended."""
        with self._server.bucket(f"peers-{next(self._numbers)}") as bucket:
            with self._folder() as folder:
                victim.dump(folder)
                carrier.upload(folder, bucket)
            yield bucket

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        folder = self._disk / f"images-{next(self._numbers)}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def _mib(folder: Path) -> float:
    return sum(file.stat().st_blocks * 512 for file in folder.iterdir()) / 1024**2


def ways(tools: rivals.Tools) -> dict[str, tuple[Callable[..., rivals.Victim], rivals.Carrier]]:
    """Return how to save a job, by the names of the rows."""
    return {
        "criu, a folder, aws s3 cp": (rivals.Process, rivals.AwsCopy(tools)),
        "criu, a folder, rclone copy": (rivals.Process, rivals.RcloneCopy(tools)),
        "criu, a folder, tar, zstd, aws s3 cp": (rivals.Process, rivals.Archive(tools)),
        "runc, a folder, tar, zstd, aws s3 cp": (rivals.Container, rivals.Archive(tools)),
    }


def compare_saves(subject: Subject, tools: rivals.Tools, ours: data.Subject, runs: int) -> dict[str, list[Cost]]:
    """Save the jobs in turn and let them run on."""

    def by_us() -> Cost:
        with ours.place() as url:
            cost = ours.save(url)[0]
        return Cost(cost.wall_s, cost.cpu_s, {"disk MiB": 0.0})

    acts: dict[str, Callable[[], Cost]] = {OURS: by_us}
    with contextlib.ExitStack() as stack:
        made: dict[Callable[..., rivals.Victim], rivals.Victim] = {}
        for name, (make, carrier) in ways(tools).items():
            if make not in made:
                made[make] = stack.enter_context(subject.victim(make, tools))
            victim = made[make]
            acts[name] = lambda victim=victim, carrier=carrier: subject.save(victim, carrier)  # type: ignore[misc]
        return interleave(acts, runs)


def compare_restores(
    subject: Subject, tools: rivals.Tools, ours: restoring.Subject, runs: int
) -> dict[str, list[Cost]]:
    """Save each job once, end it, and bring the jobs back in turn."""
    acts: dict[str, Callable[[], Cost]] = {OURS: ours.ours}
    with contextlib.ExitStack() as stack:
        for name, (make, carrier) in ways(tools).items():
            victim = stack.enter_context(subject.victim(make, tools))
            bucket = stack.enter_context(subject.saved(victim, carrier))
            victim.end()
            acts[name] = (  # type: ignore[assignment]
                lambda victim=victim, carrier=carrier, bucket=bucket: subject.restore(victim, carrier, bucket)
            )
        found = interleave(acts, runs)
    return {
        name: [Cost(cost.wall_s, cost.cpu_s, {"disk MiB": cost.more.get("disk MiB", 0.0)}) for cost in costs]
        for name, costs in found.items()
    }


def run(server: servers.Server, kind: str, gib: float, work: Path, runs: int, wire: float) -> None:
    """Publish the two tables of a kind of job."""
    bundle = settings.from_env(os.environ).criu.bundle
    tools = rivals.obtain(work / "tools", bundle, server)
    subject = Subject(work, kind, gib, server)
    where = server.title + (f" behind {wire * 8 / 1e9:g} Gbit/s" if wire else "")

    def table(act: str, title: str, found: dict[str, list[Cost]]) -> Table:
        return Table(
            key=f"peers-{act}-{server.name}-{kind}-{gib:g}",
            title=f"{title} {gib:g} GiB of {kind} memory, {where}",
            command=f"hack/bench peers --server {server.name} --kind {kind} --gib {gib:g}",
            machine=machine(),
            rows=rows_of(found, OURS, gib=gib),
            base=OURS,
        )

    with jobs.running(kind, gib, work) as job:
        ours = data.Subject(job, server)
        # All clients sign what they send, as they do over plain HTTP unless told otherwise.
        ours.here = replace(ours.here, store=replace(ours.here.store, sign_bodies="http"))
        publish(table("save", "Saving", compare_saves(subject, tools, ours, runs)))
        kept = contextlib.ExitStack()
        url = kept.enter_context(ours.place())
        _, manifest = ours.save(url)
    with kept:
        resumed = restoring.Subject(ours.here, work, url, manifest)
        publish(table("restore", "Resuming", compare_restores(subject, tools, resumed, runs)))


def main() -> None:
    """Start servers, and compare on each."""
    parser = argparse.ArgumentParser(prog="hack/bench peers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gib", default="1", help="sizes of the job (default: %(default)s)")
    parser.add_argument("--kind", default=f"{jobs.RANDOM},{jobs.COMPRESSIBLE}", help="kinds of memory")
    parser.add_argument("--server", default=",".join(servers.NAMES), help="S3 servers (default: %(default)s)")
    parser.add_argument("--bytes-per-s", type=float, default=1.25e9, help="the wire of the server in memory")
    runs_option(parser)
    chosen = parser.parse_args()
    for name in chosen.server.split(","):
        wire = chosen.bytes_per_s if name == servers.MEMORY else 0
        for kind in chosen.kind.split(","):
            for gib in map(float, chosen.gib.split(",")):
                with tempfile.TemporaryDirectory(prefix="crikpy-bench-") as folder, data.pipes_of_a_node():
                    work = Path(folder)
                    with servers.server(name, work / "s3", bytes_per_s=wire) as server:
                        os.environ.update(server.environment())
                        run(server, kind, gib, work, chosen.runs, wire)


if __name__ == "__main__":
    main()
