"""What else could let a job run on while it is saved: the kernel's ways to keep or to tell what it writes.

Each is measured on a process of its own by writes.py, so these are bounds: none of them is what CRIU can do with
a job today. With `--predump` it is CRIU's own way, by soft-dirty bits: in hack/vm where this kernel has none.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jobs
import rivals
import writes
from measuring import RESULTS, Cost, Table, interleave, machine, publish, rows_of, runs_option

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy import settings

_ROOT = Path(__file__).resolve().parents[2]

_LATE_S = 600.0
_MACHINE_S = 1800
_PROGRAM = Path(__file__).resolve().parent / "writes.py"
_SHARE = 0.05
_TITLES = {
    writes.FORK: "a forked copy",
    writes.TRAPPED: "write-protected by userfaultfd, each first write waits",
    writes.TRACKED: "write-protected by userfaultfd, the kernel takes note",
    writes.SOFT_DIRTY: "soft-dirty bits",
}


def way(name: str, gib: float, pages: str) -> Cost:
    """Measure one in a process of its own; the wall time is that for which the process stands still."""
    words = [sys.executable, _PROGRAM, name, str(int(gib * 1024)), pages, str(_SHARE)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True, timeout=_LATE_S)
    found = json.loads(done.stdout)
    more = {"ms still": found["still_s"] * 1e3, "µs for each first write": found["extra_us"]}
    if "look_s" in found:
        more["ms to look"] = found["look_s"] * 1e3
    return Cost(found["still_s"], 0.0, more)


def works(name: str) -> bool:
    """Say whether this kernel can do it."""
    words = [sys.executable, _PROGRAM, name, "8", writes.SMALL, str(_SHARE)]
    return subprocess.run(words, capture_output=True, timeout=_LATE_S, check=False).returncode == 0


def compare(gib: float, runs: int) -> Table:
    """Run what this kernel can do, with pages of either size."""
    acts: dict[str, Callable[[], Cost]] = {}
    for name, title in _TITLES.items():
        if not works(name):
            print(f"  this kernel lacks: {title}", file=sys.stderr)
            continue
        for pages, size in ((writes.SMALL, "4 KiB"), (writes.HUGE, "2 MiB")):
            acts[f"{title}; pages of {size}"] = lambda name=name, pages=pages: way(name, gib, pages)  # type: ignore[misc]
    return Table(
        key=f"freezing-{gib:g}",
        title=f"Standing still to have {gib:g} GiB kept or watched, with {_SHARE:.0%} of the pages written after",
        command=f"hack/bench freezing --gib {gib:g}",
        machine=machine(),
        rows=rows_of(interleave(acts, runs)),
    )


class Tracked:
    """A job that CRIU dumps into a folder in memory, all at once or in two steps."""

    def __init__(self, tools: rivals.Tools, work: Path, gib: float) -> None:
        self._tools, self._work = tools, work
        self._own = work / "job"
        self._own.mkdir()
        command = (os.path.realpath(sys.executable), str(jobs.PROGRAM), jobs.RANDOM, str(int(gib * 1024)))
        self.victim = rivals.Process(tools, (*command, str(self._own)), self._own / "beats")
        jobs.await_file(self._own / "ready")

    def whole(self) -> Cost:
        """Stop it for all of its memory."""
        return self._dump()

    def after_predump(self) -> Cost:
        """Read its memory while it runs, write some of it anew, then stop it for that."""
        before = self._work / "before"
        shutil.rmtree(before, ignore_errors=True)
        before.mkdir()
        began = time.monotonic()
        self._criu("pre-dump", before, "--track-mem")
        predump_s = time.monotonic() - began
        (self._own / "dirty").write_text(json.dumps({"share": _SHARE, "scattered": False}))
        while (self._own / "dirty").exists():
            time.sleep(0.01)
        cost = self._dump("--track-mem", "--prev-images-dir=../before")
        return Cost(cost.wall_s, 0.0, {**cost.more, "s of pre-dump": predump_s})

    def _dump(self, *more: str) -> Cost:
        folder = self._work / "images"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        began = time.monotonic()
        self._criu("dump", folder, "--leave-running", *more)
        took = time.monotonic() - began
        mib = sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1024**2
        return Cost(took, 0.0, {"dumped MiB": mib})

    def _criu(self, verb: str, folder: Path, *more: str) -> None:
        self._tools.run(
            *("criu", verb, f"--tree={self.victim.pid}", f"--images-dir={folder}"),
            *(f"--work-dir={self._tools.folder}", "--no-default-config", "--manage-cgroups=ignore", *more),
        )


def compare_predump(gib: float, runs: int) -> Table:
    """Dump a job in either way, into memory."""
    with tempfile.TemporaryDirectory(prefix="crikpy-bench-", dir="/dev/shm") as folder:
        work = Path(folder)
        tools = rivals.criu_alone(work / "tools", settings.from_env(os.environ).criu.bundle)
        subject = Tracked(tools, work, gib)
        with rivals.lived(subject.victim):
            plain, stepwise = "all at once", f"after a pre-dump, with {_SHARE:.0%} written since"
            acts = {plain: subject.whole, stepwise: subject.after_predump}
            return Table(
                key=f"freezing-predump-{gib:g}",
                title=f"CRIU's dump of {gib:g} GiB into a folder in memory, the job stopped meanwhile",
                command=f"hack/bench freezing --predump --gib {gib:g}",
                machine=machine(),
                rows=rows_of(interleave(acts, runs), plain),
                base=plain,
            )


def in_machine(gib: float, runs: int) -> None:
    """Do the same in the virtual machine, and keep what it has kept."""
    again = f"/opt/venv/bin/python hack/bench.d/freezing.py --predump --gib {gib:g} --runs {runs}"
    kept = [] if os.environ.get("CRIKPY_BENCH_KEEP") == "no" else ["--output", str(RESULTS.parent)]
    words = [str(_ROOT / "hack" / "vm"), "run", "--timeout", str(_MACHINE_S), *kept]
    subprocess.run([*words, "--", "sh", "-c", f"{again} && cp docs/{RESULTS.name} /out"], check=True)


def main() -> None:
    """Measure what this kernel can do."""
    parser = argparse.ArgumentParser(prog="hack/bench freezing", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gib", type=float, default=1, help="size of the memory (default: %(default)s)")
    parser.add_argument("--predump", action="store_true", help="CRIU's pre-dump, with soft-dirty bits")
    runs_option(parser)
    chosen = parser.parse_args()
    if not chosen.predump:
        publish(compare(chosen.gib, chosen.runs))
    elif works(writes.SOFT_DIRTY):
        publish(compare_predump(chosen.gib, chosen.runs))
    else:
        in_machine(chosen.gib, chosen.runs)


if __name__ == "__main__":
    main()
