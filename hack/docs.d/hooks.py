"""What mkdocs cannot do by itself: links that lead out of docs/.

The repository and the site show the same Markdown: links are written for the one and changed here for the other.
Changes no page on the disk.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_OUTWARDS = re.compile(r"\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Let links to files outside docs/ lead to the repository; one to no file stays as it is, and fails."""

    def outwards(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), found[1]))
        target = _ROOT / path
        if path.startswith("..") or not target.exists():
            return found[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"]({config['repo_url']}/{kind}/main/{path}{found[2] or ''})"

    return _OUTWARDS.sub(outwards, markdown)
