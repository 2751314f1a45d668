"""The status page as it runs: the controller's own parts on a stand-in for the API server, over real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from crikpy.aio.tasks import stop
from crikpy.controller.certifying import Certifier
from crikpy.controller.paging import page_served
from crikpy.controller.sighting import Sight
from crikpy.kube.client import KubeClient
from crikpy.metrics import Component, Metrics
from crikpy.settings import ControllerSettings, Settings
from tests.controller.test_process import free_port
from tests.fakes.kube import FakeKube


@contextlib.asynccontextmanager
async def serving(kube: FakeKube, folder: Path) -> AsyncIterator[str]:
    """Serve the page of a cluster and yield its URL, once it has a certificate and has seen everything."""
    controller = ControllerSettings(address="127.0.0.1", page_port=free_port(), service="crikpy-webhook")
    settings = Settings(kube=kube.settings(folder), controller=controller)
    metrics = Metrics(Component.CONTROLLER)
    async with await KubeClient.connect(settings.kube) as api:
        sight, certifier = Sight(api, metrics), Certifier(api, controller, metrics=metrics)
        async with page_served(api, settings, sight, certifier, metrics=metrics) as outlook:
            assert outlook is not None
            tasks = [asyncio.create_task(work) for work in (sight.run(), outlook.run(), certifier.follow())]
            try:
                await kube.until(lambda: outlook.facts() is not None and certifier.complaint() is None)
                yield f"https://localhost:{controller.page_port}/"
            finally:
                for task in tasks:
                    await stop(task)


def unverified() -> ssl.SSLContext:
    """Return a context for whoever does not care who serves."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
