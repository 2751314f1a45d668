"""docs/benchmarks.md says what docs/benchmarks.json says: no figure is typed by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_made_of_the_figures() -> None:
    program = "import json, sys, documenting; sys.stdout.write(documenting.render(json.load(sys.stdin)))"
    made = subprocess.run(
        [sys.executable, "-c", program],
        input=(ROOT / "docs/benchmarks.json").read_text(),
        cwd=ROOT / "hack/bench.d",
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert made.stdout == (ROOT / "docs/benchmarks.md").read_text(), "run hack/bench document"


def test_every_figure_has_its_spread_and_its_machine() -> None:
    tables = json.loads((ROOT / "docs/benchmarks.json").read_text())
    for table in tables.values():
        assert table["machine"]
        assert table["command"].startswith("hack/bench ")
        for row in table["rows"]:
            assert row["runs"] >= 1
            for spread in row["figures"].values():
                assert spread["minimum"] <= spread["median"] <= spread["maximum"]
