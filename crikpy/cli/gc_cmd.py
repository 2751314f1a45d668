"""`crikpy gc`: free what no checkpoint needs; only looks unless told otherwise."""

from __future__ import annotations

import re
from datetime import timedelta

import click

from crikpy.cli.console import human_bytes, output_option, print_json, store_option
from crikpy.errors import StoreError
from crikpy.settings import Settings
from crikpy.store.checkpoints import list_workloads
from crikpy.store.gc import DEFAULT_AGE, GcPlan, apply_gc, plan_gc
from crikpy.store.opening import open_store

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _age(context: click.Context, option: click.Parameter, text: str | None) -> timedelta:
    if text is None:
        return DEFAULT_AGE
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise click.BadParameter("a number and one of s, m, h, d, such as 24h")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


@click.command("gc")
@store_option
@click.option("--cluster", help="Only this group of machines.")
@click.option("--namespace", help="Only this part of the group.")
@click.option("--min-age", callback=_age, metavar="AGE", help="Spare chunks that are younger.  [default: 24h]")
@click.option("--delete", is_flag=True, help="Remove it; without this, only say what would be removed.")
@output_option
@click.pass_obj
def command(
    settings: Settings,
    store_url: str,
    cluster: str | None,
    namespace: str | None,
    min_age: timedelta,
    delete: bool,
    output: str,
) -> None:
    """Remove chunks that no checkpoint refers to, and the remains of checkpoints that were never completed."""
    store = open_store(store_url, settings.store)
    rows: list[dict[str, object]] = []
    failed: StoreError | None = None
    for workload in list_workloads(store, cluster=cluster, namespace=namespace):
        try:
            plan = plan_gc(store, workload, min_age=min_age)
            if delete:
                apply_gc(store, plan)
        except StoreError as fault:
            failed = fault
            rows.append({"workload": str(workload), "error": str(fault)})
            continue
        rows.append(_facts(plan, deleted=delete))
    if output == "json":
        print_json(rows)
    else:
        _print(rows, deleted=delete)
    if failed is not None:
        raise failed


def _facts(plan: GcPlan, *, deleted: bool) -> dict[str, object]:
    return {
        "workload": str(plan.workload),
        "deleted": deleted and not plan.writing,
        "chunks": len(plan.chunks),
        "bytes": plan.chunk_bytes,
        "incomplete": list(plan.incomplete),
        "being_written": list(plan.writing),
    }


def _print(rows: list[dict[str, object]], *, deleted: bool) -> None:
    for row in rows:
        if "error" in row:
            click.echo(f"{row['workload']}: nothing removed: {row['error']}", err=True)
            continue
        verb = "removed" if row["deleted"] else "would remove"
        size = human_bytes(float(str(row["bytes"])))
        spared = "; a checkpoint is being written, so nothing is removed now" if row["being_written"] else ""
        incomplete = row["incomplete"]
        count = len(incomplete) if isinstance(incomplete, list) else 0
        click.echo(f"{row['workload']}: {verb} {row['chunks']} chunks, {size}, {count} incomplete{spared}")
    if not deleted:
        click.echo("nothing was removed; add --delete to do it", err=True)
