"""`crikpy list`: what the store holds."""

from __future__ import annotations

import dataclasses

import click
from rich.console import Console
from rich.table import Table

from crikpy import names
from crikpy.cli.console import human_bytes, output_option, print_json, store_option
from crikpy.model.workload import Workload
from crikpy.settings import Settings
from crikpy.store.checkpoints import Checkpoints, list_workloads
from crikpy.store.opening import open_store
from crikpy.store.records import CheckpointSummary

_WIDTH = 160
"""Room for whole ids: a terminal may break a line, but a cut id is of no use."""


@click.command("list")
@click.argument("name", required=False)
@store_option
@click.option("--cluster", help="Only this group of machines.")
@click.option("--namespace", help="Only this part of the group.")
@output_option
@click.pass_obj
def command(
    settings: Settings,
    name: str | None,
    store_url: str,
    cluster: str | None,
    namespace: str | None,
    output: str,
) -> None:
    """List checkpoints, the newest first; those of the job NAME, or of all jobs."""
    store = open_store(store_url, settings.store)
    workloads = list_workloads(store, cluster=cluster, namespace=namespace)
    found = [
        (workload, summary)
        for workload in workloads
        if name is None or workload.name == name
        for summary in Checkpoints(store, workload).list()
    ]
    if output == "json":
        print_json([_facts(workload, summary) for workload, summary in found])
    elif not found:
        click.echo("no checkpoints", err=True)
    else:
        console = Console()
        console.width = max(console.width, _WIDTH)
        console.print(_table(found), crop=False)


def state_of(summary: CheckpointSummary) -> str:
    """Return in a few words what a checkpoint is good for."""
    if summary.fault:
        return "damaged"
    if summary.quarantine:
        return "quarantined"
    if not summary.complete:
        return "incomplete"
    if summary.claim:
        return f"{summary.claim.outcome} on {summary.claim.host}"
    return "resumable"


def _facts(workload: Workload, summary: CheckpointSummary) -> dict[str, object]:
    return {"workload": str(workload), **dataclasses.asdict(summary), "state": state_of(summary)}


def _table(found: list[tuple[Workload, CheckpointSummary]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("JOB", "CHECKPOINT", "STATE", "SIZE", "STORED", "TRIGGER", "TAKEN ON", "CREATED"):
        table.add_column(column, no_wrap=True)
    for workload, summary in found:
        sizes = summary.sizes
        table.add_row(
            _shown(workload),
            summary.id,
            state_of(summary),
            human_bytes(sizes.image_bytes) if sizes else "",
            human_bytes(sizes.stored_bytes) if sizes else "",
            summary.trigger,
            summary.host,
            summary.created[:19],
        )
    return table


def _shown(workload: Workload) -> str:
    """Return the name alone where it is of the usual group."""
    usual = (workload.cluster, workload.namespace) == names.PLAIN_GROUP
    return workload.name if usual else str(workload)
