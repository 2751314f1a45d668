"""What a restore costs beside its two bounds: the download of the chunks, and CRIU's own restore out of memory.

The job is saved once and ended. Each row then brings it back into a fresh capsule, whose launcher waits already as
it does in a new pod, and ends it again.
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
from dataclasses import replace
from pathlib import Path
from statistics import median

import obstore.store

import data
import jobs
import servers
from measuring import Cost, Table, cost_of, have_memory, interleave, machine, publish, rows_of, runs_option

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy import names, settings
from crikpy.aio.clock import Deadline
from crikpy.capsule import entering, stdio
from crikpy.capsule.launcher import LauncherConnection
from crikpy.capsule.making import CapsulePlan, PlainCapsule
from crikpy.criu.argv import InheritedPipe
from crikpy.criu.running import Criu
from crikpy.flows.members import Member
from crikpy.flows.reporting import Silent
from crikpy.flows.restoring import Waiting, restore
from crikpy.model.capsule import Capsule
from crikpy.model.manifest import Manifest
from crikpy.model.workload import Workload
from crikpy.store.chunks import CHUNK_BYTES
from crikpy.store.layout import chunk_key, claim_key
from crikpy.store.opening import open_store
from crikpy.store.reading import ChunkReader
from crikpy.store.records import Claim

ONLY_DOWNLOAD = "download of the chunks, thrown away"
ONLY_CRIU = "criu restore --stream, out of memory"
OURS = "crikpy, to the job's first step"
WORKLOAD = Workload(cluster="bench", namespace="bench", name="job")
_THREADS = 8


class Held:
    """Images in memory (crikpy.model.streams.ImageSource), all of them there from the beginning."""

    def __init__(self, images: dict[str, bytearray]) -> None:
        self._images = images
        self._ready = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def size(self, name: str) -> int | None:
        """Return an image's length."""
        return len(self._images[name]) if name in self._images else None

    def piece(self, name: str, offset: int) -> memoryview | None:
        """Return as much of an image as a chunk holds."""
        return memoryview(self._images[name])[offset : offset + CHUNK_BYTES]

    def ready(self) -> int:
        """Return a descriptor that never becomes readable: nobody waits."""
        return self._ready

    def acknowledge(self) -> None:
        """Do nothing."""


class Subject:
    """A checkpoint in a server, and the acts that are compared on it."""

    def __init__(self, here: settings.Settings, folder: Path, url: str, manifest: Manifest) -> None:
        self._here = here
        self._folder = folder
        self._manifest = manifest
        self._beats = folder / "job" / "beats"
        self._store = open_store(url, here.store)
        self._store.check()
        self._url = url
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def vacancy(self) -> Iterator[Waiting]:
        """Lend a capsule whose launcher is held."""
        socket = self._folder / f"run-{next(self._numbers)}" / names.LAUNCHER_SOCKET
        plan = CapsulePlan(
            launcher=self._here.criu.launcher,
            socket=socket,
            temporary=self._folder / "tmp",
            command=self._manifest.job.command or ("true",),
            agent_wait_s=600,
        )
        made = PlainCapsule(plan, dict(os.environ))
        try:
            made.await_launcher()
            with LauncherConnection(socket, Deadline.after(10)) as launcher:
                launcher.hold(Deadline.after(10))
                capsule = Capsule(launcher_pid=launcher.launcher_pid, socket=socket)
                member = Member(capsule=capsule, workload=WORKLOAD)
                have_memory(self._manifest.sizes.image_bytes)
                yield Waiting(member=member, launcher=launcher, manifest=self._manifest)
        finally:
            made.child.kill_tree()

    def only_download(self, server: servers.Server) -> Cost:
        """Fetch every chunk that a restore needs, by the client that costs least."""
        bucket, _, prefix = self._url.removeprefix("s3://").partition("/")
        client = obstore.store.S3Store(
            bucket,
            endpoint=server.endpoint,
            region="us-east-1",
            access_key_id=server.access_key,
            secret_access_key=server.secret_key,
            client_options={"allow_http": True, "timeout": "120s"},
        )
        chunks = {extent.chunk for image in self._manifest.job_images for extent in image.extents if extent.chunk}
        keys = [f"{prefix}/{chunk_key(WORKLOAD, chunk)}" for chunk in chunks]
        with ThreadPoolExecutor(_THREADS) as threads:
            return cost_of(
                lambda: list(threads.map(lambda key: len(memoryview(client.get(key).bytes())), keys)) and None
            )

    def only_criu(self) -> Cost:
        """Have CRIU make the tree of images that are in memory already."""
        images = {}
        deadline = Deadline.after(data.LATE_S)
        with ChunkReader(
            self._store, WORKLOAD, self._manifest.job_images, settings=self._here.store, deadline=deadline
        ) as reader:
            for image in self._manifest.job_images:
                images[image.name] = bytearray(image.size)
                with reader.file(image.name) as file:
                    left = memoryview(images[image.name])
                    while count := file.readinto(left):
                        left = left[count:]
        with self.vacancy() as waiting:
            pid, job = waiting.launcher.launcher_pid, self._manifest.job
            entering.raise_last_pid(pid, entering.clear_last_pid(job.highest_pid + 64), deadline)
            replacements = stdio.open_replacements(pid, job.stdio)
            pipes = [InheritedPipe(descriptor=number, identity=identity) for number, identity in replacements]
            criu = Criu(self._here.criu)
            entry = entering.restore_entry(pid)
            try:
                return cost_of(lambda: criu.restore(entry, Held(images), pipes, deadline, may_use_tiles=job.tiles))
            finally:
                for number, _ in replacements:
                    os.close(number)

    def ours(self) -> Cost:
        """Restore by crikpy, until the job takes a step."""
        self._store.delete(claim_key(WORKLOAD, self._manifest.checkpoint))
        deadline = Deadline.after(data.LATE_S)
        with self.vacancy() as waiting:
            data.forget_peak()
            before = self._beats.stat().st_size

            def act() -> None:
                restore([waiting], self._store, Claim.ours(), deadline, self._here, Silent())
                jobs.await_step(self._beats, before, deadline)

            cost = cost_of(act)
        return replace(cost, more={"peak MiB": data.peak_mib()})


def compare(server: servers.Server, kind: str, gib: float, work: Path, runs: int, wire: float) -> Table:
    """Save a job, end it, and run the rows in turn."""
    with contextlib.ExitStack() as stack:
        with jobs.running(kind, gib, work) as job:
            saver = data.Subject(job, server)
            url = stack.enter_context(saver.place())
            _, manifest = saver.save(url)
        subject = Subject(saver.here, work, url, manifest)
        acts = {
            ONLY_DOWNLOAD: lambda: subject.only_download(server),
            ONLY_CRIU: subject.only_criu,
            OURS: subject.ours,
        }
        found = interleave(acts, runs, warm=False)
    slower = max(ONLY_DOWNLOAD, ONLY_CRIU, key=lambda name: median(cost.wall_s for cost in found[name]))
    where = server.title + (f" behind {wire * 8 / 1e9:g} Gbit/s" if wire else "")
    return Table(
        key=f"restore-{server.name}-{kind}-{gib:g}",
        title=f"Restore of {gib:g} GiB of {kind} memory from {where}",
        command=f"hack/bench restoring --server {server.name} --kind {kind} --gib {gib:g}"
        + (f" --bytes-per-s {wire:g}" if wire else ""),
        machine=machine(),
        rows=rows_of(found, slower, gib=gib),
        base=slower,
    )


def main() -> None:
    """Start jobs and compare."""
    parser = argparse.ArgumentParser(prog="hack/bench restoring", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gib", default="1,4", help="sizes of the job (default: %(default)s)")
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
                        publish(compare(server, kind, gib, work, chosen.runs, wire))


if __name__ == "__main__":
    main()
