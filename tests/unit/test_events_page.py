"""The table of events in docs/kubernetes.md names those that the code tells, and no others."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_TELLING = {"tell", "tell_pod", "tell_node", "tell_order"}
_WORD = re.compile(r"[A-Z][a-z]+(?:[A-Z][a-z]+)*")


def _page() -> set[str]:
    text = (ROOT / "docs/kubernetes.md").read_text()
    chapter = text[text.index("### Events") : text.index("`CannotBeSaved` comes")]
    rows = [line for line in chapter.splitlines() if line.startswith("| ")][1:]
    return {word for row in rows for word in re.findall(r"`(\w+)`", row)}


def _trees() -> list[ast.Module]:
    return [ast.parse(path.read_text()) for path in sorted((ROOT / "crikpy").rglob("*.py"))]


def test_every_event_of_the_page_is_a_word_of_the_code() -> None:
    words = {node.value for tree in _trees() for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert not _page() - words


def test_every_reason_that_is_told_is_on_the_page() -> None:
    told: set[str] = set()
    for tree in _trees():
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for call in calls:
            if getattr(call.func, "attr", "") in _TELLING and len(call.args) > 1:
                reason = call.args[1]
                value = (
                    constants.get(reason.id) if isinstance(reason, ast.Name) else getattr(reason, "value", None)
                )
                if isinstance(value, str) and _WORD.fullmatch(value):
                    told.add(value)
    assert len(told) > 10
    assert not told - _page()
