"""What was observed, for docs/reliability.md: one line of JSON for each trial, where CRIKPY_CHAOS_RECORD says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

Record = Callable[[str, str, str], None]


def record(act: str, fault: str, outcome: str) -> None:
    """Write down what came of an act while something went wrong; nothing where nobody asks for it."""
    if path := os.environ.get("CRIKPY_CHAOS_RECORD"):
        with Path(path).open("a") as file:
            file.write(json.dumps({"act": act, "fault": fault, "outcome": outcome}) + "\n")
