"""What larger machines would carry within the time that a spot notice leaves, by the CPU time measured here.

Arithmetic: its assumptions are its constants, and the page states them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SECONDS = 100.0
"""Of the 120 that a notice gives; the rest is for noticing, stopping, committing."""

GBITS = (10, 25, 100)
CORES = (8, 32, 96)
WIRE_SHARE = 0.9
"""Of the nominal bandwidth."""

CORE_SHARE = 0.6
"""Of the cores' time: the rest is the node's, and threads wait for each other."""

ONE_CRIU_GIB_PER_S = 4.0
"""CRIU reads memory in one thread; measured above. Several jobs are dumped at once, each by its own CRIU."""

JOBS = 2
"""Dumped at once, as CRIKPY_AGENT_DUMPS says."""

GIL_GIB_PER_S = 6.0
"""Python's interpreter lets one thread at a time handle pages: 0.16 s/GiB, measured as what does not scale."""

TLS_CPU_S_PER_GIB = 0.3
"""What TLS adds for each GiB on the wire; measured elsewhere, by obstore."""

KEYS = {"random": "data-memory-random-1", "compressible": "data-memory-compressible-1"}
ROW = "crikpy, first checkpoint"


def render(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table, of what has been measured."""
    costs = {kind: _cost(tables[key]) for kind, key in KEYS.items() if key in tables}
    if not costs:
        return "Not measured."
    heads = [f"{cores} cores, {kind}" for cores in CORES for kind in costs]
    lines = [f"| GiB in {SECONDS:.0f} s | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for gbits in GBITS:
        cells = [_cell(gbits, cores, *costs[kind]) for cores in CORES for kind in costs]
        lines.append(f"| {gbits} Gbit/s | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cost(table: Mapping[str, Any]) -> tuple[float, float]:
    """Return CPU seconds per GiB of memory, and the share of it that is stored."""
    row = next(row for row in table["rows"] if row["name"] == ROW)
    figures = row["figures"]
    gib = figures["MiB/s"]["median"] * figures["seconds"]["median"] / 1024
    return figures["CPU s/GiB"]["median"], figures["stored MiB"]["median"] / 1024 / gib


def _cell(gbits: float, cores: int, cpu_s: float, stored: float) -> str:
    """Return how many GiB of memory are saved in time, and what limits them."""
    limits = {
        "wire": gbits / 8 * 1e9 / 1024**3 * WIRE_SHARE / stored,
        "cores": cores * CORE_SHARE / (cpu_s + TLS_CPU_S_PER_GIB * stored),
        "CRIU": ONE_CRIU_GIB_PER_S * JOBS,
        "interpreter": GIL_GIB_PER_S,
    }
    least = min(limits, key=lambda name: limits[name])
    return f"{limits[least] * SECONDS:.0f} ({least})"
