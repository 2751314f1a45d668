"""`crikpy check`: whether this node can save jobs, and if not, why and what to do."""

from __future__ import annotations

import dataclasses

import click

from crikpy.aio.clock import Deadline
from crikpy.cli.console import output_option, print_findings, print_json
from crikpy.criu.features import check_node
from crikpy.errors import NodeError
from crikpy.model.health import Verdict
from crikpy.settings import Settings

_PATIENCE_S = 60.0


@click.command("check")
@output_option
@click.pass_obj
def command(settings: Settings, output: str) -> None:
    """Say whether this node can save jobs, and if not, why and what to do."""
    findings = check_node(settings, deadline=Deadline.after(_PATIENCE_S))
    failed = [finding for finding in findings if finding.verdict is Verdict.FAILED]
    if output == "json":
        print_json({"able": not failed, "findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        print_findings(findings)
        able = "This node can save jobs."
        click.echo("This node cannot save jobs; see the lines marked FAIL." if failed else able)
    if failed:
        raise click.exceptions.Exit(NodeError.exit_code)
