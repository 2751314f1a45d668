"""Makes docs/reliability.md: what was observed when something went wrong, in tables; words from `texts`.

    documenting.py OBSERVED           keep what a run has observed, one JSON object a line, and make the page;
                                      what was kept of chapters of which it tried nothing stays
    documenting.py --merge OBSERVED   the same of a run of some of the trials; what was kept of others stays
    documenting.py                    make the page anew of what was kept

Nothing is tried here, and no outcome is ever typed: a test holds the page against what was kept.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"
TEXTS = Path(__file__).resolve().parent / "texts"

_OWN = "The job does something of its own"
_CHAPTERS = (
    ("save", "A job is saved"),
    ("restore", "A job is resumed"),
    ("name", "A job's name, on plain machines"),
    ("soak", "For a long time"),
    ("cluster", "In a model of a cluster"),
    ("kubernetes", "On a real Kubernetes"),
)
_GROUPS = (
    ("capsule dies", "The new capsule dies, as when its container is deleted"),
    ("comes back", "A machine comes back that was given up"),
    ("disk", "A disk is full"),
    ("memory", "Memory runs out"),
    ("clock", "Clocks are wrong"),
    ("the job becomes", _OWN),
    ("the job forks", _OWN),
    ("the job ends", _OWN),
    ("", "Somebody is killed, or in a hurry"),
)
"""By a word in a fault, where it belongs; the first that fits."""

_INSTEAD = {"save": "runs on", "restore": "starts from its beginning"}


class Trial(NamedTuple):
    """What came of an act while something was wrong."""

    act: str
    fault: str
    outcome: str


def read(lines: Iterable[str]) -> list[Trial]:
    """Read what a run has observed."""
    return [Trial(**json.loads(line)) for line in lines if line.strip()]


def page(trials: Sequence[Trial]) -> str:
    """Return the page."""
    parts = [_text("head")]
    for act, title in _CHAPTERS:
        found = [trial for trial in trials if trial.act == act]
        if not found:
            continue
        parts.append(f"## {title}\n\n{_text(act)}")
        single = [trial for trial in found if ";" not in trial.fault]
        by_store = [trial for trial in single if trial.fault.endswith((", once", ", every"))]
        others = [trial for trial in single if trial not in by_store]
        if by_store:
            parts.append("\n".join(_store_table(by_store)))
        tables = _tables(others) if act in _INSTEAD else [_table(others)]
        parts += ["\n".join(table) for table in tables if others]
        if pairs := [trial for trial in found if ";" in trial.fault]:
            parts.append("\n".join(_pairs(pairs)))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _store_table(trials: Sequence[Trial]) -> Iterator[str]:
    """Yield a table of what the store did: once, and each time."""
    outcomes: dict[str, dict[str, str]] = defaultdict(dict)
    for trial in trials:
        fault, _, times = trial.fault.rpartition(", ")
        outcomes[fault][times] = _words(trial)
    yield "| what the store does | once | each time |"
    yield "|---|---|---|"
    for fault, found in outcomes.items():
        yield f"| {fault} | {found.get('once', '')} | {found.get('every', '')} |"


def merged(kept: Sequence[Trial], observed: Sequence[Trial]) -> list[Trial]:
    """Return what was kept, with what was observed in the place of earlier trials of the same faults."""
    news = {_kind(trial) for trial in observed}
    return [*(trial for trial in kept if _kind(trial) not in news), *observed]


def _kind(trial: Trial) -> tuple[str, str]:
    return trial.act, "a pair" if ";" in trial.fault else trial.fault


def _tables(trials: Sequence[Trial]) -> Iterator[Iterator[str]]:
    """Yield a table for each group of faults, with what they have in common above it where there are several."""
    grouped: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        grouped[next(title for word, title in _GROUPS if word in trial.fault)].append(trial)
    titles = [title for title in dict.fromkeys(reversed([title for _, title in _GROUPS])) if title in grouped]
    for title in titles:
        yield chain((f"{title}:", "") if len(titles) > 1 else (), _table(grouped[title]))


def _table(trials: Sequence[Trial]) -> Iterator[str]:
    """Yield a table of what else goes wrong, with how often each was seen to end how."""
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    for trial in trials:
        outcomes[trial.fault][_words(trial)] += 1
    yield "| what goes wrong | what was observed |"
    yield "|---|---|"
    for fault, counts in outcomes.items():
        told = [f"{words} ({count} times)" if count > 1 else words for words, count in counts.most_common()]
        yield f"| {fault} | {'; '.join(told)} |"


def _pairs(trials: Sequence[Trial]) -> Iterator[str]:
    counts = Counter(_words(trial) for trial in trials)
    yield f"Two things wrong with the store at once, {len(trials)} pairs chosen by chance:"
    yield ""
    yield "| what was observed | times |"
    yield "|---|---|"
    for words, count in counts.most_common():
        yield f"| {words} | {count} |"


def _words(trial: Trial) -> str:
    outcome = trial.outcome
    if outcome.endswith("Error"):
        return f"{_INSTEAD[trial.act]}: `{outcome}`"
    return outcome


def _text(name: str) -> str:
    return (TEXTS / f"{name}.md").read_text()


def _kept() -> list[Trial]:
    return [Trial(**each) for each in json.loads(RESULTS.read_text())]


def main() -> None:
    """Keep what was observed, if there is news, and make the page."""
    if len(sys.argv) > 1:
        trials = read(Path(sys.argv[-1]).read_text().splitlines())
        acts = {trial.act for trial in trials}
        elsewhere = [trial for trial in _kept() if trial.act not in acts]
        trials = merged(_kept(), trials) if sys.argv[1] == "--merge" else [*trials, *elsewhere]
        RESULTS.write_text("[\n" + ",\n".join(json.dumps(trial._asdict()) for trial in trials) + "\n]\n")
    PAGE.write_text(page(_kept()))


if __name__ == "__main__":
    main()
