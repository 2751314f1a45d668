"""`crikpy list`: what the store holds, or which Checkpoint objects a cluster has."""

from __future__ import annotations

import dataclasses
from collections.abc import Sized
from functools import partial

import click
from rich.console import Console
from rich.table import Table

from crikpy import names
from crikpy.cli.clusters import on_cluster, order_facts, order_table, pod_name
from crikpy.cli.console import human_bytes, output_option, print_json, store_option
from crikpy.errors import SettingsError
from crikpy.kube.client import KubeClient
from crikpy.kube.requesting import list_orders
from crikpy.model.orders import Order
from crikpy.model.workload import Workload
from crikpy.settings import Settings
from crikpy.store.checkpoints import Checkpoints, list_workloads
from crikpy.store.opening import open_store
from crikpy.store.records import CheckpointSummary

_WIDTH = 160
"""Room for whole ids: a terminal may break a line, but a cut id is of no use."""


@click.command("list")
@click.argument("name", required=False)
@partial(store_option, required=False)
@click.option("--cluster", help="In a store: only this cluster, or this group of machines.")
@click.option("-n", "--namespace", help="Only this namespace, or this part of the group.")
@click.option("-A", "--all-namespaces", is_flag=True, help="On a cluster: all namespaces.")
@output_option
@click.pass_obj
def command(
    settings: Settings,
    name: str | None,
    store_url: str | None,
    cluster: str | None,
    namespace: str | None,
    all_namespaces: bool,
    output: str,
) -> None:
    """List checkpoints, the newest first.

    With --store those in a store, of the job NAME or of all jobs. Without, the Checkpoint objects of the cluster
    that kubectl would speak to, of the pod NAME (or pod/NAME) or of all pods.
    """
    if store_url:
        _list_store(settings, name, store_url, cluster, namespace, output)
    else:
        pod = name and (pod_name(name) or name)
        _list_orders(settings, pod, namespace, all_namespaces=all_namespaces, output=output)


def _list_orders(
    settings: Settings, pod: str | None, namespace: str | None, *, all_namespaces: bool, output: str
) -> None:
    async def orders(api: KubeClient) -> list[Order]:
        found = await list_orders(api, "" if all_namespaces else namespace or api.default_namespace)
        return sorted(
            (order for order in found if pod is None or order.spec.pod == pod),
            key=lambda order: (order.created.timestamp() if order.created else 0.0, order.name),
            reverse=True,
        )

    try:
        found = on_cluster(settings, orders)
    except SettingsError as fault:
        remedy = f"{fault.remedy}; with --store URL, what a store holds is listed"
        raise SettingsError(fault.message, remedy=remedy) from fault
    if output == "json":
        print_json([order_facts(order) for order in found])
    else:
        _show(order_table(found, with_namespace=all_namespaces), found)


def _list_store(
    settings: Settings, name: str | None, store_url: str, cluster: str | None, namespace: str | None, output: str
) -> None:
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
    else:
        _show(_table(found), found)


def _show(table: Table, found: Sized) -> None:
    if not len(found):
        click.echo("no checkpoints", err=True)
        return
    console = Console()
    console.width = max(console.width, _WIDTH)
    console.print(table, crop=False)


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
