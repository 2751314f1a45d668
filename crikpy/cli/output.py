"""How results are printed: as a table for people, as JSON or YAML for programs; the one place that decides it.

Results go to standard output, everything about the way there to standard error, so that a pipe stays clean.
Standard error speaks JSON lines with `--output json`, and text otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])

TABLE: Final = "table"
JSON: Final = "json"
YAML: Final = "yaml"
_OLD_NAMES: Final = {"text": TABLE}


class _Forms(click.Choice[str]):
    """The forms of output; the name that `table` had before goes on to work."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(_OLD_NAMES.get(value, value), param, ctx)


def output_option(command: _F) -> _F:
    """Give a command `-o`, `--output table|json|yaml`."""
    return click.option(
        "-o",
        "--output",
        type=_Forms([TABLE, JSON, YAML]),
        default=TABLE,
        show_default=True,
        help="How to print what was found or done: for people, or for programs.",
    )(command)


def wants_json(words: Sequence[str]) -> bool:
    """Say whether `--output json` was asked of us, and not of a job's command; known before anything is parsed."""
    ours = list(words[: words.index("--")] if "--" in words else words)
    joined = {"--output=json", "-ojson", "-o=json"} & set(ours)
    return bool(joined) or any(pair in {("--output", JSON), ("-o", JSON)} for pair in pairwise(ours))


def print_data(value: object, output: str) -> None:
    """Print one document in a form for programs; what is neither text nor number is written as text."""
    click.echo(as_yaml(value) if output == YAML else json.dumps(value, indent=2, default=str))


def print_line(value: object, output: str) -> None:
    """Print one of many documents: a line of JSON, or YAML that begins with `---`."""
    click.echo(f"---\n{as_yaml(value)}" if output == YAML else json.dumps(value, default=str))


def as_yaml(value: object) -> str:
    """Return a document as YAML that says what the JSON would say, without a newline at the end."""
    import yaml

    plain = json.loads(json.dumps(value, default=str))
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=False, width=100)
    return text.rstrip("\n")
