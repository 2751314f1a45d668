"""Every relative link of a page leads to a file that is there, and to a heading that the file has."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_ROOMS = ("docs", "daemonset", "controller", "hack", "tests")
_PAGES = sorted([*ROOT.glob("*.md"), *(page for room in _ROOMS for page in (ROOT / room).rglob("*.md"))])
_PAGES = [page for page in _PAGES if page.parent.name != "texts"]  # pieces of pages of docs/, true there
_LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


@cache
def _anchors(page: Path) -> frozenset[str]:
    """As GitHub makes them: lower case, no punctuation, blanks as dashes, and a number for what comes again."""
    found: set[str] = set()
    fenced = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", fenced, re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        count = 0
        while (unique := f"{slug}-{count}" if count else slug) in found:
            count += 1
        found.add(unique)
    return frozenset(found)


def _broken(page: Path) -> list[str]:
    broken = []
    for path, anchor in _LINK.findall(_CODE.sub("", page.read_text())):
        target = page.parent / path if path else page
        there = target.exists() and (not anchor or target.suffix != ".md" or anchor in _anchors(target))
        if not there:
            broken.append(f"{path}#{anchor}")
    return broken


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_to_files_and_headings_that_there_are(page: Path) -> None:
    assert not _broken(page)


def test_a_link_to_a_missing_file_and_one_to_a_missing_heading_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Here and there\n\n[a](#here-and-there) [b](#nowhere) [c](away.md) [d](page.md#here-and-there)\n"
    )
    assert _broken(page) == ["#nowhere", "away.md#"]
