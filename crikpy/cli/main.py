"""The entry point: find the command, run it, turn an error into one line and its exit status."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import click

import crikpy
from crikpy import settings
from crikpy.cli import colours
from crikpy.cli.completing import VARIABLE, answer_shell
from crikpy.cli.failing import as_ours, print_error
from crikpy.cli.helping import epilog
from crikpy.cli.logs import log_format_option, log_is_json, set_up_log
from crikpy.cli.output import wants_json
from crikpy.errors import NotRootError

_COMMANDS = {
    "check": "check_cmd",
    "run": "run_cmd",
    "restore": "restore_cmd",
    "checkpoint": "checkpoint_cmd",
    "list": "list_cmd",
    "show": "show_cmd",
    "diff": "diff_cmd",
    "verify": "verify_cmd",
    "rm": "rm_cmd",
    "gc": "gc_cmd",
    "why": "why_cmd",
    "top": "top_cmd",
    "uninstall": "uninstall_cmd",
    "agent": "agent_cmd",
    "controller": "controller_cmd",
    "completion": "completion_cmd",
    "help": "help_cmd",
}

_WITHOUT_SETTINGS = ("completion", "help")
"""Commands that a bad setting must not keep from saying what a good one is."""


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
            return super().get_command(ctx, cmd_name)
        command = import_module(f"crikpy.cli.{module}").command
        return command if isinstance(command, click.Command) else None


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=epilog(
        "crikpy check",
        "crikpy run --name train-7 --store s3://my-bucket/jobs -- python train.py",
        "crikpy list --store s3://my-bucket/jobs",
        "crikpy --debug show train-7 --store s3://my-bucket/jobs",
        environment=(
            "CRIKPY_…             settings of every kind: crikpy help settings",
            "NO_COLOR             set to anything, there are no colours",
        ),
    ),
)
@click.version_option(crikpy.__version__, prog_name="crikpy")
@log_format_option("as --output")
@click.option("--verbose", is_flag=True, help="Log what is done, for bug reports.")
@click.option("--debug", is_flag=True, help="Add to an error where in crikpy it came from.")
@click.pass_context
def cli(context: click.Context, log_format: str | None, verbose: bool, debug: bool) -> None:
    """Move long-running jobs off machines that are about to die.

    crikpy COMMAND --help tells all of a command. Results go to standard output, all else to standard error.
    """
    command = context.invoked_subcommand or ""
    found = settings.Settings()
    if command not in _WITHOUT_SETTINGS:
        context.obj = found = settings.from_env(os.environ)
    set_up_log(context, found.log, component=command)


def require_root() -> None:
    """Refuse what only root can do, before anything is begun.

    Raises:
        NotRootError: with what to do.
    """
    if os.geteuid() != 0:
        raise NotRootError(
            "only root may enter the namespaces of a job", remedy="run it as root, for example with sudo -E"
        )


def main() -> None:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no bars shows marks, and no error
    if instruction := os.environ.get(VARIABLE):
        sys.exit(answer_shell(cli, instruction))
    sys.exit(run(sys.argv[1:], program_name(sys.argv[0])))


def program_name(called: str) -> str:
    """Return how we were called, as a user types it: kubectl calls its plug-ins by another name."""
    return "kubectl crikpy" if Path(called).name == "kubectl-crikpy" else "crikpy"


def run(words: list[str], program: str) -> int:
    """Run one command line; return its exit status, when all that is to be said of an error was said.

    Args:
        words: what follows the program's name.
        program: that name, as helps shall show it.
    """
    as_json, debug, path = wants_json(words), False, program
    try:
        with cli.make_context(program, list(words), color=colours.for_click()) as context:
            debug = bool(context.params.get("debug"))
            try:
                status = _status_of(context)
            finally:
                as_json = as_json or log_is_json(context)
                path = f"{program} {context.invoked_subcommand}"
    except click.exceptions.Exit as ended:  # of --help and --version, which end the parsing
        status = ended.exit_code
    except click.exceptions.NoArgsIsHelpError as fault:
        fault.show()
        status = fault.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except Exception as fault:  # noqa: BLE001  # whatever it is, nobody else is left to tell of it
        error = as_ours(fault, path)
        print_error(error, as_json=as_json, debug=debug)
        status = error.exit_code
    return status


def _status_of(context: click.Context) -> int:
    try:
        cli.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    return 0
