"""docs/reliability.md says what docs/reliability.json says: no outcome is typed by hand."""

from __future__ import annotations

import json

from tests.unit.pages import ROOT, made


def test_the_page_is_made_of_what_was_observed() -> None:
    page = made(
        "hack/chaos.d", "documenting.page([documenting.Trial(**each) for each in kept])", "docs/reliability.json"
    )
    assert page == (ROOT / "docs/reliability.md").read_text(), "run hack/chaos.d/documenting.py"


def test_what_a_part_has_observed_takes_the_place_of_what_was_kept_of_the_same_faults() -> None:
    trials = "[documenting.Trial('save', fault, outcome) for fault, outcome in {}]"
    kept, observed = (
        trials.format(pairs)
        for pairs in ([("a", "1"), ("b", "2"), ("b", "3"), ("b; c", "4")], [("b", "5"), ("d; e", "6")])
    )
    told = made(
        "hack/chaos.d",
        f"repr([trial[1:] for trial in documenting.merged({kept}, {observed})])",
        "docs/reliability.json",
    )
    assert told == "[('a', '1'), ('b', '5'), ('d; e', '6')]"


def test_no_trial_has_ended_otherwise_than_it_may() -> None:
    trials = json.loads((ROOT / "docs/reliability.json").read_text())
    assert {trial["act"] for trial in trials} == {"save", "restore", "name", "soak", "cluster", "kubernetes"}
    assert not [trial for trial in trials if trial["outcome"] in {"", "StoreError", "CrikpyError"}]
