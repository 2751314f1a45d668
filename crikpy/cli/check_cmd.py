"""`crikpy check`: whether this node can save jobs, and if not, why and what to do."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from functools import partial

import click

from crikpy.aio.clock import Deadline
from crikpy.cli.console import print_findings, store_option
from crikpy.cli.helping import RUN_ENVIRONMENT, STORE_ENVIRONMENT, epilog
from crikpy.cli.output import TABLE, output_option, print_data
from crikpy.cli.remedies import remedy_of
from crikpy.criu.features import check_node
from crikpy.errors import CrikpyError, NodeError
from crikpy.flows.gpus import node_finding
from crikpy.model.health import Finding, Verdict
from crikpy.settings import Settings
from crikpy.store.opening import open_store

_PATIENCE_S = 60.0


@click.command(
    "check",
    short_help="Say whether this node can save jobs, and if not, why.",
    epilog=epilog(
        "crikpy check",
        "# the store, and the keys to seal with, too\ncrikpy check --store s3://my-bucket/jobs",
        environment=(*STORE_ENVIRONMENT, *RUN_ENVIRONMENT),
        statuses=("0 if this node can save jobs, 11 if not: crikpy help exit-statuses",),
    ),
)
@partial(store_option, required=False)
@output_option
@click.pass_obj
def command(settings: Settings, store_url: str | None, output: str) -> None:
    """Say whether this node can save jobs, and if not, why and what to do.

    Where it is told of a store, it tries that too, and whether keys to seal with can be had.
    """
    deadline = Deadline.after(_PATIENCE_S)
    findings = [*check_node(settings, deadline=deadline), node_finding(settings, deadline)]
    findings += _store_findings(settings, store_url)
    failed = [finding for finding in findings if finding.verdict is Verdict.FAILED]
    if output != TABLE:
        print_data({"able": not failed, "findings": [dataclasses.asdict(finding) for finding in findings]}, output)
    else:
        print_findings(findings)
        able = "This node can save jobs."
        click.echo("This node cannot save jobs; see the lines marked FAIL." if failed else able)
    if failed:
        raise click.exceptions.Exit(NodeError.exit_code)


def _store_findings(settings: Settings, url: str | None) -> Iterator[Finding]:
    if not url:
        if settings.store.kms_key:
            fact = f"it was not tried whether {settings.store.kms_key} can be used"
            yield Finding(name="store", verdict=Verdict.WARNING, fact=fact, remedy="give --store")
        return
    try:
        with contextlib.closing(open_store(url, settings.store)) as store:
            store.check()
    except CrikpyError as fault:
        yield Finding(name="store", verdict=Verdict.FAILED, fact=fault.message, remedy=remedy_of(fault))
    else:
        yield Finding(name="store", verdict=Verdict.OK, fact=f"{store.url}{_sealed_by(settings)}")


def _sealed_by(settings: Settings) -> str:
    how = settings.store.kms_key or settings.store.key_file
    return f", sealed by {how}" if how else ""
