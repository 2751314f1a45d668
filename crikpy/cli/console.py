"""What many commands share: the options that say where to look, and how findings are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from crikpy import names
from crikpy.model.health import Finding, Verdict
from crikpy.model.workload import Workload
from crikpy.store.layout import parse_workload

_F = TypeVar("_F", bound=Callable[..., Any])
_MARKS = {Verdict.OK: ("ok", "green"), Verdict.WARNING: ("warn", "yellow"), Verdict.FAILED: ("FAIL", "red")}


def store_option(command: _F, *, required: bool = True) -> _F:
    """Give a command `--store URL`."""
    return click.option(
        "--store",
        "store_url",
        envvar="CRIKPY_STORE",
        required=required,
        metavar="URL",
        help="Where checkpoints are: s3://BUCKET/PREFIX or an absolute path.  [env: CRIKPY_STORE]",
    )(command)


def group_options(command: _F) -> _F:
    """Give a command `--cluster` and `--namespace`, under which names are unique."""
    cluster, namespace = names.PLAIN_GROUP
    command = click.option(
        "-n", "--namespace", metavar="NAME", default=namespace, show_default=True, help="Part of the group."
    )(command)
    return click.option(
        "--cluster", metavar="NAME", default=cluster, show_default=True, help="Group of machines, or cluster."
    )(command)


def workload_of(cluster: str, namespace: str, name: str) -> Workload:
    """Return the workload that the options name."""
    return parse_workload(cluster=cluster, namespace=namespace, name=name)


def print_findings(findings: Sequence[Finding]) -> None:
    """Print what was looked at, a line each, with what to do about it below."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        word, colour = _MARKS[finding.verdict]
        click.echo(f"{click.style(f'{word:>4}', fg=colour)}  {finding.name:<{width}}  {finding.fact}")
        if finding.remedy:
            click.echo(f"{'':>{width + 6}}  → {finding.remedy}")
