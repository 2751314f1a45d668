"""What a training program of the demo tells about itself: one JSON line a step, printed and kept in a file.

The file is opened once and written to for as long as the job runs, on whichever machine that is.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

FILE = Path("diary.jsonl")


class Diary:
    """Takes the loss of each step; a loss is written as a hexadecimal float, which keeps every bit."""

    def __init__(self, pace_s: float) -> None:
        """Take the time that a step shall take at least; it does not touch the numbers."""
        self._pace_s = pace_s
        self._file = FILE.open("a", encoding="utf-8")
        self._step = 0

    def write(self, loss: float) -> None:
        """Tell about the next step."""
        self._step += 1
        where = {"host": socket.gethostname(), "pid": os.getpid()}
        line = json.dumps({"step": self._step, "loss": float(loss).hex(), **where})
        print(line, flush=True)
        print(line, file=self._file, flush=True)
        time.sleep(self._pace_s)
