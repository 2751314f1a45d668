"""`crikpy check`: whether this node can save jobs, and if not, why and what to do."""

from __future__ import annotations

import dataclasses

import click

from crikpy.aio.clock import Deadline
from crikpy.cli.console import output_option, print_json
from crikpy.criu.features import check_node
from crikpy.errors import NodeError
from crikpy.model.health import Finding, Verdict
from crikpy.settings import Settings

_PATIENCE_S = 60.0
_MARKS = {Verdict.OK: ("ok", "green"), Verdict.WARNING: ("warn", "yellow"), Verdict.FAILED: ("FAIL", "red")}


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
        _print(findings, able=not failed)
    if failed:
        raise click.exceptions.Exit(NodeError.exit_code)


def _print(findings: tuple[Finding, ...], *, able: bool) -> None:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        word, colour = _MARKS[finding.verdict]
        click.echo(f"{click.style(f'{word:>4}', fg=colour)}  {finding.name:<{width}}  {finding.fact}")
        if finding.remedy:
            click.echo(f"{'':>{width + 6}}  → {finding.remedy}")
    click.echo("This node can save jobs." if able else "This node cannot save jobs; see the lines marked FAIL.")
