"""How a command logs: as its options say, else the settings, else whoever reads its standard error.

What a command tells by the way (crikpy.cli.reporting) and its error at the end speak as its log does, so that one
program can read all of standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from crikpy import log
from crikpy.cli.output import JSON, wants_json
from crikpy.errors import SettingsError
from crikpy.settings import LogSettings

_F = TypeVar("_F", bound=Callable[..., Any])

TEXT: Final = "text"
_OLD_NAMES: Final = {"plain": TEXT}
_JSON_KEY: Final = "crikpy.cli.logs.json"
"""In the contexts' common memory: that standard error is to be JSON lines."""


class Formats(click.Choice[str]):
    """The forms of the log; the name that `text` had before goes on to work."""

    def __init__(self) -> None:
        super().__init__([TEXT, JSON])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the form that a word names."""
        return super().convert(_OLD_NAMES.get(value, value), param, ctx)


def log_format_option(default: str) -> Callable[[_F], _F]:
    """Give a command `--log-format`; the default is told in words."""
    return click.option(
        "--log-format",
        type=Formats(),
        help=f"How to log, on standard error.  [env: CRIKPY_LOG_FORMAT; default: {default}]",
    )


def set_up_log(
    context: click.Context,
    settings: LogSettings,
    *,
    asked: str | None = None,
    service: bool = False,
    **process: str,
) -> None:
    """Set the log of this process up; a later call has the last word.

    Args:
        context: of the command; its root has the options for all commands.
        settings: what counts where no option says it.
        asked: the command's own `--log-format`.
        service: a process that nobody watches speaks JSON, and text with times, unless it is at a terminal.
        process: what every record says of this process.

    Raises:
        SettingsError: a setting names no format or level.
    """
    options = context.find_root().params
    chosen = asked or options.get("log_format") or _known_format(settings.format)
    watched = sys.stderr.isatty()
    as_json = chosen == JSON if chosen else wants_json(sys.argv[1:]) or (service and not watched)
    context.meta[_JSON_KEY] = as_json
    log.set_up(
        as_json=as_json,
        level=log.LEVELS["debug"] if options.get("verbose") else _known_level(settings.level),
        process=process,
        timed=service and not watched,
        traces=bool(options.get("debug")),
    )


def tells_json(output: str = "") -> bool:
    """Say whether what the running command tells by the way is to be JSON: as its output, or as its log."""
    context = click.get_current_context(silent=True)
    return output == JSON or (context is not None and log_is_json(context))


def log_is_json(context: click.Context) -> bool:
    """Say whether the log of a command is JSON."""
    return bool(context.meta.get(_JSON_KEY))


def _known_format(name: str) -> str:
    name = _OLD_NAMES.get(name, name)
    if name not in ("", TEXT, JSON):
        raise SettingsError(f"CRIKPY_LOG_FORMAT={name!r}: must be {TEXT} or {JSON}")
    return name


def _known_level(name: str) -> int:
    if name not in log.LEVELS:
        raise SettingsError(f"CRIKPY_LOG_LEVEL={name!r}: must be one of {', '.join(log.LEVELS)}")
    return log.LEVELS[name]
