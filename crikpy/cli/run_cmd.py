"""`crikpy run`: a job on a plain machine that survives the machine."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from crikpy import log, names, tracing
from crikpy.cli.console import group_options, store_option, workload_of
from crikpy.cli.helping import RUN_ENVIRONMENT, STORE_ENVIRONMENT, epilog
from crikpy.cli.logs import log_format_option, set_up_log, tells_json
from crikpy.cli.main import require_root
from crikpy.cli.output import output_option
from crikpy.cli.reporting import ConsoleReporter
from crikpy.cli.saving import save_options, saving_options
from crikpy.errors import UsageError
from crikpy.flows.running import RunPlan, run_job
from crikpy.metrics import Metrics
from crikpy.settings import Settings
from crikpy.store.opening import open_store

_DIRECTORY, _ANYTHING = click.Path(file_okay=False), click.Path()
"""So that shells complete them; what is not there is for the flow to tell."""


def _absolute(context: click.Context, option: click.Parameter, paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(Path(path).resolve()) for path in paths)


@click.command(
    "run",
    short_help="Run a job, or resume it from its newest checkpoint.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog=epilog(
        "crikpy run --name train-7 --store s3://my-bucket/jobs -- python train.py",
        "# a directory travels with the job\ncrikpy run --name sim --store /mnt/jobs --carry /var/sim -- ./sim",
        environment=(*STORE_ENVIRONMENT, *RUN_ENVIRONMENT),
        statuses=("the job's own; 75 when it was saved; others: crikpy help exit-statuses",),
    ),
)
@click.option("--name", metavar="NAME", required=True, help="The job's name; one job of a name runs at a time.")
@store_option
@group_options
@click.option(
    "--carry",
    multiple=True,
    type=_DIRECTORY,
    metavar="DIR",
    callback=_absolute,
    help="Directory that travels too.",
)
@click.option(
    "--exclude", multiple=True, type=_ANYTHING, metavar="PATH", callback=_absolute, help="Path that never travels."
)
@click.option(
    "--restore-failure",
    type=click.Choice(["start", "fail"]),
    default="start",
    show_default=True,
    help="What to do when a checkpoint cannot be resumed here.",
)
@saving_options
@output_option
@log_format_option("as --output")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="-- CMD [ARG]...")
@click.pass_context
def command(
    context: click.Context,
    /,
    name: str,
    store_url: str,
    cluster: str,
    namespace: str,
    carry: tuple[str, ...],
    exclude: tuple[str, ...],
    restore_failure: str,
    output: str,
    log_format: str | None,
    words: tuple[str, ...],
    **saving: Any,
) -> None:
    """Run CMD, or resume it where its newest checkpoint left it.

    On a spot interruption notice, and on SIGTERM, the job is checkpointed and this ends with status 75; started
    again on another machine with the same NAME and store, it goes on there. Otherwise the exit status is the
    job's own. The job's standard input is /dev/null; TMPDIR is a directory of its own that travels with it, and
    so do files that it has open for writing.

    With --mode application the job saves itself: it is sent --application-signal, or called by crikpy.job, writes
    what it needs into its --carry directories, and ends; started again, it finds them there.
    """
    settings: Settings = context.obj
    set_up_log(context, settings.log, asked=log_format, component="run")
    if not words:
        raise UsageError("there is no command to run", remedy="crikpy run --name NAME --store URL -- CMD [ARG]...")
    plan = RunPlan(
        workload=workload_of(cluster, namespace, name),
        store_url=store_url,
        command=words,
        environment=job_environment(),
        carried=carry,
        excluded=exclude,
        start_on_failure=restore_failure == "start",
        saving=save_options(carry, **saving),
    )
    run_plan(plan, settings, as_json=tells_json(output))


def job_environment() -> dict[str, str]:
    """Return the environment for the job: ours without our own settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(names.ENV_PREFIX)}


def run_plan(plan: RunPlan, settings: Settings, *, as_json: bool) -> None:
    """Run a job to its end and exit with its status."""
    require_root()
    about = log.about(workload=str(plan.workload))
    with about, tracing.traced("run", os.environ), ConsoleReporter(as_json=as_json) as reporter:
        store = open_store(plan.store_url, settings.store)
        store.check()
        status = asyncio.run(run_job(plan, store, settings, reporter, Metrics()))
    raise click.exceptions.Exit(status)
