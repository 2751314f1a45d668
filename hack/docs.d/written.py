"""Keeps pages that are written from the code: writes one, or says that it is old. Knows the standard library."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def keep(name: str, text: str) -> None:
    """Write a page of docs/; with `--check` on the command line end with 1 if it is not this text already."""
    page = ROOT / "docs" / name
    if sys.argv[1:] != ["--check"]:
        page.write_text(text)
    elif not page.is_file() or page.read_text() != text:
        sys.exit(f"docs/{name} is old: run hack/{Path(sys.argv[0]).name}")
