"""`crikpy why`: can this pod be saved, if not why, and what happened to it so far."""

from __future__ import annotations

import dataclasses

import click

from crikpy.cli.clusters import namespace_option, on_cluster, require_pod_name
from crikpy.cli.console import print_findings
from crikpy.cli.helping import CLUSTER_ENVIRONMENT, epilog
from crikpy.cli.output import TABLE, output_option, print_data
from crikpy.errors import UnsupportedJobError
from crikpy.kube.explaining import Explanation, explain_pod
from crikpy.settings import Settings


@click.command(
    "why",
    short_help="Say whether a pod can be saved, and what happened.",
    epilog=epilog(
        "crikpy why pod/train-0 -n research",
        environment=CLUSTER_ENVIRONMENT,
        statuses=("0 if the pod can be saved, 30 if not: crikpy help exit-statuses",),
    ),
)
@click.argument("target", metavar="pod/NAME")
@namespace_option
@output_option
@click.pass_obj
def command(settings: Settings, target: str, namespace: str | None, output: str) -> None:
    """Say whether a pod can be saved, if not why, and what happened to it so far.

    The exit status is 0 if it can be saved and 30 if not.
    """
    name = require_pod_name(target)
    found = on_cluster(settings, lambda api: explain_pod(api, namespace or api.default_namespace, name))
    if output != TABLE:
        print_data(_facts(found), output)
    else:
        _print(found)
    if not found.able:
        raise click.exceptions.Exit(UnsupportedJobError.exit_code)


def _facts(found: Explanation) -> dict[str, object]:
    return {
        "pod": str(found.pod),
        "uid": found.pod.uid,
        "workload": found.pod.workload,
        "able": found.able,
        "findings": [dataclasses.asdict(finding) for finding in found.findings],
        "story": [dataclasses.asdict(happening) for happening in found.story],
    }


def _print(found: Explanation) -> None:
    print_findings(found.findings)
    click.echo(f"Pod {found.pod} {'can' if found.able else 'cannot'} be saved.")
    for happening in found.story:
        click.echo(f"{happening.time or '-':<20}  {happening.what:<24}  {happening.message}")
