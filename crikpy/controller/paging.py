"""The status page of one replica: what it shows, gathered, and the server that shows it.

Every replica may serve it: it shows what the API server tells, not what the leader remembers. Nodes and Checkpoint
objects are seen by every replica in any case; pods and what agents say of them only where the page is on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from crikpy.aio.serving import Server
from crikpy.controller.certifying import Certifier
from crikpy.controller.rounds import parse_concerned
from crikpy.controller.sighting import Sight
from crikpy.controller.viewing import ClusterView, PlanSettings
from crikpy.kube.api import KubeApi
from crikpy.kube.raw import Json
from crikpy.kube.resources import EVENTS, PODS
from crikpy.kube.signals import notices_of
from crikpy.kube.verdicts import CAN_BE_SAVED, CANNOT_BE_SAVED, refusals
from crikpy.kube.watching import Mirror
from crikpy.metrics import Metrics
from crikpy.model.notices import InterruptionNotice, foremost
from crikpy.model.pods import Pod
from crikpy.page.facts import Facts
from crikpy.page.serving import StatusPage
from crikpy.settings import Settings


class Outlook:
    """What the page is made of, kept current for as long as `run` goes on."""

    def __init__(self, api: KubeApi, settings: Settings, sight: Sight, metrics: Metrics) -> None:
        self._settings = PlanSettings.of(settings)
        self._sight = sight
        self._pods: Mirror[Pod | None] = Mirror(api, PODS, parse_concerned, metrics=metrics)
        self._verdicts: tuple[Mirror[Json], ...] = tuple(
            Mirror(api, EVENTS, lambda event: event, field_selector=f"reason={reason}", metrics=metrics)
            for reason in (CANNOT_BE_SAVED, CAN_BE_SAVED)
        )

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pods.run())
            for mirror in self._verdicts:
                group.create_task(mirror.run())

    def facts(self) -> Facts | None:
        """Return the picture as it is now; None until nodes, pods and Checkpoint objects were seen."""
        needed = (self._sight.nodes, self._sight.orders, self._pods)
        if not all(mirror.synced for mirror in needed):
            return None
        now = datetime.now(UTC)
        nodes = dict(self._sight.nodes.items)
        events = [event for mirror in self._verdicts for event in mirror.items.values()]
        return Facts(
            now=now,
            current=all(mirror.reachable for mirror in needed),
            nodes=nodes,
            notices=self._notices(now),
            pods=tuple(pod for pod in self._pods.items.values() if pod is not None and pod.opted_in),
            orders=tuple(known.order for known in self._sight.orders_in_force()),
            refusals=refusals(events),
        )

    def _notices(self, now: datetime) -> dict[str, InterruptionNotice]:
        """Return the most pressing notice of each node, also of what lies ahead, but not what it has outlived."""
        nodes = self._sight.nodes.items
        view = ClusterView(now=now, settings=self._settings, nodes=nodes, pods={})
        found = {
            name: foremost(
                notice
                for notice in notices_of(node, self._settings.signs, now)
                if not view.was_outlived(node, notice)
            )
            for name, node in nodes.items()
        }
        return {name: notice for name, notice in found.items() if notice is not None}


@contextlib.asynccontextmanager
async def page_served(
    api: KubeApi, settings: Settings, sight: Sight, certifier: Certifier, *, metrics: Metrics
) -> AsyncIterator[Outlook | None]:
    """Serve the page until the context ends, where it is on; whoever calls runs what this yields.

    Raises:
        UsageError: the address and port cannot be had.
    """
    controller = settings.controller
    if not controller.page_port:
        yield None
        return
    outlook = Outlook(api, settings, sight, metrics)
    page = StatusPage(api, outlook.facts, certifier.sessions)
    server = Server(page.routes(), address=controller.address, port=controller.page_port, tls=certifier.tls)
    async with server:
        yield outlook
