"""Makes docs/workloads.md of docs/workloads.json and of the catalogue; nothing is tried here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from catalogue.describing import Verdict, Workload
from catalogue.everything import GROUPS

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "workloads.json"
PAGE = ROOT / "docs" / "workloads.md"
TEXTS = Path(__file__).resolve().parent / "texts"

_HEADS = (
    "program", "what it does meanwhile", "processes / threads", "open files / mappings", "memory", "stored",
    "frozen s", "restore s", "verdict",
)  # fmt: skip


def render(outcomes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page, given what came of the workloads by their names."""
    machines = sorted({outcome["machine"] for outcome in outcomes.values()})
    head = (TEXTS / "workloads.md").read_text().replace("MACHINES", "; ".join(machines))
    parts = [head.replace("COUNTS", _counts(outcomes)).rstrip()]
    for group in GROUPS:
        tried = [workload for workload in group.workloads if workload.name in outcomes]
        if not tried:
            continue
        rows = [_row(workload, outcomes[workload.name]) for workload in tried]
        table = [f"| {' | '.join(_HEADS)} |", "|---" * len(_HEADS) + "|", *rows]
        notes = [f"- {workload.program}: {workload.note}" for workload in tried if workload.note]
        parts += [f"## {group.title}", "\n".join(table), *(["\n".join(notes)] if notes else [])]
    return "\n\n".join(parts) + "\n"


def _counts(outcomes: Mapping[str, Mapping[str, Any]]) -> str:
    found = Counter(outcome["verdict"] for outcome in outcomes.values())
    return ", ".join(f"{found[verdict]} {verdict}" for verdict in Verdict if found[verdict])


def _row(workload: Workload, outcome: Mapping[str, Any]) -> str:
    return f"| {' | '.join(_cells(workload, outcome))} |"


def _cells(workload: Workload, outcome: Mapping[str, Any]) -> Iterator[str]:
    yield f"{workload.program} {outcome['version']} (`{workload.name}`)"
    yield workload.does
    yield f"{outcome['processes']:,} / {outcome['threads']:,}"
    yield f"{outcome['descriptors']:,} / {outcome['mappings']:,}"
    yield _mib(outcome["memory_bytes"])
    yield _mib(outcome["stored_bytes"])
    yield _seconds(outcome["frozen_s"])
    yield _seconds(outcome["restore_s"])
    why = outcome["why"].replace("|", "\\|")
    yield f"{outcome['verdict']}: {why}" if why else outcome["verdict"]


def _mib(size: int | None) -> str:
    if size is None:
        return ""
    mib = size / 1024**2
    return f"{mib:,.0f} MiB" if mib >= 10 else f"{mib:.{1 if mib >= 1 else 2}f} MiB"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f}"
