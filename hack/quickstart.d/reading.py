"""What of a page is commands: see hack/quickstart for the convention. Runs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from markdown_it import MarkdownIt

_LANGUAGE = "sh"
_MARK = re.compile(r"<!--\s*quickstart:\s*(.*?)\s*-->")


class PageError(Exception):
    """A page that cannot be followed."""


@dataclass(frozen=True, slots=True)
class Block:
    """Commands that stand together.

    Attributes:
        line: the page's line in which the first of them is.
        text: the commands, word for word.
        only: for whom they are; empty for everybody.
        tidies: whether they are run after a failure, too.
    """

    line: int
    text: str
    only: str = ""
    tidies: bool = False


def read_blocks(page: str) -> list[Block]:
    """Return all blocks of a page's commands.

    Raises:
        PageError: a mark says what it cannot, or stands above no commands.
    """
    blocks: list[Block] = []
    mark, marked_at = "", 0
    for token in MarkdownIt("commonmark").parse(page):
        found = _MARK.fullmatch(token.content.strip()) if token.type == "html_block" else None
        if found:
            _expect_no(mark, marked_at)
            assert token.map is not None
            mark, marked_at = found[1], token.map[0] + 1
        elif token.type == "fence" and token.info.strip() == _LANGUAGE:
            assert token.map is not None
            blocks.append(_marked(mark, token.map[0] + 2, token.content))
            mark = ""
        elif token.nesting >= 0:
            _expect_no(mark, marked_at)
    _expect_no(mark, marked_at)
    return blocks


def choose(blocks: Iterable[Block], only: str = "") -> list[Block]:
    """Leave out what is for others; of those whom a page names the first is meant unless it is said who.

    Raises:
        PageError: the page has commands for some, and none for this one.
    """
    blocks = list(blocks)
    names = list(dict.fromkeys(block.only for block in blocks if block.only))
    if names and only and only not in names:
        raise PageError(f"has nothing for {only}, but for {', '.join(names)}")
    meant = only or next(iter(names), "")
    return [block for block in blocks if block.only in ("", meant)]


def _marked(mark: str, line: int, text: str) -> Block:
    match mark.split():
        case []:
            return Block(line, text)
        case ["only", name]:
            return Block(line, text, only=name)
        case ["finally"]:
            return Block(line, text, tidies=True)
        case _:
            raise PageError(f"line {line}: nothing is known of the mark {mark!r}")


def _expect_no(mark: str, line: int) -> None:
    if mark:
        raise PageError(f"line {line}: the mark {mark!r} stands above no commands")
