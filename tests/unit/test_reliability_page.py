"""docs/reliability.md says what docs/reliability.json says: no outcome is typed by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_made_of_what_was_observed() -> None:
    program = (
        "import json, sys, documenting; "
        "sys.stdout.write(documenting.page([documenting.Trial(**each) for each in json.load(sys.stdin)]))"
    )
    made = subprocess.run(
        [sys.executable, "-c", program],
        input=(ROOT / "docs/reliability.json").read_text(),
        cwd=ROOT / "hack/chaos.d",
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert made.stdout == (ROOT / "docs/reliability.md").read_text(), "run hack/chaos.d/documenting.py"


def test_no_trial_has_ended_otherwise_than_it_may() -> None:
    trials = json.loads((ROOT / "docs/reliability.json").read_text())
    assert {trial["act"] for trial in trials} == {"save", "restore", "soak"}
    assert not [trial for trial in trials if trial["outcome"] in {"", "StoreError", "CrikpyError"}]
