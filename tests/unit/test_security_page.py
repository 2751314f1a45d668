"""docs/security.md names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_threat_has_a_test_that_there_is() -> None:
    page = (ROOT / "docs/security.md").read_text()
    chapter = page[page.index("## Threats") : page.index("## On Kubernetes")]
    rows = [line for line in chapter.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`((?:tests|daemonset)/[^`]+)`", row)
        assert named, row
        assert all((ROOT / name).is_file() for name in named), row
