"""docs/benchmarks.md says what docs/benchmarks.json says: no figure is typed by hand."""

from __future__ import annotations

import json

from tests.unit.pages import ROOT, made


def test_the_page_is_made_of_the_figures() -> None:
    page = made("hack/bench.d", "documenting.render(kept)", "docs/benchmarks.json")
    assert page == (ROOT / "docs/benchmarks.md").read_text(), "run hack/bench document"


def test_every_figure_has_its_spread_and_its_machine() -> None:
    tables = json.loads((ROOT / "docs/benchmarks.json").read_text())
    for table in tables.values():
        assert table["machine"]
        assert table["command"].startswith("hack/bench ")
        for row in table["rows"]:
            assert row["runs"] >= 1
            for spread in row["figures"].values():
                assert spread["minimum"] <= spread["median"] <= spread["maximum"]
