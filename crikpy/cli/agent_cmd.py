"""`crikpy agent`: the process of one node of a cluster."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal

import click

from crikpy import tracing
from crikpy.agent.process import run_agent
from crikpy.cli.console import store_option
from crikpy.cli.helping import STORE_ENVIRONMENT, epilog
from crikpy.cli.logs import log_format_option, set_up_log
from crikpy.cli.main import require_root
from crikpy.settings import Settings


@click.command(
    "agent",
    short_help="Serve one node of a cluster; started by its manifests.",
    epilog=epilog(
        "crikpy agent --store s3://my-bucket/jobs --node ip-10-0-1-7.ec2.internal",
        environment=(
            *STORE_ENVIRONMENT,
            "CRIKPY_AGENT_NODE    the node, where --node is not given",
            "CRIKPY_AGENT_…       further settings: crikpy help settings",
        ),
    ),
)
@store_option
@click.option(
    "--node",
    envvar="CRIKPY_AGENT_NODE",
    required=True,
    metavar="NAME",
    help="The node's name in the cluster. [env: CRIKPY_AGENT_NODE]",
)
@log_format_option("JSON, text at a terminal")
@click.pass_context
def command(context: click.Context, store_url: str, node: str, log_format: str | None) -> None:
    """Save and resume the pods of this node, as the cluster and the node's own notices demand.

    Runs until SIGTERM, as the DaemonSet's only process; logs JSON unless standard error is a terminal. Further
    settings are CRIKPY_AGENT_, CRIKPY_KUBE_ and other variables, see docs/settings.md.
    """
    require_root()
    settings: Settings = context.obj
    set_up_log(context, settings.log, asked=log_format, service=True, component="agent", node=node)
    settings = dataclasses.replace(settings, agent=dataclasses.replace(settings.agent, node=node))
    with tracing.traced("agent", os.environ, node=node):
        asyncio.run(_work(settings, store_url))


async def _work(settings: Settings, store_url: str) -> None:
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    if not await run_agent(settings, store_url, end):
        # Threads still work for jobs, which run on when this process is gone; nothing is gained by waiting.
        logging.getLogger(__name__).warning("ends with work under way")
        tracing.close()
        os._exit(0)
