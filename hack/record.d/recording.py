"""Draws a terminal session as it was: runs a command, notes when each line comes, has rich draw them.

Used by hack/record. The lines are the command's standard output, in the order in which they came.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "docs/images/demo.svg"
DEMO, DEMO_UNTIL = ["./hack/demo"], "^[0-9]+ losses"
WIDTH = 124
LONGEST_PAUSE_S = 2.0
NAME = "session"

_COLOURS = ("484f58", "ff7b72", "56d364", "e3b341", "79c0ff", "d2a8ff", "56d4dd", "b1bac4")
THEME = TerminalTheme((13, 17, 23), (230, 237, 243), [(*bytes.fromhex(colour),) for colour in _COLOURS])

FRAME = """\
<svg class="{unique_id}" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace;
font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
/*times*/
</style>
<defs>
{lines}
</defs>
<rect fill="#0d1117" width="{width}" height="{height}" rx="8"/>
<g transform="translate(20, 20)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""What rich puts its drawing into: no window's frame, no web fonts."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of output and when it came, in seconds since the start."""

    at_s: float
    text: str


def main() -> int:
    """Record; return the command's exit status."""
    given = _arguments()
    lines, status = listen(given.command)
    if status != 0:
        print(f"record: the command ended with {status}; nothing is written", file=sys.stderr)
        return status
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(draw(given.say, cut(lines, given.until)), encoding="utf-8")
    print(given.output)
    return 0


def listen(command: Sequence[str]) -> tuple[list[Line], int]:
    """Run a command, show what it says, and return it with the exit status."""
    began = time.monotonic()
    lines = []
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for text in process.stdout:
            lines.append(Line(time.monotonic() - began, text.rstrip("\n")))
            print(text, end="", flush=True)
    return lines, process.returncode


def cut(lines: Sequence[Line], until: str) -> list[Line]:
    """Return the lines up to the first that matches; all of them when none is to."""
    last = next((number for number, line in enumerate(lines) if until and re.search(until, line.text)), None)
    return list(lines[: None if last is None else last + 1])


def draw(words: str, lines: Sequence[Line]) -> str:
    """Return an SVG that shows a prompt with the words and then the lines, each at its time."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    times: list[float] = []

    def show(text: Text, at_s: float) -> None:
        rows = text.wrap(console, WIDTH, tab_size=8) or [Text()]
        console.print(*rows, sep="\n", highlight=False, no_wrap=True)
        times.extend([at_s] * len(rows))

    show(Text.assemble(("$ ", "bold green"), (words, "bold")), 0.0)
    shown_s, before_s = 1.0, 0.0
    for line in lines:
        shown_s += min(line.at_s - before_s, LONGEST_PAUSE_S)
        before_s = line.at_s
        show(Text(line.text), shown_s)
    drawn = console.export_svg(theme=THEME, code_format=FRAME, unique_id=NAME)
    return drawn.replace("/*times*/", _appearing(times))


def _appearing(times: Sequence[float]) -> str:
    """Return the rules by which each row appears; rich clips each by a path of its own."""
    rules = [f"@keyframes {NAME}-appear {{ from {{ opacity: 0 }} to {{ opacity: 1 }} }}"]
    rules.append("@media (prefers-reduced-motion: no-preference) {")
    rules += [
        f'[clip-path="url(#{NAME}-line-{row})"] {{ animation: {NAME}-appear 1ms {at_s:.2f}s both }}'
        for row, at_s in enumerate(times)
    ]
    return "\n".join([*rules, "}"])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hack/record", allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--say")
    parser.add_argument("--until")
    parser.add_argument("command", nargs="*")
    given = parser.parse_args()
    if given.until is None:
        given.until = "" if given.command else DEMO_UNTIL
    given.command = given.command or DEMO
    given.say = given.say or " ".join(given.command)
    return given


if __name__ == "__main__":
    sys.exit(main())
