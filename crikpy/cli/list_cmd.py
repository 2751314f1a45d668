"""`crikpy list`: what the store holds, or which Checkpoint objects a cluster has."""

from __future__ import annotations

import dataclasses
from functools import partial

import click

from crikpy import names
from crikpy.cli.clusters import on_cluster, order_listing, pod_name
from crikpy.cli.console import store_option
from crikpy.cli.helping import CLUSTER_ENVIRONMENT, STORE_ENVIRONMENT, epilog
from crikpy.cli.output import output_option
from crikpy.cli.watching import Listing, Row, present, watch_options
from crikpy.errors import SettingsError
from crikpy.kube.client import KubeClient
from crikpy.kube.requesting import list_orders
from crikpy.model.orders import Order
from crikpy.model.quantities import human_size
from crikpy.model.workload import Workload
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints, list_workloads
from crikpy.store.opening import open_store
from crikpy.store.records import CheckpointSummary

_STYLES = {"damaged": "red", "quarantined": "red", "incomplete": "yellow", "resumable": "green"}


@click.command(
    "list",
    short_help="List checkpoints, the newest first.",
    epilog=epilog(
        "crikpy list --store s3://my-bucket/jobs",
        "# Checkpoint objects of a cluster, as they come\ncrikpy list --all-namespaces --watch",
        "crikpy list train-7 --store /mnt/jobs --output json",
        environment=(*STORE_ENVIRONMENT, *CLUSTER_ENVIRONMENT),
    ),
)
@click.argument("name", required=False)
@partial(store_option, required=False)
@click.option("--cluster", metavar="NAME", help="In a store: only this cluster, or this group of machines.")
@click.option("-n", "--namespace", metavar="NAME", help="Only this namespace, or this part of the group.")
@click.option("-A", "--all-namespaces", is_flag=True, help="On a cluster: all namespaces.")
@watch_options
@output_option
@click.pass_obj
def command(
    settings: Settings,
    name: str | None,
    store_url: str | None,
    cluster: str | None,
    namespace: str | None,
    all_namespaces: bool,
    watch: bool,
    interval: float,
    output: str,
) -> None:
    """List checkpoints, the newest first.

    With --store those in a store, of the job NAME or of all jobs. Without, the Checkpoint objects of the cluster
    that kubectl would speak to, of the pod NAME (or pod/NAME) or of all pods.
    """
    if store_url:
        look = partial(_of_store, open_store(store_url, settings.store), name, cluster, namespace)
    else:
        pod = name and (pod_name(name) or name)
        look = partial(_of_cluster, settings, pod, namespace, all_namespaces=all_namespaces)
    present(look, output=output, watch=watch, interval=interval)


def _of_cluster(settings: Settings, pod: str | None, namespace: str | None, *, all_namespaces: bool) -> Listing:
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
    return order_listing(found, with_namespace=all_namespaces)


def _of_store(store: ObjectStore, name: str | None, cluster: str | None, namespace: str | None) -> Listing:
    rows = tuple(
        _row(workload, summary)
        for workload in list_workloads(store, cluster=cluster, namespace=namespace)
        if name is None or workload.name == name
        for summary in Checkpoints(store, workload).list()
    )
    columns = ("JOB", "CHECKPOINT", "STATE", "SIZE", "STORED", "TRIGGER", "TAKEN ON", "CREATED")
    return Listing(columns=columns, rows=rows, right=("SIZE", "STORED"), empty="no checkpoints")


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


def _row(workload: Workload, summary: CheckpointSummary) -> Row:
    sizes, state = summary.sizes, state_of(summary)
    return Row(
        key=f"{workload} {summary.id}",
        cells=(
            _shown(workload),
            summary.id,
            state,
            human_size(sizes.image_bytes) if sizes else "",
            human_size(sizes.stored_bytes) if sizes else "",
            summary.trigger,
            summary.host,
            summary.created[:19],
        ),
        facts={"workload": str(workload), **dataclasses.asdict(summary), "state": state},
        style=_STYLES.get(state, ""),
    )


def _shown(workload: Workload) -> str:
    """Return the name alone where it is of the usual group."""
    usual = (workload.cluster, workload.namespace) == names.PLAIN_GROUP
    return workload.name if usual else str(workload)
