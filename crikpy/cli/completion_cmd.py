"""`crikpy completion`: what a shell must read to complete command lines of crikpy."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from crikpy.cli.completing import VARIABLE
from crikpy.cli.helping import epilog

_SHELLS = ("bash", "zsh", "fish")


@click.command(
    "completion",
    short_help="Print what a shell needs to complete command lines.",
    epilog=epilog(
        '# now, in this shell\neval "$(crikpy completion bash)"',
        "# for good\ncrikpy completion bash > /etc/bash_completion.d/crikpy",
        'crikpy completion zsh > "${fpath[1]}/_crikpy"',
        "crikpy completion fish > ~/.config/fish/completions/crikpy.fish",
    ),
)
@click.argument("shell", type=click.Choice(_SHELLS), metavar="SHELL")
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print what SHELL (bash, zsh or fish) must read to complete commands, options and their values.

    `kubectl crikpy` is completed by kubectl's own completion, which asks kubectl_complete-crikpy; that is
    installed beside crikpy.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"nothing is known of {shell}", ctx=context)
    click.echo(kind(context.find_root().command, {}, "crikpy", VARIABLE).source())
