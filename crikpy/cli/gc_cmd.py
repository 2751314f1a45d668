"""`crikpy gc`: free what no checkpoint needs, and what nobody comes back to; only looks unless told otherwise."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import click

from crikpy.cli.ages import Age
from crikpy.cli.console import store_option
from crikpy.cli.helping import STORE_ENVIRONMENT, epilog
from crikpy.cli.output import TABLE, output_option, print_data
from crikpy.errors import StoreError
from crikpy.model.quantities import human_size
from crikpy.settings import Settings
from crikpy.store import expiring
from crikpy.store.checkpoints import Checkpoints, list_workloads
from crikpy.store.expiring import Expired, Terms
from crikpy.store.gc import GcPlan, apply_gc, plan_gc
from crikpy.store.opening import open_store


@click.command(
    "gc",
    short_help="Free what no checkpoint needs; only look, unless told.",
    epilog=epilog(
        "# only look\ncrikpy gc --store s3://my-bucket/jobs",
        "crikpy gc --store s3://my-bucket/jobs --expired --ttl 30d --delete",
        environment=STORE_ENVIRONMENT,
    ),
)
@store_option
@click.option("--cluster", metavar="NAME", help="Only this group of machines.")
@click.option("-n", "--namespace", metavar="NAME", help="Only this part of the group.")
@click.option(
    "--min-age",
    callback=Age(),
    metavar="AGE",
    default="24h",
    show_default=True,
    help="Spare chunks that are younger.",
)
@click.option("--expired", is_flag=True, help="Also remove checkpoints that nobody will resume any more.")
@click.option(
    "--quarantined",
    callback=Age(),
    metavar="AGE",
    default="7d",
    show_default=True,
    help="With --expired: how long those in quarantine are kept.",
)
@click.option(
    "--ttl",
    callback=Age(),
    metavar="AGE",
    help="With --expired: remove those, too, that nobody has resumed for so long.  [default: never]",
)
@click.option("--delete", is_flag=True, help="Remove it; without this, only say what would be removed.")
@output_option
@click.pass_obj
def command(
    settings: Settings,
    store_url: str,
    cluster: str | None,
    namespace: str | None,
    min_age: timedelta,
    expired: bool,
    quarantined: timedelta,
    ttl: timedelta | None,
    delete: bool,
    output: str,
) -> None:
    """Remove chunks that no checkpoint refers to, and the remains of checkpoints that were never completed.

    With --expired also checkpoints that were resumed, or whose job has finished, a day ago.
    """
    if ttl is not None and not expired:
        raise click.UsageError("--ttl needs --expired")
    terms = Terms(quarantined=quarantined, resumable=ttl) if expired else None
    store = open_store(store_url, settings.store)
    rows: list[dict[str, object]] = []
    failed: StoreError | None = None
    for workload in list_workloads(store, cluster=cluster, namespace=namespace):
        try:
            doomed = _expire(Checkpoints(store, workload), terms, delete=delete)
            plan = plan_gc(store, workload, min_age=min_age)
            if delete:
                apply_gc(store, plan)
        except StoreError as fault:
            failed = fault
            rows.append({"workload": str(workload), "error": str(fault)})
            continue
        rows.append({**_facts(plan, deleted=delete), "expired": [asdict(each) for each in doomed]})
    if output != TABLE:
        print_data(rows, output)
    else:
        _print(rows, deleted=delete)
    if failed is not None:
        raise failed


def _expire(checkpoints: Checkpoints, terms: Terms | None, *, delete: bool) -> list[Expired]:
    """Find what has served its time, and remove it if that is wanted."""
    if terms is None:
        return []
    doomed = list(expiring.expired(checkpoints.list(), terms, datetime.now(UTC)))
    return expiring.remove_expired(checkpoints, doomed) if delete else doomed


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
        size = human_size(float(str(row["bytes"])))
        spared = "; a checkpoint is being written, so nothing is removed now" if row["being_written"] else ""
        incomplete = row["incomplete"]
        count = len(incomplete) if isinstance(incomplete, list) else 0
        expired = row["expired"]
        for each in expired if isinstance(expired, list) else []:
            removal = "would remove" if not deleted else "removed"
            click.echo(f"{row['workload']}: {removal} {each['checkpoint']}, {each['why']}")
        click.echo(f"{row['workload']}: {verb} {row['chunks']} chunks, {size}, {count} incomplete{spared}")
    if not deleted:
        click.echo("nothing was removed; add --delete to do it", err=True)
