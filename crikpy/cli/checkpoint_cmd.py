"""`crikpy checkpoint`: save a job that runs on this machine, or a pod of a cluster, now."""

from __future__ import annotations

import os

import click

from crikpy import log, names, tracing
from crikpy.aio.clock import Deadline
from crikpy.capsule.places import JobPlace
from crikpy.cli.clusters import on_cluster, order_facts, pod_name
from crikpy.cli.console import workload_of
from crikpy.cli.helping import CLUSTER_ENVIRONMENT, RUN_ENVIRONMENT, epilog
from crikpy.cli.logs import tells_json
from crikpy.cli.main import require_root
from crikpy.cli.output import TABLE, output_option, print_data
from crikpy.cli.reporting import ConsoleReporter
from crikpy.errors import DumpError, SelfSaveError, UsageError
from crikpy.flows.checkpointing import checkpoint, unless_taken_over
from crikpy.flows.members import CheckpointOrder, Member
from crikpy.kube.client import KubeClient
from crikpy.kube.requesting import await_order, order_checkpoint
from crikpy.model.manifest import Manifest
from crikpy.model.notices import Trigger
from crikpy.model.orders import Order
from crikpy.model.quantities import human_size
from crikpy.model.workload import Workload
from crikpy.settings import Settings
from crikpy.store.opening import open_store


@click.command(
    "checkpoint",
    short_help="Save a job of this machine, or a pod, now.",
    epilog=epilog(
        "# save a job of this machine; it ends with status 75\ncrikpy checkpoint train-7",
        "crikpy checkpoint train-7 --leave-running",
        "# save a pod, and have its replacement resume it\ncrikpy checkpoint pod/train-0 -n research --move",
        environment=(*CLUSTER_ENVIRONMENT, *RUN_ENVIRONMENT),
    ),
)
@click.argument("target", metavar="NAME|pod/NAME")
@click.option(
    "--cluster",
    metavar="NAME",
    help=f"Group of machines that the job NAME is of.  [default: {names.PLAIN_GROUP[0]}]",
)
@click.option("-n", "--namespace", metavar="NAME", help="Part of the group, or namespace of the pod.")
@click.option("--leave-running", is_flag=True, help="Let the job run on here afterwards; a pod runs on anyway.")
@click.option("--move", is_flag=True, help="End the pod once it is saved, so that its replacement resumes it.")
@output_option
@click.pass_obj
def command(
    settings: Settings,
    target: str,
    cluster: str | None,
    namespace: str | None,
    leave_running: bool,
    move: bool,
    output: str,
) -> None:
    """Save the job NAME or the pod pod/NAME.

    NAME is a job that `crikpy run` started on this machine; unless --leave-running is given it ends here with
    status 75. A pod is saved by the agent on its node, and runs on unless --move is given.
    """
    pod = pod_name(target)
    if pod is not None:
        if leave_running and move:
            raise UsageError("--leave-running and --move exclude each other")
        _checkpoint_pod(settings, pod, namespace, move=move, output=output)
        return
    if move:
        raise UsageError(
            "--move is for pods", remedy="write pod/NAME; a job on a machine ends unless --leave-running"
        )
    group, part = names.PLAIN_GROUP
    workload = workload_of(cluster or group, namespace or part, target)
    _checkpoint_job(settings, workload, leave_running=leave_running, output=output)


def _checkpoint_pod(settings: Settings, pod: str, namespace: str | None, *, move: bool, output: str) -> None:
    within_s = settings.run.manual_deadline_s
    with ConsoleReporter(as_json=tells_json(output)) as reporter:

        def tell(order: Order) -> None:
            reporter.event(order.status.phase.lower(), f"{order.status.phase}: {order.status.message}")

        async def save(api: KubeClient) -> Order:
            where = namespace or api.default_namespace
            order = await order_checkpoint(api, where, pod, move=move, within_s=within_s)
            reporter.event("ordered", f"the agent on {order.spec.node} has order {order.name}", order=order.name)
            return await await_order(api, order, Deadline.after(within_s), on_change=tell)

        order = on_cluster(settings, save)
    status = order.status
    if output != TABLE:
        print_data(order_facts(order), output)
    elif status.checkpoint:
        sizes = f"{human_size(status.bytes.memory)}, {human_size(status.bytes.stored)} stored"
        click.echo(f"{status.checkpoint}: {sizes}, stood still {status.frozen_s or 0.0:.1f} s")
    if not status.checkpoint:
        raise DumpError(
            f"pod {order.namespace}/{pod} was not saved and runs on: {status.message or status.reason}",
            remedy=f"`crikpy why pod/{pod} -n {order.namespace}` says more",
        )


def _checkpoint_job(settings: Settings, workload: Workload, *, leave_running: bool, output: str) -> None:
    require_root()
    place = JobPlace(settings.run, workload)
    here = place.find()
    order = CheckpointOrder(
        trigger=Trigger.MANUAL,
        deadline=Deadline.after(settings.run.manual_deadline_s),
        leave_running=leave_running,
    )

    def mark(_: Manifest) -> None:
        if not leave_running:
            place.mark_moved()

    about = log.about(workload=str(workload))
    with about, tracing.traced("run", os.environ), ConsoleReporter(as_json=tells_json(output)) as reporter:
        store = open_store(here.store_url, settings.store)
        member = Member(capsule=here.capsule, workload=here.workload, command=here.command, saving=here.saving)
        committed = unless_taken_over(store, workload, here.holder, mark)
        try:
            manifest = checkpoint(member, store, order, settings, reporter, on_committed=committed)
        except SelfSaveError as fault:
            if fault.ended:
                place.mark_undone()
            raise
    if output != TABLE:
        print_data(
            {
                "checkpoint": manifest.checkpoint,
                "image_bytes": manifest.sizes.image_bytes,
                "stored_bytes": manifest.sizes.stored_bytes,
                "frozen_s": manifest.frozen_s,
            },
            output,
        )
        return
    sizes = f"{human_size(manifest.sizes.image_bytes)}, {human_size(manifest.sizes.stored_bytes)} stored"
    click.echo(f"{manifest.checkpoint}: {sizes}, stood still {manifest.frozen_s:.1f} s")
