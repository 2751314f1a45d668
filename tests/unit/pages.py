"""Pages of docs that programs below hack/ make of what was kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def made(folder: str, expression: str, kept: str) -> str:
    """Return the page that `documenting` in a folder makes.

    Args:
        folder: where that module lies.
        expression: the page, out of `documenting` and of `kept`, what was read.
        kept: the file that is read, JSON.
    """
    program = f"import json, sys, documenting; kept = json.load(sys.stdin); sys.stdout.write({expression})"
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=(ROOT / kept).read_text(),
        cwd=ROOT / folder,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    return done.stdout
