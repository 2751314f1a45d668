"""`crikpy checkpoint`: save a job that runs on this machine, now."""

from __future__ import annotations

import click

from crikpy.aio.clock import Deadline
from crikpy.capsule.places import JobPlace
from crikpy.cli.console import ConsoleReporter, group_options, human_bytes, output_option, print_json, workload_of
from crikpy.cli.main import require_root
from crikpy.flows.checkpointing import CheckpointOrder, checkpoint
from crikpy.model.manifest import Manifest
from crikpy.model.notices import Trigger
from crikpy.settings import Settings
from crikpy.store.opening import open_store


@click.command("checkpoint")
@click.argument("name")
@group_options
@click.option("--leave-running", is_flag=True, help="Let the job run on here afterwards.")
@output_option
@click.pass_obj
def command(settings: Settings, name: str, cluster: str, namespace: str, leave_running: bool, output: str) -> None:
    """Save the job NAME, which `crikpy run` started on this machine, and end it there with status 75."""
    require_root()
    place = JobPlace(settings.run, workload_of(cluster, namespace, name))
    here = place.find()
    order = CheckpointOrder(
        trigger=Trigger.MANUAL,
        command=here.command,
        deadline=Deadline.after(settings.run.manual_deadline_s),
        leave_running=leave_running,
    )

    def mark(_: Manifest) -> None:
        if not leave_running:
            place.mark_moved()

    with ConsoleReporter(as_json=output == "json") as reporter:
        store = open_store(here.store_url, settings.store)
        manifest = checkpoint(here.capsule, store, here.workload, order, settings, reporter, on_committed=mark)
    if output == "json":
        print_json(
            {
                "checkpoint": manifest.checkpoint,
                "image_bytes": manifest.sizes.image_bytes,
                "stored_bytes": manifest.sizes.stored_bytes,
                "frozen_s": manifest.frozen_s,
            }
        )
        return
    sizes = f"{human_bytes(manifest.sizes.image_bytes)}, {human_bytes(manifest.sizes.stored_bytes)} stored"
    click.echo(f"{manifest.checkpoint}: {sizes}, stood still {manifest.frozen_s:.1f} s")
