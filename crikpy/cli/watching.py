"""Tables of things that change: shown once, or with `--watch` for as long as somebody looks.

A command gives a function that looks and returns a Listing. On a terminal `--watch` draws it again and again in
place. Elsewhere it appends, as kubectl does: all rows at first, then those that are new or say something else, and
for programs one document for each, with what became of it. Ctrl-C ends it with status 0, since nothing else does;
a closed pipe ends it as it ends any command.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click
from rich.live import Live
from rich.text import Text

from crikpy.cli import colours
from crikpy.cli.output import TABLE, print_data, print_line
from crikpy.errors import CrikpyError

_F = TypeVar("_F", bound=Callable[..., Any])
_GAP = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing of a listing.

    Attributes:
        key: what tells it from the other things, the same in every look.
        cells: its words for people, one for each column.
        facts: the same for programs; a row has changed when these have, so that an age alone is no news.
        style: how rich shall write it, such as `red`; may be empty.
    """

    key: str
    cells: tuple[str, ...]
    facts: Mapping[str, object]
    style: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What was seen by one look.

    Attributes:
        columns: their heads.
        rows: in the order of their showing.
        right: columns of numbers, which stand at the right.
        empty: what is said, on standard error, when there are no rows.
        foot: lines below the rows, for people alone.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    right: tuple[str, ...] = ()
    empty: str = "nothing found"
    foot: tuple[str, ...] = ()


def watch_options(command: _F) -> _F:
    """Give a command `-w`, `--watch` and `--interval SECONDS`; it gets them as `watch` and `interval`."""
    command = click.option(
        "--interval",
        type=click.FloatRange(min=0.2, max=3600.0),
        default=2.0,
        show_default=True,
        metavar="SECONDS",
        help="With --watch: how long to wait between two looks.",
    )(command)
    return click.option("-w", "--watch", is_flag=True, help="Go on looking, until Ctrl-C.")(command)


def present(look: Callable[[], Listing], *, output: str, watch: bool, interval: float) -> None:
    """Show a listing once, or for as long as it is watched.

    Args:
        look: called for each showing. A retryable error of a later look is told and the next one awaited.
        output: the form, as `--output` has it.
        watch: whether to go on.
        interval: seconds between two looks.
    """
    if not watch:
        show(look(), output)
        return
    try:
        if output == TABLE and colours.console().is_terminal:
            _redraw(look, interval)
        else:
            _append(look, output, interval)
    except KeyboardInterrupt:
        return


def show(listing: Listing, output: str) -> None:
    """Show a listing once; for programs it is an array of the rows' facts."""
    if output != TABLE:
        print_data([row.facts for row in listing.rows], output)
        return
    if listing.rows:
        widths = _widths(listing)
        colours.console(width=sum(widths) + len(_GAP) * len(widths)).print(_drawn(listing, widths), soft_wrap=True)
    else:
        click.echo(listing.empty, err=True)
    for line in listing.foot:
        click.echo(line)


def _looks(look: Callable[[], Listing], interval: float) -> Iterator[Listing | CrikpyError]:
    """Look at once and then at every interval; only what may pass is forgiven, and never at the first look."""
    yield look()
    while True:
        time.sleep(interval)
        try:
            seen: Listing | CrikpyError = look()
        except CrikpyError as fault:
            if not fault.retryable:
                raise
            seen = fault
        yield seen


def _redraw(look: Callable[[], Listing], interval: float) -> None:
    with Live(console=colours.console(), auto_refresh=False, vertical_overflow="crop") as live:
        body = Text()
        for seen in _looks(look, interval):
            if isinstance(seen, CrikpyError):
                shown = Text.assemble(body, f"\ncrikpy: {seen.message}; trying again")
            else:
                above = _drawn(seen, _widths(seen)) if seen.rows else Text(seen.empty)
                shown = body = Text("\n").join([above, *(Text(line) for line in seen.foot)])
            # A line that wraps would count as two, and spoil the drawing in place.
            shown.no_wrap, shown.overflow = True, "ellipsis"
            live.update(shown, refresh=True)


@dataclass(slots=True)
class _Appended:
    """What was appended so far: each row's facts, and how wide the columns are."""

    facts: dict[str, Mapping[str, object]] = field(default_factory=dict)
    widths: list[int] = field(default_factory=list)


def _append(look: Callable[[], Listing], output: str, interval: float) -> None:
    told = _Appended()
    for seen in _looks(look, interval):
        if isinstance(seen, CrikpyError):
            click.echo(f"crikpy: {seen.message}; trying again", err=True)
        elif output == TABLE:
            _append_lines(seen, told)
        else:
            _append_documents(seen, told, output)


def _append_lines(seen: Listing, told: _Appended) -> None:
    changed = [row for row in seen.rows if told.facts.get(row.key) != row.facts]
    if changed and not told.widths:
        told.widths = _widths(seen)
        click.echo(_line(seen.columns, told.widths, seen))
    for row in changed:
        click.echo(_line(row.cells, told.widths, seen))
    told.facts = {row.key: row.facts for row in seen.rows}


def _append_documents(seen: Listing, told: _Appended, output: str) -> None:
    now = {row.key: row.facts for row in seen.rows}
    for key, facts in now.items():
        if key not in told.facts:
            print_line({"change": "added", **facts}, output)
        elif told.facts[key] != facts:
            print_line({"change": "changed", **facts}, output)
    for key, facts in told.facts.items():
        if key not in now:
            print_line({"change": "removed", **facts}, output)
    told.facts = now


def _widths(listing: Listing) -> list[int]:
    lines = [listing.columns, *(row.cells for row in listing.rows)]
    return [max(len(line[at]) for line in lines) for at in range(len(listing.columns))]


def _drawn(listing: Listing, widths: list[int]) -> Text:
    head = Text(_line(listing.columns, widths, listing), style="bold")
    rows = [Text(_line(row.cells, widths, listing), style=row.style) for row in listing.rows]
    return Text("\n").join([head, *rows])


def _line(cells: tuple[str, ...], widths: list[int], listing: Listing) -> str:
    padded = [
        cell.rjust(width) if column in listing.right else cell.ljust(width)
        for cell, width, column in zip(cells, widths, listing.columns, strict=True)
    ]
    return _GAP.join(padded).rstrip()
