"""Makes docs/benchmarks.md of docs/benchmarks.json, and docs/workloads.md: figures from the runs, words from here.

Nothing is measured here. A test holds the two files against each other, so that no figure is ever typed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import projecting
import tabling

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "benchmarks.json"
PAGE = ROOT / "docs" / "benchmarks.md"
TEXTS = Path(__file__).resolve().parent / "texts"


@dataclass(frozen=True)
class Group:
    """A chapter of the page.

    Attributes:
        title: its heading.
        text: file below `texts` with what to know before the tables.
        keys: what the keys of its tables begin with.
    """

    title: str
    text: str
    keys: str


GROUPS = (
    Group("A checkpoint beside its bounds", "data.md", "data-"),
    Group("A second checkpoint", "repeating.md", "repeat-"),
    Group("Beside what one would use instead", "peers.md", "peers-"),
    Group("A restore beside its bounds", "restoring.md", "restore-"),
    Group("Lazy restore", "lazy.md", "lazy"),
    Group("How long a job that runs on stands still", "thawing.md", "thawing"),
    Group("Other ways to let a job run on", "freezing.md", "freezing"),
    Group("What the neighbours notice", "interference.md", "interference"),
    Group("S3 clients", "clients.md", "clients"),
    Group("The manifest of a large job", "manifests.md", "manifests"),
    Group("The controller in a storm", "controller.md", "controller"),
)


def render(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page."""
    machines = sorted({table["machine"] for table in tables.values()})
    parts = [(TEXTS / "head.md").read_text().replace("MACHINES", "; ".join(machines)).rstrip()]
    for group in GROUPS:
        own = [tables[key] for key in sorted(tables, key=_order) if key.startswith(group.keys)]
        if own:
            parts.append(f"## {group.title}")
            parts.append((TEXTS / group.text).read_text().rstrip())
            parts += [_render_table(table) for table in own]
    parts.append("## What real machines would carry")
    parts.append((TEXTS / "projection.md").read_text().rstrip())
    parts.append(projecting.render(tables))
    parts.append((TEXTS / "tail.md").read_text().rstrip())
    return "\n\n".join(parts) + "\n"


def _order(key: str) -> tuple[str, float]:
    """Sort tables of several sizes by their size."""
    words, _, last = key.rpartition("-")
    try:
        return words, float(last)
    except ValueError:
        return key, 0.0


def _render_table(table: Mapping[str, Any]) -> str:
    rows: Sequence[Mapping[str, Any]] = table["rows"]
    columns = list(dict.fromkeys(word for row in rows for word in row["figures"] if word != "seconds"))
    heads = ["", "seconds (least to most)", *(["ratio"] if table["base"] else []), *columns]
    lines = [f"{table['title']} (`{table['command']}`; {rows[0]['runs']} runs, interleaved; medians):", ""]
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        wall = row["figures"]["seconds"]
        cells = [row["name"], f"{_cell(wall['median'])} ({_cell(wall['minimum'])} to {_cell(wall['maximum'])})"]
        if table["base"]:
            cells.append(f"{row['ratio']:.2f}")
        for word in columns:
            found = row["figures"].get(word)
            cells.append("" if found is None else _cell(found["median"]))
        lines.append(f"| {' | '.join(cells)} |")
    if table["note"]:
        lines += ["", table["note"]]
    return "\n".join(lines)


def _cell(value: float) -> str:
    """Return a figure with no more digits than it deserves."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def main() -> None:
    """Write the pages."""
    if tabling.RESULTS.exists():
        tabling.PAGE.write_text(tabling.render(json.loads(tabling.RESULTS.read_text())))
    PAGE.write_text(render(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
