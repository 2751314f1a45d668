"""How long, as a word of a command: `90s`, `10m`, `24h`, `30d`; nothing else may read such a word."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

import click

_AGE: Final = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST: Final = timedelta(days=3650)


class Age:
    """The callback of an option that takes a duration of up to ten years.

    Args:
        least: the shortest that makes sense.
    """

    def __init__(self, least: timedelta = timedelta(0)) -> None:
        self._least = least

    def __call__(self, context: click.Context, option: click.Parameter, text: str | None) -> timedelta | None:
        """Read what was typed, if anything was."""
        if text is None:
            return None
        found = _AGE.fullmatch(text)
        if found is None:
            raise click.BadParameter("a number and one of s, m, h, d, such as 24h")
        age = timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
        if not self._least <= age <= _LONGEST:
            raise click.BadParameter(f"{text} is not from {self._least.total_seconds():.0f}s to {_LONGEST.days}d")
        return age
