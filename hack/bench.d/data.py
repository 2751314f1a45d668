"""What a checkpoint costs beside its two bounds: CRIU's own dump, and the upload of the same bytes.

Each row stops the same job, and lets it run on. `the slower bound` is the larger of the two bounds' medians:
nothing that stores a dump can be quicker.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import obstore.store

import jobs
import servers
from measuring import Cost, Table, cost_of, interleave, machine, publish, rows_of, runs_option

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy import settings
from crikpy.aio.clock import Deadline
from crikpy.capsule import entering
from crikpy.criu.quieting import stop_tree
from crikpy.criu.running import Criu
from crikpy.criu.streaming import PIPE_BYTES
from crikpy.flows.checkpointing import checkpoint
from crikpy.flows.members import CheckpointOrder, Member
from crikpy.flows.reporting import Silent
from crikpy.flows.stopping import Inhabitants
from crikpy.model.manifest import Manifest
from crikpy.model.notices import Trigger
from crikpy.model.workload import Workload
from crikpy.store.opening import open_store

ONLY_CRIU = "criu dump --stream, thrown away"
ONLY_UPLOAD = "upload of the stored bytes"
FIRST = "crikpy, first checkpoint"
AGAIN = "crikpy, again, nothing changed"
LATE_S = 900.0
_UPLOADS = 8
_MOST_KEPT_GIB = 2
"""Of a larger job the server in memory keeps nothing, since the job has the machine's memory."""

_CHUNK_BYTES = 8 * 1024 * 1024


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


class Subject:
    """A job and a server, and the acts that are compared on them."""

    def __init__(self, job: jobs.BenchJob, server: servers.Server) -> None:
        self.job = job
        self.server = server
        self.here = settings.from_env({**os.environ, **server.environment()})
        self.stored_bytes = 0
        self._number = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[str]:
        """Lend a fresh place in the server, as a URL."""
        self._number += 1
        with self.server.bucket(f"bench-{self._number}") as bucket:
            yield f"s3://{bucket}/here"

    def only_criu(self) -> Cost:
        """Dump into nothing."""

        def act() -> None:
            entry = entering.dump_entry(self.job.capsule.launcher_pid)
            stop_tree(self.job.root, Deadline.after(LATE_S))
            Criu(self.here.criu).dump(entry, self.job.root_inside, Nowhere(), Deadline.after(LATE_S))

        try:
            return cost_of(act)
        finally:
            with Inhabitants(self.job.capsule.launcher_pid) as inhabitants:
                inhabitants.let_go(but=())

    def only_upload(self) -> Cost:
        """Upload as many bytes as the first checkpoint stored, by the client that costs least."""
        whole, rest = divmod(self.stored_bytes, _CHUNK_BYTES)
        parts = [_CHUNK_BYTES] * whole + [rest]
        memory = memoryview(os.urandom(_CHUNK_BYTES))
        with self.server.bucket("bench-raw") as bucket:
            client = obstore.store.S3Store(
                bucket,
                endpoint=self.server.endpoint,
                region="us-east-1",
                access_key_id=self.server.access_key,
                secret_access_key=self.server.secret_key,
                unsigned_payload=True,
                client_options={"allow_http": True, "timeout": "120s"},
            )

            def put(number: int) -> None:
                client.put(f"part-{number}", memory[: parts[number]], use_multipart=False)

            with ThreadPoolExecutor(_UPLOADS) as threads:
                return cost_of(lambda: list(threads.map(put, range(len(parts)))) and None)

    def save(self, url: str, name: str = "job") -> tuple[Cost, Manifest]:
        """Make a checkpoint and let the job run on."""
        store = open_store(url, self.here.store)
        workload = Workload(cluster="bench", namespace="bench", name=name)
        order = CheckpointOrder(trigger=Trigger.MANUAL, deadline=Deadline.after(LATE_S), leave_running=True)
        member = Member(capsule=self.job.capsule, workload=workload)
        found: list[Manifest] = []
        store.check()  # as an agent does at its start
        self.server.requests()
        forget_peak()
        try:
            cost = cost_of(lambda: found.append(checkpoint(member, store, order, self.here, Silent())))
        finally:
            store.close()
        sizes = found[0].sizes
        more = {
            "frozen s": found[0].frozen_s,
            "stored MiB": sizes.stored_bytes / 1024**2,
            "peak MiB": peak_mib(),
        }
        if requests := sum(self.server.requests().values()):
            more["requests/GiB"] = requests / (sizes.image_bytes / 1024**3)
        return Cost(cost.wall_s, cost.cpu_s, more), found[0]

    def first(self) -> Cost:
        """Make the first checkpoint of a workload."""
        with self.place() as url:
            cost, manifest = self.save(url)
        self.stored_bytes = manifest.sizes.stored_bytes
        return cost


def forget_peak() -> None:
    """Begin anew to note the most memory that this process has (proc_pid_clear_refs(5))."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    """Return the most memory that this process has had since then."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024


@contextlib.contextmanager
def pipes_of_a_node() -> Iterator[None]:
    """Let pipes be as large as an agent's may be, which has CAP_SYS_RESOURCE, where this process may say so."""
    limit = Path("/proc/sys/fs/pipe-max-size")
    before = limit.read_text()
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            limit.write_text(str(PIPE_BYTES[0]))
            stack.callback(limit.write_text, before)
        yield


def compare(subject: Subject, kind: str, gib: float, wire: float, runs: int) -> Table:
    """Run the rows in turn."""
    subject.first()
    with subject.place() as kept:
        subject.save(kept)
        acts = {
            ONLY_CRIU: subject.only_criu,
            ONLY_UPLOAD: subject.only_upload,
            FIRST: subject.first,
        }
        if not subject.server.discards:
            acts[AGAIN] = lambda: subject.save(kept)[0]
        found = interleave(acts, runs, warm=False)
    slower = max(ONLY_CRIU, ONLY_UPLOAD, key=lambda name: median(cost.wall_s for cost in found[name]))
    name = subject.server.name
    return Table(
        key=f"data-{'wire' if wire else name}-{kind}-{gib:g}",
        title=f"Checkpoint of {gib:g} GiB of {kind} memory, left running, to {subject.server.title}"
        + (f" behind {wire * 8 / 1e9:g} Gbit/s" if wire else ""),
        command=f"hack/bench data --server {name} --kind {kind} --gib {gib:g} --bytes-per-s {wire:g}",
        machine=machine(),
        rows=rows_of(found, slower, gib=gib),
        base=slower,
    )


def main() -> None:
    """Start jobs and compare."""
    parser = argparse.ArgumentParser(prog="hack/bench data", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gib", default="1,4,8", help="sizes of the job (default: %(default)s)")
    parser.add_argument("--kind", default=f"{jobs.RANDOM},{jobs.COMPRESSIBLE}", help="kinds of memory")
    parser.add_argument("--server", default=",".join(servers.NAMES), help="S3 servers (default: %(default)s)")
    parser.add_argument("--bytes-per-s", default="0,1.25e9", help="wires of the server in memory; 0 is no bound")
    runs_option(parser)
    chosen = parser.parse_args()
    with pipes_of_a_node():
        run(chosen)


def run(chosen: argparse.Namespace) -> None:
    """Run every combination that was chosen."""
    for name in chosen.server.split(","):
        wires = map(float, chosen.bytes_per_s.split(",") if name == servers.MEMORY else "0")
        for wire, kind, gib in itertools.product(wires, chosen.kind.split(","), map(float, chosen.gib.split(","))):
            with tempfile.TemporaryDirectory(prefix="crikpy-bench-") as folder:
                work = Path(folder)
                discard = name == servers.MEMORY and gib > _MOST_KEPT_GIB
                with (
                    servers.server(name, work / "s3", bytes_per_s=wire, discard=discard) as server,
                    jobs.running(kind, gib, work) as job,
                ):
                    os.environ.update(server.environment())
                    publish(compare(Subject(job, server), kind, gib, wire, chosen.runs))


if __name__ == "__main__":
    main()
