"""`crikpy controller`: the process of a whole cluster, in one or more replicas."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

import click

from crikpy import log
from crikpy.cli.helping import CLUSTER_ENVIRONMENT, epilog
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
@click.pass_context
def command(context: click.Context) -> None:
    """Move the pods of interrupted nodes, and give opted-in pods what they need to be moved.

    Runs until SIGTERM, as a Deployment's only process; logs JSON unless standard error is a terminal. Settings are
    CRIKPY_CONTROLLER_, CRIKPY_KUBE_ and other variables, see docs/settings.md.
    """
    if context.find_root().params.get("log_format") is None and not sys.stderr.isatty():
        log.set_up(as_json=True, level=logging.getLogger().level)
    settings: Settings = context.obj
    asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    await run_controller(settings, end)
