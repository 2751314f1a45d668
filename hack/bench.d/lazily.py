"""What a lazy restore would bring: CRIU's own, out of a folder in memory, beside its plain one.

A job resumed lazily runs before its memory is there, and each page that it touches first has to be asked for. This
is a bound: from a store each page, or run of pages, would come over the network, too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jobs
import rivals
from measuring import Cost, Table, cost_of, interleave, machine, publish, rows_of, runs_option

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy import settings
from crikpy.aio.clock import Deadline

PLAIN, LAZY = "criu restore", "criu restore --lazy-pages"
_LATE_S = 300.0


class Subject:
    """A job that was dumped into a folder and has ended."""

    def __init__(self, tools: rivals.Tools, work: Path, gib: float) -> None:
        self._tools = tools
        self._own = work / "job"
        self._own.mkdir()
        self._images = work / "images"
        self._images.mkdir()
        command = (os.path.realpath(sys.executable), str(jobs.PROGRAM), jobs.RANDOM, str(int(gib * 1024)))
        self.victim = rivals.Process(tools, (*command, str(self._own)), self._own / "beats")
        jobs.await_file(self._own / "ready")
        self.victim.dump(self._images)
        self.victim.end()

    def plain(self) -> Cost:
        """Bring it back with all of its memory."""
        cost = cost_of(lambda: self._first_step(lazy=False))
        return self._used(cost, time.monotonic() - cost.wall_s)

    def lazy(self) -> Cost:
        """Bring it back without, while another process of CRIU gives it page by page, and the rest besides."""
        options = (f"--images-dir={self._images}", f"--work-dir={self._tools.folder}", "--no-default-config")
        began = time.monotonic()
        with subprocess.Popen(
            ["criu", "lazy-pages", *options, "--log-file=lazy.log"],
            cwd=self._tools.folder,
            env=self._tools.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as pages:
            try:
                jobs.await_file(self._tools.folder / "lazy-pages.socket")
                cost = cost_of(lambda: self._first_step(lazy=True))
                first_s = time.monotonic() - began
                return self._used(Cost(first_s, cost.cpu_s), began)
            finally:
                pages.kill()
                (self._tools.folder / "lazy-pages.socket").unlink(missing_ok=True)

    def _first_step(self, *, lazy: bool) -> None:
        before = self.victim.beats.stat().st_size
        self.victim.restore(self._images, *(["--lazy-pages"] if lazy else []))
        jobs.await_step(self.victim.beats, before, Deadline.after(_LATE_S))

    def _used(self, cost: Cost, began: float) -> Cost:
        """Have it read of each page once, as a training does in every step or few, and end it."""
        try:
            order = self._own / "touch"
            order.touch()
            deadline = Deadline.after(_LATE_S)
            while order.exists():
                deadline.check("waiting for the job to touch its memory")
                time.sleep(0.005)
            return Cost(cost.wall_s, cost.cpu_s, {"s until all is used once": time.monotonic() - began})
        finally:
            self.victim.end()


def compare(gib: float, runs: int) -> Table:
    """Restore a job in either way."""
    with tempfile.TemporaryDirectory(prefix="crikpy-bench-", dir="/dev/shm") as folder:
        work = Path(folder)
        tools = rivals.criu_alone(work / "tools", settings.from_env(os.environ).criu.bundle)
        subject = Subject(tools, work, gib)
        return Table(
            key=f"lazy-{gib:g}",
            title=f"CRIU's restore of {gib:g} GiB of random memory from a folder in memory, to the first step",
            command=f"hack/bench lazily --gib {gib:g}",
            machine=machine(),
            rows=rows_of(interleave({PLAIN: subject.plain, LAZY: subject.lazy}, runs), PLAIN),
            base=PLAIN,
        )


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(prog="hack/bench lazily", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gib", type=float, default=1, help="size of the memory (default: %(default)s)")
    runs_option(parser)
    chosen = parser.parse_args()
    publish(compare(chosen.gib, chosen.runs))


if __name__ == "__main__":
    main()
