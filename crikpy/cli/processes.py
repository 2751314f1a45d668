"""The processes of a checkpoint as a tree, and where its memory is, as bars; readable at 80 columns.

Only drawn here; all figures are those of the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.table import Table
from rich.text import Text

from crikpy.model.manifest import Manifest, ProcessFact, Sizes
from crikpy.model.quantities import human_size

_BAR = 20
_NAMES = 30
_KINDS = (("█", "anonymous", "cyan"), ("▒", "of files", "blue"), ("░", "shared", "magenta"))
_STORED = (("░", "zeros", "bright_black"), ("▒", "stored before", "blue"), ("█", "new", "cyan"))


def process_table(processes: Sequence[ProcessFact]) -> Table:
    """Return the processes as a tree, with the memory of each and its share of the whole."""
    whole = sum(process.resident_bytes for process in processes)
    largest = max((process.resident_bytes for process in processes), default=0)
    table = Table(box=None, pad_edge=False)
    table.add_column("PROCESS", max_width=_NAMES, no_wrap=True)
    for column in ("PID", "THREADS", "RESIDENT"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("MEMORY", no_wrap=True)
    table.add_column("SHARE", justify="right", no_wrap=True)
    for branch, process in tree(processes):
        table.add_row(
            Text(f"{branch}{process.command}", overflow="ellipsis"),
            str(process.pid),
            str(process.threads),
            human_size(process.resident_bytes),
            _bar(_kinds(process), _KINDS, largest),
            _percent(process.resident_bytes, whole),
        )
    return table


def memory_lines(manifest: Manifest) -> Iterator[Text]:
    """Yield what the bars of the processes mean and sum up to, and where the image's bytes are."""
    processes = manifest.job.processes
    if processes:
        sums = [sum(kind) for kind in zip(*map(_kinds, processes), strict=True)]
        yield _legend("memory", sums, _KINDS)
    parts = _stored(manifest.sizes)
    if sum(parts):
        yield _legend("image", parts, _STORED)
        yield Text(" " * 13).append(_bar(parts, _STORED, sum(parts), width=60))


def tree(processes: Sequence[ProcessFact]) -> Iterator[tuple[str, ProcessFact]]:
    """Yield each process below its parent, with the lines that lead to it; one without a parent is a root."""
    known = {process.pid for process in processes}
    children: dict[int, list[ProcessFact]] = {}
    for process in sorted(processes, key=lambda each: each.pid):
        parent = process.parent if process.parent in known and process.parent != process.pid else 0
        children.setdefault(parent, []).append(process)
    waiting = [("", "", root) for root in reversed(children.get(0, []))]
    while waiting:
        branch, below, process = waiting.pop()
        yield branch, process
        brood = children.get(process.pid, [])
        for child in reversed(brood):
            last = child is brood[-1]
            waiting.append((f"{below}{'└─ ' if last else '├─ '}", f"{below}{'   ' if last else '│  '}", child))


def _kinds(process: ProcessFact) -> tuple[int, int, int]:
    return process.anonymous_bytes, process.file_bytes, process.shared_bytes


def _stored(sizes: Sizes) -> tuple[int, int, int]:
    reused = min(sizes.reused_bytes, sizes.image_bytes - sizes.zero_bytes)  # a reused chunk may hold zeros, too
    return sizes.zero_bytes, reused, sizes.image_bytes - sizes.zero_bytes - reused


def _bar(parts: Sequence[int], kinds: Sequence[tuple[str, str, str]], whole: int, *, width: int = _BAR) -> Text:
    """Return a bar that is full where the parts make the whole; its cells are rounded at the parts' ends."""
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + part)
    cells = [round(width * end / whole) if whole else 0 for end in ends]
    bar = Text()
    for (sign, _, colour), (begin, end) in zip(kinds, pairwise(cells), strict=True):
        bar.append(sign * (end - begin), style=colour)
    return bar


def _legend(title: str, parts: Sequence[int], kinds: Sequence[tuple[str, str, str]]) -> Text:
    line = Text(f"{title:<12} {human_size(sum(parts))}: ")
    for (sign, name, colour), part in zip(kinds, parts, strict=True):
        line.append(sign, style=colour).append(f" {human_size(part)} {name}  ")
    line.rstrip()
    return line


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else ""
