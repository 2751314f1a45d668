"""`crikpy help`: what `--help` says, and what is too long for it."""

from __future__ import annotations

import click

from crikpy.cli.helping import epilog
from crikpy.cli.topics import TOPICS


@click.command(
    "help",
    short_help="Tell of a command, of exit-statuses, or of settings.",
    epilog=epilog("crikpy help gc", "crikpy help exit-statuses", "crikpy help settings | less"),
)
@click.argument("topic", required=False)
@click.pass_context
def command(context: click.Context, topic: str | None) -> None:
    """Tell of a command, of exit-statuses, or of settings (all environment variables)."""
    root = context.find_root()
    if topic is None:
        click.echo(root.get_help())
        return
    if topic in TOPICS:
        click.echo("\n".join(TOPICS[topic]()))
        return
    group = root.command
    found = group.get_command(root, topic) if isinstance(group, click.Group) else None
    if found is None:
        known = f"{', '.join(TOPICS)} or a command"
        raise click.UsageError(f"nothing is known of {topic!r}; TOPIC is {known}", ctx=context)
    with click.Context(found, parent=root, info_name=topic) as about:
        click.echo(found.get_help(about))
