"""`crikpy top`: live jobs, and what saving them would cost now, against the two minutes of an interruption."""

from __future__ import annotations

from functools import partial

import click

from crikpy.cli.clusters import on_cluster, pod_name
from crikpy.cli.helping import CLUSTER_ENVIRONMENT, RUN_ENVIRONMENT, epilog
from crikpy.cli.jobs_here import jobs_here
from crikpy.cli.main import require_root
from crikpy.cli.output import output_option
from crikpy.cli.pods_there import pods_there
from crikpy.cli.watching import Listing, present, watch_options
from crikpy.errors import UsageError
from crikpy.kube.client import KubeClient
from crikpy.settings import Settings


@click.command(
    "top",
    short_help="Show live jobs and what saving them would cost now.",
    epilog=epilog(
        "# the jobs of this machine\ncrikpy top --watch",
        "# the pods of a cluster that opted in\ncrikpy top pods --all-namespaces",
        environment=(*CLUSTER_ENVIRONMENT, *RUN_ENVIRONMENT),
    ),
)
@click.argument("target", metavar="[NAME|pods|pod/NAME]", required=False, default="")
@click.option("-n", "--namespace", help="On a cluster: the pods' namespace.")
@click.option("-A", "--all-namespaces", is_flag=True, help="On a cluster: all namespaces.")
@watch_options
@output_option
@click.pass_obj
def command(
    settings: Settings,
    target: str,
    namespace: str | None,
    all_namespaces: bool,
    watch: bool,
    interval: float,
    output: str,
) -> None:
    """Show live jobs, and what saving them would cost now: seconds and bytes, against the two minutes.

    Without a target, or with the NAME of a job, those that `crikpy run` runs on this machine; with `pods` or
    pod/NAME those of a cluster. Figures marked ~ are by an assumed throughput, as long as nothing was measured.
    """
    pod = pod_name(target)
    if target == "pods" or pod:

        async def look(api: KubeClient) -> Listing:
            where = "" if all_namespaces else namespace or api.default_namespace
            return await pods_there(api, settings, where, pod or "")

        present(lambda: on_cluster(settings, look), output=output, watch=watch, interval=interval)
        return
    if namespace or all_namespaces:
        raise UsageError("namespaces are for pods", remedy="write `crikpy top pods`")
    require_root()
    present(partial(jobs_here, settings, target), output=output, watch=watch, interval=interval)
