"""docs/workloads.md says what docs/workloads.json and the catalogue say, and the catalogue can be run."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.unit.pages import ROOT, made

_GOOD = ("resumed bit-exactly", "resumed, data verified")


def _catalogue(expression: str) -> dict[str, str]:
    """Return a word for each workload of the catalogue."""
    program = (
        "import json; from catalogue.everything import WORKLOADS; "
        f"print(json.dumps({{name: {expression} for name, workload in WORKLOADS.items()}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT / "hack/bench.d",
        check=True,
        stdout=subprocess.PIPE,
        timeout=60,
    )
    words: dict[str, str] = json.loads(done.stdout)
    return words


def test_the_page_is_made_of_what_was_seen() -> None:
    page = made("hack/bench.d", "documenting.tabling.render(kept)", "docs/workloads.json")
    assert page == (ROOT / "docs/workloads.md").read_text(), "run hack/bench document"


def test_every_workload_was_tried_and_came_out_as_expected() -> None:
    kept = json.loads((ROOT / "docs/workloads.json").read_text())
    assert {name: outcome["verdict"] for name, outcome in kept.items()} == _catalogue("workload.awaited")


def test_what_did_not_go_well_says_why() -> None:
    kept = json.loads((ROOT / "docs/workloads.json").read_text())
    for name, outcome in kept.items():
        assert bool(outcome["why"]) == (outcome["verdict"] not in _GOOD), name


def test_every_workload_has_a_name_of_its_own() -> None:
    program = (
        "from catalogue.everything import GROUPS; print([w.name for group in GROUPS for w in group.workloads])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT / "hack/bench.d",
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    names = done.stdout.strip("[]\n").split(", ")
    assert len(names) == len(set(names)) == len(_catalogue("''"))
