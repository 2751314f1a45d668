"""`crikpy verify`: read every chunk of a checkpoint, as a restore would."""

from __future__ import annotations

import dataclasses
from functools import partial

import click

from crikpy.cli.helping import STORE_ENVIRONMENT, epilog
from crikpy.cli.logs import tells_json
from crikpy.cli.output import TABLE, print_data
from crikpy.cli.reporting import ConsoleReporter
from crikpy.cli.selecting import checkpoint_options, select
from crikpy.errors import IntegrityError
from crikpy.model.quantities import human_size
from crikpy.settings import Settings
from crikpy.store.verifying import verify


@click.command(
    "verify",
    short_help="Check every chunk of a checkpoint against its hash.",
    epilog=epilog(
        "crikpy verify train-7 --store s3://my-bucket/jobs",
        environment=STORE_ENVIRONMENT,
        statuses=("0 if every chunk is sound, 57 if not: crikpy help exit-statuses",),
    ),
)
@checkpoint_options
@click.pass_obj
def command(
    settings: Settings,
    name: str,
    identity: str | None,
    store_url: str,
    cluster: str,
    namespace: str,
    output: str,
) -> None:
    """Check every chunk of a checkpoint of the job NAME against its hash; without CHECKPOINT, of the newest."""
    selected = select(
        settings, name=name, identity=identity, store_url=store_url, cluster=cluster, namespace=namespace
    )
    manifest = selected.manifest()
    with ConsoleReporter(as_json=tells_json(output)) as reporter:
        faults = verify(
            selected.store,
            selected.workload,
            manifest.job_images,
            settings=settings.store,
            on_progress=partial(reporter.transfer, "download"),
        )
    if output != TABLE:
        facts = [dataclasses.asdict(fault) for fault in faults]
        print_data({"checkpoint": manifest.checkpoint, "sound": not faults, "faults": facts}, output)
        if faults:
            raise click.exceptions.Exit(IntegrityError.exit_code)
        return
    if faults:
        raise IntegrityError(
            f"checkpoint {manifest.checkpoint} is damaged: {len(faults)} of its chunks cannot be used",
            remedy=f"`crikpy rm {name} {manifest.checkpoint}` removes it; it would not be resumed",
            detail="\n".join(f"{fault.chunk}: {fault.reason}" for fault in faults),
        )
    click.echo(f"{manifest.checkpoint}: sound, {human_size(manifest.sizes.image_bytes)} read and compared")
