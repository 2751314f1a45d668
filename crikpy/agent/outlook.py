"""What is known of this node's end: by its metadata service, by the controller, by what others put on its object.

Only the first is acted upon by the node itself; the others are orders' business. But what a SIGTERM means depends
on all of them. While the API server is away what was last seen on the Node object counts: a sign is not taken back
for a job's sake.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

from crikpy.kube.api import KubeApi
from crikpy.kube.nodes import parse_node
from crikpy.kube.resources import NODES
from crikpy.kube.signals import Signs, notices_of, read_signs
from crikpy.kube.watching import Mirror
from crikpy.metrics import Metrics
from crikpy.model.nodes import Node
from crikpy.model.notices import InterruptionNotice, foremost
from crikpy.settings import Settings


class NodeOutlook(Protocol):
    """What is known of this node's end."""

    def final_notice(self) -> InterruptionNotice | None:
        """Return the notice in force by which this node surely goes, or None."""
        ...


class OwnNode:
    """A copy of this node's object, and what it tells.

    Raises:
        SettingsError: the table of signs cannot be read.
    """

    def __init__(self, api: KubeApi, settings: Settings, metrics: Metrics) -> None:
        name = settings.agent.node
        self._name = name
        self._settings = settings
        self._signs = read_signs(settings.signals)
        self._mirror = Mirror(api, NODES, parse_node, metrics=metrics, field_selector=f"metadata.name={name}")

    async def run(self) -> None:
        """Look until cancelled."""
        await self._mirror.run()

    @property
    def node(self) -> Node | None:
        """The object as it was last seen; None before that, or once it was deleted."""
        return self._mirror.items.get(self._name)

    def final_notice(self) -> InterruptionNotice | None:
        """Return the most pressing notice on the object as it was last seen, or None."""
        return None if self.node is None else final_notice_on(self.node, self._signs, self._settings)


def final_notice_on(node: Node, signs: Signs, settings: Settings) -> InterruptionNotice | None:
    """Return the most pressing notice on a Node object by which that node surely goes, or None."""
    now = datetime.now(UTC)
    found = (notice for notice in notices_of(node, signs, now) if notice.final and is_due(notice, settings, now))
    return foremost(found)


def is_due(notice: InterruptionNotice, settings: Settings, now: datetime) -> bool:
    """Say whether to act on a notice now: maintenance is announced weeks ahead, and what is past is over."""
    if notice.deadline is None:
        return True
    if now >= notice.deadline + timedelta(seconds=settings.agent.spare_s):
        return False
    return not notice.lies_ahead(now, timedelta(seconds=settings.run.scheduled_lead_s))
