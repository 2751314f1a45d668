"""The entry point: find the command, run it, turn an error into one line and its exit status."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from itertools import pairwise

import click

import crikpy
from crikpy import log, settings
from crikpy.cli.console import print_error
from crikpy.errors import CrikpyError, NotRootError

_COMMANDS = {
    "check": "check_cmd",
    "run": "run_cmd",
    "restore": "restore_cmd",
    "checkpoint": "checkpoint_cmd",
    "list": "list_cmd",
    "show": "show_cmd",
    "verify": "verify_cmd",
    "rm": "rm_cmd",
    "gc": "gc_cmd",
    "why": "why_cmd",
    "uninstall": "uninstall_cmd",
    "agent": "agent_cmd",
    "controller": "controller_cmd",
}


class _Commands(click.Group):
    """Loads a command's module when it is asked for: `crikpy check` need not wait for the store's libraries."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of their use."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        from importlib import import_module

        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = import_module(f"crikpy.cli.{module}").command
        return command if isinstance(command, click.Command) else None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(crikpy.__version__, prog_name="crikpy")
@click.option("--log-format", type=click.Choice(["plain", "json"]), help="How to log.  [default: as --output]")
@click.option("--verbose", is_flag=True, help="Log what is done, for bug reports.")
@click.pass_context
def cli(context: click.Context, log_format: str | None, verbose: bool) -> None:
    """Move long-running jobs off machines that are about to die.

    Every command takes its further settings from CRIKPY_ variables; docs/settings.md lists them.
    """
    as_json = log_format == "json" if log_format else _wants_json(sys.argv[1:])
    log.set_up(as_json=as_json, level=logging.DEBUG if verbose else logging.INFO)
    context.obj = settings.from_env(os.environ)


def require_root() -> None:
    """Refuse what only root can do, before anything is begun.

    Raises:
        NotRootError: with what to do.
    """
    if os.geteuid() != 0:
        raise NotRootError(
            "only root may enter the namespaces of a job", remedy="run it as root, for example with sudo -E"
        )


def _wants_json(words: Sequence[str]) -> bool:
    """Say whether `--output json` was asked of us, and not of a job's command; known before anything is parsed."""
    ours = list(words[: words.index("--")] if "--" in words else words)
    return "--output=json" in ours or ("--output", "json") in pairwise(ours)


def main() -> None:
    """Run the command line and exit."""
    as_json = _wants_json(sys.argv[1:])
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Exit as ended:
        status = ended.exit_code
    except click.ClickException as fault:
        fault.show()
        status = fault.exit_code
    except click.Abort:
        status = 130
    except CrikpyError as fault:
        print_error(fault, as_json=as_json)
        status = fault.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status if isinstance(status, int) else 0)
