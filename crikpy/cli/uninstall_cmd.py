"""`crikpy uninstall`: make a cluster ready for the removal of crikpy's objects."""

from __future__ import annotations

import sys
from datetime import timedelta

import click

from crikpy.aio.clock import Deadline
from crikpy.cli.ages import Age
from crikpy.cli.clusters import on_cluster
from crikpy.cli.helping import CLUSTER_ENVIRONMENT, epilog
from crikpy.cli.logs import tells_json
from crikpy.cli.output import TABLE, output_option, print_data
from crikpy.cli.reporting import ConsoleReporter
from crikpy.controller.uninstalling import Uninstall, Wish
from crikpy.errors import UsageError
from crikpy.kube.client import KubeClient
from crikpy.settings import Settings


@click.command(
    "uninstall",
    short_help="Take crikpy off a cluster.",
    epilog=epilog(
        "# only look\ncrikpy uninstall --dry-run",
        "crikpy uninstall --yes --checkpoints delete",
        environment=CLUSTER_ENVIRONMENT,
    ),
)
@click.option("-n", "--namespace", help="Where crikpy is installed.  [default: CRIKPY_CONTROLLER_NAMESPACE]")
@click.option(
    "--checkpoints",
    type=click.Choice(["keep", "delete"]),
    default="keep",
    show_default=True,
    help="What becomes of what the store holds for Checkpoint objects; the objects go in any case.",
)
@click.option(
    "--timeout",
    "within",
    callback=Age(least=timedelta(seconds=1)),
    default="10m",
    show_default=True,
    metavar="AGE",
    help="For all of it.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask whether it is meant.")
@output_option
@click.pass_obj
def command(
    settings: Settings,
    namespace: str | None,
    checkpoints: str,
    within: timedelta,
    dry_run: bool,
    yes: bool,
    output: str,
) -> None:
    """Take crikpy off a cluster, so that what installed it can remove its objects.

    Running jobs run on. Webhooks, controller, agents and Checkpoint objects go; nodes lose crikpy's labels,
    annotations, conditions, taints and cordons. Then: `kubectl delete -k OVERLAY --ignore-not-found`.
    Where the chart is installed, `helm uninstall` does all of this by itself. Run again, it goes on where it was
    broken off.
    """
    wish = Wish(
        namespace=namespace or settings.controller.namespace,
        delete_stored=checkpoints == "delete",
        dry_run=dry_run,
    )
    if not yes and not dry_run:
        _ask(wish)
    steps: list[dict[str, str]] = []
    with ConsoleReporter(as_json=tells_json(output)) as reporter:

        def tell(step: str, message: str) -> None:
            steps.append({"step": step, "message": message})
            reporter.event(step, message)

        async def act(api: KubeClient) -> None:
            await Uninstall(api, wish, Deadline.after(within.total_seconds()), tell).run()

        on_cluster(settings, act)
    if output != TABLE:
        print_data({"dry_run": dry_run, "steps": steps}, output)
    elif not steps:
        click.echo("there is nothing of crikpy's to take off")
    elif not dry_run:
        click.echo("done; remove its objects now, for example with kubectl delete -k OVERLAY --ignore-not-found")


def _ask(wish: Wish) -> None:
    stored = "DELETED" if wish.delete_stored else "kept"
    question = f"Take crikpy off this cluster (namespace {wish.namespace})? What the store holds is {stored}."
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked whether this is meant", remedy="give --yes, or look with --dry-run")
    click.confirm(question, abort=True)
