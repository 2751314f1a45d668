"""Whether and how to colour: never where NO_COLOR asks not to, on a dumb terminal, or where there is no terminal.

https://no-color.org/ is followed to the letter: any value that is not empty counts.
"""

from __future__ import annotations

import os
import sys

from rich.console import Console


def colourless() -> bool:
    """Say whether colours are unwanted even on a terminal."""
    return bool(os.environ.get("NO_COLOR")) or _dumb()


def for_click() -> bool | None:
    """Return what click's contexts want to know: False, or None to let each stream decide."""
    return False if colourless() else None


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return a console of rich that keeps to it; it neither highlights numbers nor reads markup.

    On a dumb terminal it moves no cursor either, as in a pipe.
    """
    stream = sys.stderr if stderr else sys.stdout
    terminal = False if _dumb() or not stream.isatty() else None
    return _Console(
        stderr=stderr,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
        force_terminal=terminal,
        no_color=colourless() or None,
    )


class _Console(Console):
    """A console that tells its caller of a closed pipe; rich would end the program by itself."""

    def on_broken_pipe(self) -> None:
        """Say so to whoever prints."""
        raise BrokenPipeError


def _dumb() -> bool:
    return os.environ.get("TERM") == "dumb"
