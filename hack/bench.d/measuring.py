"""What the benchmarks share: interleaved runs, their spread, and tables that outlive the run.

A table is printed and kept as JSON in docs/benchmarks.json, from which docs/benchmarks.md is made. No section
knows of another's; nothing here knows what is measured.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "benchmarks.json"


@dataclass(frozen=True)
class Cost:
    """What one run took.

    Attributes:
        wall_s: seconds.
        cpu_s: CPU seconds of the process that was measured, and of its ended children.
        more: other figures of the run, by the words that head their columns, such as `frozen s`.
    """

    wall_s: float
    cpu_s: float
    more: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Spread:
    """Minimum, median and maximum of some runs."""

    minimum: float
    median: float
    maximum: float


@dataclass(frozen=True)
class Row:
    """One way of doing the same.

    Attributes:
        name: in a few words.
        runs: how many.
        figures: spreads by the words that head their columns; `seconds` is always among them.
        ratio: this row's median seconds to the base row's; None where the table has no base.
    """

    name: str
    runs: int
    figures: Mapping[str, Spread]
    ratio: float | None = None


@dataclass(frozen=True)
class Table:
    """What one section of the benchmarks found.

    Attributes:
        key: unique and stable; a later run replaces the table of the same key.
        title: a sentence without a full stop.
        command: what to type to get it again.
        machine: whose figures these are.
        rows: in the order to be shown.
        base: name of the row that ratios refer to, or empty.
        note: what limits the figures, in a sentence or two; may be empty.
    """

    key: str
    title: str
    command: str
    machine: str
    rows: Sequence[Row]
    base: str = ""
    note: str = ""


def cost_of(act: Callable[[], None]) -> Cost:
    """Run something and return its wall time and the CPU time of this process and of children that ended."""
    began, used = time.monotonic(), _cpu()
    act()
    return Cost(time.monotonic() - began, _cpu() - used)


def have_memory(size: int) -> None:
    """Use so much memory for a moment, so that a virtual machine has it from its host before anybody is measured.

    What a guest has not used for a while its host may have taken back, and gives again at a fraction of its speed.
    """
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        for start in range(0, size, mmap.PAGESIZE):
            memory[start] = 1


def interleave(
    acts: Mapping[str, Callable[[], Cost]], repeats: int, *, warm: bool = True
) -> dict[str, list[Cost]]:
    """Run every act in turn, several times over, so that a drift of the machine's speed meets all alike.

    Args:
        acts: by the names of their rows.
        repeats: how often; five or more for what is published.
        warm: run each once more before, unmeasured.
    """
    found: dict[str, list[Cost]] = {name: [] for name in acts}
    if warm:
        for act in acts.values():
            act()
    for number in range(repeats):
        for name, act in acts.items():
            found[name].append(act())
            print(f"  {number + 1}/{repeats} {name}: {found[name][-1].wall_s:.2f} s", file=sys.stderr, flush=True)
    return found


def rows_of(found: Mapping[str, Sequence[Cost]], base: str = "", *, gib: float | None = None) -> list[Row]:
    """Return the rows of interleaved runs; with a size also MiB/s and CPU seconds per GiB."""
    against = statistics.median(cost.wall_s for cost in found[base]) if base else None
    rows = []
    for name, costs in found.items():
        walls = [cost.wall_s for cost in costs]
        figures = {"seconds": spread(walls)}
        if gib is not None:
            figures["MiB/s"] = spread([gib * 1024 / wall for wall in walls])
            figures["CPU s/GiB"] = spread([cost.cpu_s / gib for cost in costs])
        for word in costs[0].more:
            figures[word] = spread([cost.more[word] for cost in costs])
        ratio = None if against is None else statistics.median(walls) / against
        rows.append(Row(name, len(costs), figures, ratio))
    return rows


def spread(values: Sequence[float]) -> Spread:
    """Return the least, the middle and the largest."""
    return Spread(min(values), statistics.median(values), max(values))


def publish(table: Table) -> None:
    """Print a table, and keep it beside those of other sections unless CRIKPY_BENCH_KEEP is `no`."""
    show(table)
    if os.environ.get("CRIKPY_BENCH_KEEP") == "no":
        return
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[table.key] = asdict(table)
    RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def show(table: Table) -> None:
    """Print a table: medians, with the least and the largest of the seconds."""
    columns = list(dict.fromkeys(word for row in table.rows for word in row.figures if word != "seconds"))
    width = max(len(row.name) for row in table.rows) + 2
    print(f"\n{table.title} ({table.machine}; {table.rows[0].runs} runs each, interleaved; medians)")
    heads = "".join(f"{word:>{_width(word)}}" for word in columns)
    print(f"{'':<{width}}{'seconds':>9}{'least':>8}{'most':>8}{'ratio':>8}{heads}")
    for row in table.rows:
        wall = row.figures["seconds"]
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        cells = "".join(
            f"{_cell(row.figures[word].median) if word in row.figures else '':>{_width(word)}}" for word in columns
        )
        print(f"{row.name:<{width}}{wall.median:>9.2f}{wall.minimum:>8.2f}{wall.maximum:>8.2f}{ratio:>8}{cells}")
    sys.stdout.flush()


def machine() -> str:
    """Return the machine's size in a few words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    model = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    return f"{os.cpu_count()} CPUs {model}, {memory:.0f} GiB, Linux {platform.release()}"


def runs_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that every section has."""
    parser.add_argument("--runs", type=int, default=5, help="runs of each row (default: %(default)s)")


def _cell(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def _width(word: str) -> int:
    return max(9, len(word) + 2)


def _cpu() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )
