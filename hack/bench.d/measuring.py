"""What the benchmarks share: medians of interleaved runs, and the machine's size beside them."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """What one run took."""

    wall_s: float
    cpu_s: float


def cost_of(act: Callable[[], None]) -> Cost:
    """Run something and return its wall time and this process's CPU time."""
    began, used = time.monotonic(), _cpu()
    act()
    return Cost(time.monotonic() - began, _cpu() - used)


def interleave(acts: Mapping[str, Callable[[], Cost]], repeats: int) -> dict[str, list[Cost]]:
    """Run every act in turn, several times over, so that a drift of the machine's speed meets all alike."""
    found: dict[str, list[Cost]] = {name: [] for name in acts}
    for act in acts.values():
        act()
    for _ in range(repeats):
        for name, act in acts.items():
            found[name].append(act())
    return found


def report(title: str, found: Mapping[str, list[Cost]], gib: float, base: str) -> None:
    """Print a table: medians, and the ratio to one of the rows."""
    base_wall = statistics.median(cost.wall_s for cost in found[base])
    print(f"\n{title} ({machine()}; {len(found[base])} runs each, interleaved; median)")
    print(f"{'':<34}{'seconds':>9}{'CPU s/GiB':>11}{'MiB/s':>8}{'ratio':>8}")
    for name, costs in found.items():
        wall = statistics.median(cost.wall_s for cost in costs)
        cpu = statistics.median(cost.cpu_s for cost in costs) / gib
        print(f"{name:<34}{wall:>9.2f}{cpu:>11.2f}{gib * 1024 / wall:>8.0f}{wall / base_wall:>8.2f}")


def machine() -> str:
    """Return the machine's size in a few words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    model = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    return f"{os.cpu_count()} CPUs {model}, {memory:.0f} GiB, Linux {platform.release()}"


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
