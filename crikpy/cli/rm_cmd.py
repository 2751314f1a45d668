"""`crikpy rm`: remove one checkpoint."""

from __future__ import annotations

import click

from crikpy.cli.console import group_options, store_option, workload_of
from crikpy.cli.helping import STORE_ENVIRONMENT, epilog
from crikpy.cli.output import TABLE, output_option, print_data
from crikpy.settings import Settings
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.opening import open_store


@click.command(
    "rm",
    short_help="Remove a checkpoint.",
    epilog=epilog(
        "crikpy rm train-7 20250131T120000Z-0123abcd --store s3://my-bucket/jobs",
        environment=STORE_ENVIRONMENT,
    ),
)
@click.argument("name")
@click.argument("identity", metavar="CHECKPOINT")
@store_option
@group_options
@output_option
@click.pass_obj
def command(
    settings: Settings, name: str, identity: str, store_url: str, cluster: str, namespace: str, output: str
) -> None:
    """Remove a checkpoint of the job NAME. Its chunks go with the next `crikpy gc`, if nothing else needs them."""
    checkpoints = Checkpoints(open_store(store_url, settings.store), workload_of(cluster, namespace, name))
    summary = checkpoints.summary(identity)
    checkpoints.remove(summary.id)
    if output != TABLE:
        print_data({"removed": summary.id}, output)
    else:
        click.echo(f"removed {summary.id}; `crikpy gc` frees its room")
