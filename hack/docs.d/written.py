"""Keeps files that are written from the code: writes them, or says that they are old."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def keep(name: str, text: str) -> None:
    """Write a page of docs/; with `--check` on the command line end with 1 if it is not this text already."""
    keep_all({f"docs/{name}": text})


def keep_all(texts: Mapping[str, str]) -> None:
    """Do the same with several files, by their paths in the repository."""
    if sys.argv[1:] != ["--check"]:
        for path, text in texts.items():
            (ROOT / path).write_text(text)
        return
    old = [
        path for path, text in texts.items() if not (ROOT / path).is_file() or (ROOT / path).read_text() != text
    ]
    if old:
        sys.exit(f"old: {', '.join(old)}; run hack/{Path(sys.argv[0]).name}")


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
