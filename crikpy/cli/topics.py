"""What `crikpy help` tells beside the commands: exit statuses and settings, as they are in the code that runs."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from crikpy import names, settings
from crikpy.cli.statuses import statuses

_WIDTH = 78


def exit_statuses() -> Iterator[str]:
    """Yield the page on exit statuses, line by line."""
    yield "What crikpy ends with. `run` and `restore` end with the job's own status, once the job"
    yield "has begun, but for 75."
    yield ""
    for status in statuses():
        again = "; trying again may help" if status.retryable and status.reason else ""
        head = f"{status.code:>3}  "
        yield click.wrap_text(f"{status.meaning}{again}.", _WIDTH, initial_indent=head, subsequent_indent=" " * 5)


def all_settings() -> Iterator[str]:
    """Yield the page on settings: every variable with its default and its meaning."""
    yield "Every setting is an environment variable. Sizes are bytes, or a number with Ki, Mi or Gi"
    yield "behind it; times are seconds; switches are true or false; lists are separated by commas."
    meanings = _meanings()
    defaults = settings.Settings()
    for group in dataclasses.fields(settings.Settings):
        values = getattr(defaults, group.name)
        yield ""
        yield (inspect.getdoc(type(values)) or "").partition("\n")[0]
        for item in dataclasses.fields(values):
            yield ""
            name = f"{names.ENV_PREFIX}{group.name}_{item.name}".upper()
            line = f"{name}={_shown(getattr(values, item.name))}"
            yield click.wrap_text(line, _WIDTH, initial_indent="  ", subsequent_indent="    ")
            meaning = meanings.get((type(values).__name__, item.name), "")
            yield click.wrap_text(meaning, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)


TOPICS = {"exit-statuses": exit_statuses, "settings": all_settings}


def _meanings() -> dict[tuple[str, str], str]:
    """Return what stands below each field of the settings, by class and field; Python itself does not keep it."""
    found = {}
    source = Path(inspect.getfile(settings)).read_text(encoding="utf-8")
    for group in ast.parse(source).body:
        if not isinstance(group, ast.ClassDef):
            continue
        name = ""
        for part in group.body:
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                name = part.target.id
            elif name and isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant):
                found[group.name, name] = " ".join(str(part.value.value).split())
                name = ""
    return found


def _shown(value: object) -> str:
    """Return a default as a user would type it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value and value % settings.MIB == 0:
        return f"{value // settings.MIB}Mi"
    return str(value)
