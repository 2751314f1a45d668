"""`crikpy diff`: what changed in a job between two of its checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import click

from crikpy.cli.console import group_options, store_option, workload_of
from crikpy.cli.differences import Difference, Grown, compare
from crikpy.cli.helping import STORE_ENVIRONMENT, epilog
from crikpy.cli.output import TABLE, output_option, print_data
from crikpy.errors import CheckpointNotFoundError, UsageError
from crikpy.model.quantities import human_size
from crikpy.settings import Settings
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.opening import open_store

_SHOWN = 15


@click.command(
    "diff",
    short_help="Compare two checkpoints of a job.",
    epilog=epilog(
        "crikpy diff train-7 --store s3://my-bucket/jobs",
        "crikpy diff train-7 20250131T120000Z-0123abcd --store /mnt/jobs",
        environment=STORE_ENVIRONMENT,
    ),
)
@click.argument("name")
@click.argument("first", required=False, metavar="[CHECKPOINT")
@click.argument("second", required=False, metavar="[CHECKPOINT]]")
@store_option
@group_options
@output_option
@click.pass_obj
def command(
    settings: Settings,
    name: str,
    first: str | None,
    second: str | None,
    store_url: str,
    cluster: str,
    namespace: str,
    output: str,
) -> None:
    """Compare two checkpoints of the job NAME: processes, memory, files, needs, and what they share in the store.

    With one CHECKPOINT it is compared with the newest complete one; with none, the newest two are compared. Sizes
    are in powers of 1024.
    """
    workload = workload_of(cluster, namespace, name)
    checkpoints = Checkpoints(open_store(store_url, settings.store), workload)
    older, newer = _pair(checkpoints, first, second)
    found = compare(checkpoints.manifest(older), checkpoints.manifest(newer))
    if output != TABLE:
        print_data(dataclasses.asdict(found), output)
        return
    for line in _lines(found):
        click.echo(line)


def _pair(checkpoints: Checkpoints, first: str | None, second: str | None) -> tuple[str, str]:
    """Return the ids to compare, the first one first."""
    if first and second:
        return checkpoints.summary(first).id, checkpoints.summary(second).id
    complete = [summary.id for summary in checkpoints.list() if summary.complete and not summary.fault]
    older = checkpoints.summary(first).id if first else complete[1] if len(complete) > 1 else None
    if older is None or not complete:
        raise CheckpointNotFoundError(
            f"there are not two complete checkpoints of {checkpoints.workload} to compare",
            remedy="`crikpy list` shows what there is",
        )
    if older == complete[0]:
        raise UsageError(
            f"{older} is itself the newest checkpoint", remedy="name the one to compare it with before it"
        )
    return older, complete[0]


def _lines(found: Difference) -> Iterator[str]:
    """Yield the comparison for people: what grew, what came and what went."""
    yield f"- {found.before}"
    yield f"+ {found.after}"
    yield f"image        {_grown(found.image)}"
    yield f"stored anew  {_grown(found.stored)}"
    shared = found.shared
    yield (
        f"of the image {human_size(shared.shared_bytes)} shared with the first, "
        f"{human_size(shared.zero_bytes)} zeros, {human_size(shared.other_bytes)} neither"
    )
    for need in (*found.command, *found.needs):
        yield f"{need.what}: {need.before or '(none)'} → {need.after or '(none)'}"
    yield from _process_lines(found)
    yield from _file_lines(found)


def _process_lines(found: Difference) -> Iterator[str]:
    for process in found.processes_gone:
        yield f"- process {process.pid} {process.command}, {human_size(process.resident_bytes)}"
    for process in found.processes_new:
        yield f"+ process {process.pid} {process.command}, {human_size(process.resident_bytes)}"
    changed = [each for each in found.processes if each.resident.before != each.resident.after]
    same = len(found.processes) - len(changed)
    yield from _some(
        [f"~ process {each.pid} {each.command}: {_grown(each.resident)} resident" for each in changed]
    )
    if same:
        yield f"  {same} more {'process' if same == 1 else 'processes'} with the same memory in both"


def _file_lines(found: Difference) -> Iterator[str]:
    yield from _some([f"- file {file.path}" for file in found.files_gone])
    yield from _some([f"+ file {file.path}, {human_size(file.size)}" for file in found.files_new])
    yield from _some(
        [
            f"~ file {file.path}: {_grown(file.size)}{', another build' if file.other_build else ''}"
            for file in found.files
        ]
    )


def _some(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:_SHOWN]
    if len(lines) > _SHOWN:
        yield f"  and {len(lines) - _SHOWN} more; --output json shows all"


def _grown(size: Grown) -> str:
    change = size.after - size.before
    sign = "+" if change > 0 else "-"
    more = f" ({sign}{human_size(abs(change))})" if change else " (the same)"
    return f"{human_size(size.before)} → {human_size(size.after)}{more}"
