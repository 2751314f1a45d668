"""Turn whatever ends a command into one line, what to do about it, and an exit status; the trace only on demand.

Nothing of the way there may show a secret: messages and traces name no variables' values, and what looks like a
credential is blotted out of both.
"""

from __future__ import annotations

import traceback

import click

from crikpy import log
from crikpy.cli.remedies import remedy_of
from crikpy.errors import CrikpyError, UsageError
from crikpy.log import without_secrets

_GLOBAL_OPTIONS = frozenset({"--debug", "--verbose", "--log-format", "--version"})


def print_error(error: CrikpyError, *, as_json: bool, debug: bool = False) -> None:
    """Print an error: what happened, what to do, the evidence below it, and perhaps where it came from."""
    trace = without_secrets("".join(traceback.format_exception(error))) if debug else ""
    if as_json:
        facts: dict[str, object] = {
            "error": error.reason,
            "remedy": remedy_of(error),
            "detail": error.detail,
            "exit_code": error.exit_code,
        }
        facts |= {"trace": trace} if debug else {}
        click.echo(log.json_line("error", "crikpy", error.message, log.subject_facts() | facts), err=True)
        return
    click.echo(f"crikpy: {error.message}", err=True)
    click.echo(f"crikpy: what to do: {remedy_of(error)}", err=True)
    for line in [*error.detail.splitlines(), *trace.splitlines()]:
        click.echo(f"  | {line}", err=True)


def as_ours(fault: Exception, path: str = "crikpy") -> CrikpyError:
    """Return the error that stands for an exception that ended a command, which is called by this path."""
    if isinstance(fault, CrikpyError):
        return fault
    if isinstance(fault, click.ClickException):
        ours: CrikpyError = _misuse(fault, path)
    else:
        what = _one_line(without_secrets(f"{type(fault).__name__}: {fault}"))
        ours = CrikpyError(
            f"this is a defect of crikpy: {what}",
            remedy="run it again as `crikpy --debug …` and report what that prints",
        )
    ours.__cause__ = fault
    return ours


def _misuse(fault: click.ClickException, path: str) -> UsageError:
    """Say what click says of a wrong command line, as we speak."""
    said = _one_line(fault.format_message()).rstrip(".")
    message = said[:1].lower() + said[1:]
    context = fault.ctx if isinstance(fault, click.UsageError) else None
    path = context.command_path if context else path
    if isinstance(fault, click.NoSuchOption) and fault.option_name in _GLOBAL_OPTIONS:
        group, _, rest = path.partition(" ")
        return UsageError(message, remedy=f"write it before the command: `{group} {fault.option_name} {rest} …`")
    return UsageError(message, remedy=f"`{path} --help` shows what it takes")


def _one_line(text: str) -> str:
    return " ".join(text.split())
