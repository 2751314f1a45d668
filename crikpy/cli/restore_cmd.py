"""`crikpy restore`: resume a job here, and never start it afresh."""

from __future__ import annotations

import click

from crikpy.cli.console import group_options, store_option, workload_of
from crikpy.cli.helping import RUN_ENVIRONMENT, STORE_ENVIRONMENT, epilog
from crikpy.cli.logs import tells_json
from crikpy.cli.output import output_option
from crikpy.cli.run_cmd import job_environment, run_plan
from crikpy.flows.running import RunPlan
from crikpy.settings import Settings


@click.command(
    "restore",
    short_help="Resume a job, and never start it afresh.",
    epilog=epilog(
        "crikpy restore train-7 --store s3://my-bucket/jobs",
        environment=(*STORE_ENVIRONMENT, *RUN_ENVIRONMENT),
        statuses=("the job's own; 75 when it was saved again; others: crikpy help exit-statuses",),
    ),
)
@click.argument("name")
@store_option
@group_options
@output_option
@click.pass_obj
def command(settings: Settings, name: str, store_url: str, cluster: str, namespace: str, output: str) -> None:
    """Resume the job NAME from its newest checkpoint, and stay with it as `crikpy run` does.

    When there is nothing to resume, or it cannot be resumed here, this fails and nothing is started.
    """
    plan = RunPlan(
        workload=workload_of(cluster, namespace, name),
        store_url=store_url,
        command=(),
        environment=job_environment(),
        must_resume=True,
        start_on_failure=False,
    )
    run_plan(plan, settings, as_json=tells_json(output))
