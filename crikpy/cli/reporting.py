"""Tell of what is under way on standard error: lines for people with bars on a terminal, or JSON for programs."""

from __future__ import annotations

import contextlib
import sys
import threading
from types import TracebackType

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from crikpy import log
from crikpy.cli import colours
from crikpy.model.streams import TransferProgress

_DIRECTIONS = {"upload": "to the store", "download": "from the store"}


class ConsoleReporter:
    """Tells a flow's story on standard error; a context that ends its progress bars.

    Text for people, with bars on a terminal and without them elsewhere; or a JSON object a line.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._lock = threading.Lock()
        self._console = colours.console(stderr=True)
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
                said = {**log.subject_facts(), **facts, "event": name}
                text = log.json_line("info", __name__, message, said)
            else:
                details = str(facts.get("detail") or "").splitlines()
                text = "\n".join([f"crikpy: {message}", *(f"  | {line}" for line in details)])
            sys.stderr.write(f"{text}\n")  # at once, so that no other thread's line comes between
            sys.stderr.flush()

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
