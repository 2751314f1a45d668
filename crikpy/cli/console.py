"""What every command shares: options, output in two forms, errors in one line, progress on a terminal.

Results go to standard output, everything about the way there to standard error, so that a pipe stays clean.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from crikpy import names
from crikpy.cli.remedies import remedy_of
from crikpy.errors import CrikpyError
from crikpy.model.health import Finding, Verdict
from crikpy.model.streams import TransferProgress
from crikpy.model.workload import Workload
from crikpy.store.layout import parse_workload

_F = TypeVar("_F", bound=Callable[..., Any])
_MARKS = {Verdict.OK: ("ok", "green"), Verdict.WARNING: ("warn", "yellow"), Verdict.FAILED: ("FAIL", "red")}
_DIRECTIONS = {"upload": "to the store", "download": "from the store"}


def output_option(command: _F) -> _F:
    """Give a command `--output text|json`."""
    return click.option(
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How to print what was found or done.",
    )(command)


def store_option(command: _F, *, required: bool = True) -> _F:
    """Give a command `--store URL`."""
    return click.option(
        "--store",
        "store_url",
        envvar="CRIKPY_STORE",
        required=required,
        metavar="URL",
        help="Where checkpoints are: s3://BUCKET/PREFIX or an absolute path. [env: CRIKPY_STORE]",
    )(command)


def group_options(command: _F) -> _F:
    """Give a command `--cluster` and `--namespace`, under which names are unique."""
    cluster, namespace = names.PLAIN_GROUP
    command = click.option("--cluster", default=cluster, show_default=True, help="Group of machines.")(command)
    return click.option("--namespace", default=namespace, show_default=True, help="Part of the group.")(command)


def workload_of(cluster: str, namespace: str, name: str) -> Workload:
    """Return the workload that the options name."""
    return parse_workload(cluster=cluster, namespace=namespace, name=name)


def print_json(value: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2, default=str))


def print_error(error: CrikpyError, *, as_json: bool) -> None:
    """Print an error: what happened, what to do, and the evidence below it."""
    if as_json:
        facts = {
            "error": error.reason,
            "message": error.message,
            "remedy": remedy_of(error),
            "detail": error.detail,
            "exit_code": error.exit_code,
        }
        click.echo(json.dumps(facts), err=True)
        return
    click.echo(f"crikpy: {error.message}", err=True)
    click.echo(f"crikpy: what to do: {remedy_of(error)}", err=True)
    for line in error.detail.splitlines():
        click.echo(f"  | {line}", err=True)


def print_findings(findings: Sequence[Finding]) -> None:
    """Print what was looked at, a line each, with what to do about it below."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        word, colour = _MARKS[finding.verdict]
        click.echo(f"{click.style(f'{word:>4}', fg=colour)}  {finding.name:<{width}}  {finding.fact}")
        if finding.remedy:
            click.echo(f"{'':>{width + 6}}  → {finding.remedy}")


def human_bytes(count: float) -> str:
    """Return a size for people, in powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


class ConsoleReporter:
    """Tells a flow's story on standard error; a context that ends its progress bars.

    Text for people, with bars on a terminal and without them elsewhere; or a JSON object a line.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._lock = threading.Lock()
        self._console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ConsoleReporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_bars()

    def event(self, name: str, message: str, **facts: object) -> None:
        """Print that something happened; nobody who reads it any more is no reason to fail."""
        with self._lock, contextlib.suppress(OSError):
            self._end_bars()
            if self._as_json:
                text = json.dumps({"event": name, "message": message, **facts}, default=str)
            else:
                details = str(facts.get("detail") or "").splitlines()
                text = "\n".join([f"crikpy: {message}", *(f"  | {line}" for line in details)])
            print(text, file=sys.stderr, flush=True)

    def transfer(self, direction: str, progress: TransferProgress) -> None:
        """Move a bar, where there is a terminal to show it."""
        if self._as_json or not self._console.is_terminal:
            return
        with self._lock:
            bars = self._bars()
            if direction not in self._tasks:
                self._tasks[direction] = bars.add_task(_DIRECTIONS.get(direction, direction), total=None)
            bars.update(self._tasks[direction], completed=progress.plain_bytes, total=progress.total_bytes)

    def _bars(self) -> Progress:
        if self._progress is None:
            self._progress = Progress(
                TextColumn("crikpy: {task.description}"),
                BarColumn(),
                DownloadColumn(binary_units=True),
                TransferSpeedColumn(),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._progress.start()
        return self._progress

    def _end_bars(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._tasks.clear()
