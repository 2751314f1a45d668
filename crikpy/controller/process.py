"""The cluster's process, put together: webhook and status page on every replica, everything else on the leader.

Nothing that is out of reach at the beginning keeps it from beginning: an API server that is away comes back. What
is configured wrongly does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from crikpy import names
from crikpy.aio.serving import Server, probe_routes
from crikpy.aio.tasks import stop
from crikpy.controller.certifying import Certifier
from crikpy.controller.hearing import NewsDesk, hear
from crikpy.controller.paging import Outlook, page_served
from crikpy.controller.rounds import Rounds
from crikpy.controller.sighting import Sight
from crikpy.controller.sources import sources_of, watch_sources
from crikpy.controller.webhooks import listening
from crikpy.ec2.sources import Source
from crikpy.kube.api import KubeApi
from crikpy.kube.client import KubeClient
from crikpy.kube.events import EventRecorder
from crikpy.kube.leases import Leadership
from crikpy.metrics import Component, Metrics
from crikpy.settings import Settings

_log = logging.getLogger(__name__)

LEASE: Final = "crikpy-controller"
"""Name of the Lease that the replicas share."""


async def run_controller(settings: Settings, end: asyncio.Event) -> None:
    """Work until the event is set, then end in order: acts under way are cut off, the Lease is given up.

    An act that is cut off does no harm: whoever leads next plans it again.

    Raises:
        SettingsError: there is no configuration for Kubernetes, or it cannot be used; or a source or sign is
            configured wrongly.
        UsageError: an address or port cannot be had.
    """
    controller = settings.controller
    metrics = Metrics(Component.CONTROLLER)
    async with contextlib.AsyncExitStack() as stack:
        sources = await stack.enter_async_context(sources_of(settings, metrics))
        api = await stack.enter_async_context(await KubeClient.connect(settings.kube))
        sight = Sight(api, metrics)
        webhook = await stack.enter_async_context(listening(api, controller, sight, metrics=metrics))
        routes = probe_routes(metrics, webhook.certifier.complaint)
        probes = Server(routes, address=controller.address, port=controller.port)
        await stack.enter_async_context(probes)
        page = page_served(api, settings, sight, webhook.certifier, metrics=metrics)
        outlook = await stack.enter_async_context(page)
        _log.info("the controller works", extra={"server": api.host, "webhook": webhook.port, "port": probes.port})
        await _work(api, settings, sight, webhook.certifier, sources, outlook, metrics, end)
        _log.info("the controller ends")


async def _work(
    api: KubeApi,
    settings: Settings,
    sight: Sight,
    certifier: Certifier,
    sources: Sequence[Source],
    outlook: Outlook | None,
    metrics: Metrics,
    end: asyncio.Event,
) -> None:
    """Do everything that goes on for as long as the controller does, until the end or a defect of ours."""
    identity = settings.controller.identity or os.uname().nodename
    recorder = EventRecorder(api, component=names.FIELD_MANAGER_CONTROLLER, host=identity)
    leadership = Leadership(
        api,
        namespace=settings.controller.namespace,
        name=LEASE,
        identity=identity,
        lease_s=settings.kube.lease_s,
        metrics=metrics,
    )

    async def lead() -> None:
        rounds = Rounds(api, settings, recorder, metrics, sight=sight)
        async with asyncio.TaskGroup() as group:
            group.create_task(certifier.lead())
            group.create_task(rounds.run())
            group.create_task(hear(sources, NewsDesk(api, sight, rounds.view, recorder, metrics)))

    # In this order they are stopped: the leader first, and the events of its last acts are still written.
    acts: dict[str, Coroutine[Any, Any, Any]] = {
        "leading": leadership.lead(lead),
        "sight": sight.run(),
        "sources": watch_sources(sources, settings, metrics),
        "certificate": certifier.follow(),
        **({"page": outlook.run()} if outlook is not None else {}),
        "events": recorder.run(),
        "end": end.wait(),
    }
    tasks = [asyncio.create_task(act, name=name) for name, act in acts.items()]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            await stop(task)
