"""`crikpy controller`: the process of a whole cluster, in one or more replicas."""

from __future__ import annotations

import asyncio
import os
import signal

import click

from crikpy import tracing
from crikpy.cli.helping import CLUSTER_ENVIRONMENT, epilog
from crikpy.cli.logs import log_format_option, set_up_log
from crikpy.controller.process import run_controller
from crikpy.settings import Settings


@click.command(
    "controller",
    short_help="Serve a whole cluster; started by its manifests.",
    epilog=epilog(
        "crikpy controller",
        environment=("CRIKPY_CONTROLLER_…  settings: crikpy help settings", *CLUSTER_ENVIRONMENT),
    ),
)
@log_format_option("JSON, text at a terminal")
@click.pass_context
def command(context: click.Context, log_format: str | None) -> None:
    """Move the pods of interrupted nodes, and give opted-in pods what they need to be moved.

    Runs until SIGTERM, as a Deployment's only process; logs JSON unless standard error is a terminal. Settings are
    CRIKPY_CONTROLLER_, CRIKPY_KUBE_ and other variables, see docs/settings.md.
    """
    settings: Settings = context.obj
    set_up_log(context, settings.log, asked=log_format, service=True, component="controller")
    with tracing.traced("controller", os.environ):
        asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    await run_controller(settings, end)
