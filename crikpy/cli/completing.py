"""Complete command lines: for shells by click's own protocol, for kubectl by that of its plug-ins.

kubectl calls the program `kubectl_complete-crikpy` with the words so far and takes a line for each completion, its
meaning behind a tab, and last `:4` if nothing else may be offered, or `:0` if names of files may.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import click
from click.shell_completion import ShellComplete, shell_complete

VARIABLE: Final = "_CRIKPY_COMPLETE"
_FILES = ":0"
_NOTHING_ELSE = ":4"


def answer_shell(command: click.Command, instruction: str) -> int:
    """Answer a shell's question, which is in the environment; return the exit status."""
    return shell_complete(command, {}, "crikpy", VARIABLE, instruction)


def kubectl_lines(command: click.Command, words: Sequence[str]) -> list[str]:
    """Return the answer to kubectl, for the words behind `kubectl crikpy`, the last of them unfinished."""
    *before, unfinished = words or [""]
    items = ShellComplete(command, {}, "kubectl crikpy", "").get_completions(list(before), unfinished)
    lines = [f"{item.value}\t{item.help or ''}".rstrip("\t") for item in items if item.type == "plain"]
    return [*lines, _FILES if any(item.type != "plain" for item in items) else _NOTHING_ELSE]


def for_kubectl() -> None:
    """Answer kubectl."""
    from crikpy.cli.main import cli

    print("\n".join(kubectl_lines(cli, sys.argv[1:])))
