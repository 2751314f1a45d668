"""A `crikpy run` on a machine of the demo: what it and its job tell, as it comes, with the time."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from machines import DemoError, Machine

_KEPT_LINES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """Something that happened.

    Attributes:
        at: when, on the monotonic clock, in seconds.
        event: crikpy's name for it; `step` for a step of the job.
        facts: what came with it.
    """

    at: float
    event: str
    facts: Mapping[str, Any] = field(default_factory=dict)


class Job:
    """One `crikpy run` from its start to its end.

    Attributes:
        machine: where it runs.
        started_at: when it was started, on the monotonic clock.
        steps: what the job told about each of its steps here.
        first_step_at: when the first of them was taken, on the monotonic clock.
        last_step_at: when the last was.
        status: its exit status, once it has ended.
    """

    def __init__(self, machine: Machine, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self.machine = machine
        self.steps: list[Mapping[str, Any]] = []
        self.first_step_at = self.last_step_at = 0.0
        self.status: int | None = None
        self._news: queue.Queue[News | None] = queue.Queue()
        self._other_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self.started_at = time.monotonic()
        self._process = machine.start(words, environment)
        for stream, name in ((self._process.stdout, "step"), (self._process.stderr, "")):
            threading.Thread(target=self._listen, args=(stream, name), daemon=True).start()

    def news(self, patience_s: float) -> Iterator[News]:
        """Yield what happens until the program has ended.

        Raises:
            DemoError: nothing more has happened for too long.
        """
        ended = 0
        while ended < 2:
            try:
                news = self._news.get(timeout=patience_s)
            except queue.Empty:
                raise DemoError(f"{self.machine.name}: nothing has happened for {patience_s:.0f} s") from None
            if news is None:
                ended += 1
                continue
            if news.event == "step":
                self.steps.append(news.facts)
                self.first_step_at = self.first_step_at or news.at
                self.last_step_at = news.at
            yield news
        self.status = self._process.wait(patience_s)

    def evidence(self) -> str:
        """Return the last lines that were no news: what there is to say when something went wrong."""
        return "\n".join(self._other_lines)

    def _listen(self, stream: IO[bytes], name: str) -> None:
        for line in stream:
            at = time.monotonic()
            try:
                facts = json.loads(line)
                event = name or facts["event"]
            except (ValueError, KeyError, TypeError):
                self._other_lines.append(line.decode(errors="replace").rstrip())
                continue
            self._news.put(News(at=facts.get("at", at), event=event, facts=facts))
        self._news.put(None)


def read_steps(lines: Path | bytes) -> list[Mapping[str, Any]]:
    """Read a diary, or what a training program printed."""
    text = lines.read_bytes() if isinstance(lines, Path) else lines
    return [json.loads(line) for line in text.splitlines()]
