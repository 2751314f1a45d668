"""What the leader does with news from outside of the cluster: it writes them on the node that they are about.

A notice that stands on its node is known to whoever leads next; everything else follows from there. So that is
what "acted upon" means, and a message of a queue is deleted no sooner. Nothing is decided here about pods.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from crikpy import names
from crikpy.aio.clock import Deadline
from crikpy.controller.evicting import is_done_with
from crikpy.controller.ordering import is_meant
from crikpy.controller.sighting import Sight
from crikpy.controller.viewing import ClusterView, can_be_saved
from crikpy.ec2.sources import News, Source, Taken
from crikpy.errors import KubeConflictError, KubeNotFoundError, KubeUnavailableError
from crikpy.kube.api import KubeApi
from crikpy.kube.events import EventRecorder, Reference
from crikpy.kube.nodes import parse_node, render_report_patch
from crikpy.kube.resources import NODES
from crikpy.metrics import Metrics
from crikpy.model.nodes import Node
from crikpy.model.notices import InterruptionNotice, Withdrawn
from crikpy.model.pods import Pod

_log = logging.getLogger(__name__)

_CONFLICTS = 10
"""Attempts to write on a node on which others write at the same time."""

_MOST_REPORTS: Final = 8
"""Notices that are kept on one node; EC2 plans fewer events for an instance at once."""

_SEEN_WITHIN_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.02

_OUT_OF_SIGHT: Final = "the whole cluster is not in sight yet, so nobody knows which node that is"


class NewsDesk:
    """Takes news, one leader's term long. A `Desk` of crikpy.ec2.sources.

    Args:
        api: the cluster.
        sight: its nodes.
        view: the picture as it is now, or None.
        recorder: tells people.
        metrics: counted in.
    """

    def __init__(
        self,
        api: KubeApi,
        sight: Sight,
        view: Callable[[], ClusterView | None],
        recorder: EventRecorder,
        metrics: Metrics,
    ) -> None:
        self._api = api
        self._sight = sight
        self._view = view
        self._recorder = recorder
        self._metrics = metrics

    async def take(self, news: News) -> Taken:
        """Write news on the node that they are about.

        Raises:
            KubeError: that was not possible now.
        """
        notice = news.notice if isinstance(news, Withdrawn) else news
        outcome = "failed"
        try:
            taken = await self._take(news, notice)
            if taken is not Taken.FOREIGN and not isinstance(news, Withdrawn):
                await self._until_seen(notice)
            outcome = taken.value
        finally:
            source = notice.source.partition(":")[0]
            self._metrics.source_notices.labels(source=source, outcome=outcome).inc()
        return taken

    async def _take(self, news: News, notice: InterruptionNotice) -> Taken:
        for _ in range(_CONFLICTS):
            found = self._node_of(notice.instance)
            if found is None:
                return Taken.FOREIGN
            try:
                node = parse_node(await self._api.get(NODES, found.name))
                if node.instance != notice.instance:
                    return Taken.FOREIGN
                reports = _without(node, notice) if isinstance(news, Withdrawn) else _with(node, notice)
                if reports is None:
                    return Taken.KNOWN
                patch = render_report_patch(node, reports)
                await self._api.patch(NODES, node.name, patch, field_manager=names.FIELD_MANAGER_CONTROLLER)
            except KubeNotFoundError:
                return Taken.FOREIGN
            except KubeConflictError:
                continue
            self._tell(node, news, notice)
            return Taken.ACTED
        raise KubeConflictError(f"the node of {notice.instance} changes all the time and takes no report")

    async def _until_seen(self, notice: InterruptionNotice) -> None:
        """Wait until the picture shows it: a machine under notice must not be taken for one with nothing to do."""
        deadline = Deadline.after(_SEEN_WITHIN_S)
        while not deadline.expired():
            node = self._sight.node_of(notice.instance)
            if node is None or any(told.is_same_event(notice) for told in _told(node)):
                return
            await asyncio.sleep(_LOOK_EVERY_S)
        raise KubeUnavailableError(f"what was written on node {notice.instance} is not to be seen yet")

    def _node_of(self, instance: str) -> Node | None:
        if not self._sight.complete:
            raise KubeUnavailableError(_OUT_OF_SIGHT)
        return self._sight.node_of(instance)

    def _tell(self, node: Node, news: News, notice: InterruptionNotice) -> None:
        if isinstance(news, Withdrawn):
            reason, what = "InterruptionWithdrawn", "is taken back"
        else:
            when = "no known time" if notice.deadline is None else f"{notice.deadline:%Y-%m-%d %H:%M:%S} UTC"
            reason, what = "InterruptionNotice", f"at {when}"
        message = f"{notice.trigger.value} {what}, by {notice.source} ({notice.id})"
        self._recorder.tell(Reference.of_node(node), reason, message, warning=reason == "InterruptionNotice")
        _log.warning("%s of node %s %s", notice.trigger.value, node.name, what, extra={"source": notice.source})

    async def is_clear(self, instance: str) -> bool:
        """Say whether no pod on a machine waits to be saved or, having been saved, to be ended.

        Raises:
            KubeUnavailableError: nobody can say that now.
        """
        node, view = self._node_of(instance), self._view()
        if node is None:
            return True
        if view is None:
            raise KubeUnavailableError(_OUT_OF_SIGHT)
        return not any(_waits(view, node, pod) for pod in view.pods_by_node.get(node.name, ()))


def _with(node: Node, notice: InterruptionNotice) -> Sequence[InterruptionNotice] | None:
    """Return the reports of a node with one more; None when it says nothing that the node does not say already.

    One that adds the time of a known event takes its place under the known id, for which pods may have been
    ordered to be saved.
    """
    same = [told for told in _told(node) if told.is_same_event(notice)]
    if any(told.deadline is not None for told in same) or (same and notice.deadline is None):
        return None
    if not same:
        return (*node.reported, notice)[-_MOST_REPORTS:]
    others = [told for told in node.reported if told not in same]
    return (*others, replace(notice, id=same[0].id))[-_MOST_REPORTS:]


def _told(node: Node) -> tuple[InterruptionNotice, ...]:
    """Return what its agent and we have written on a node."""
    return node.reported if node.notice is None else (node.notice, *node.reported)


def _without(node: Node, notice: InterruptionNotice) -> Sequence[InterruptionNotice] | None:
    kept = [told for told in node.reported if told.id != notice.id]
    return None if len(kept) == len(node.reported) else kept


def _waits(view: ClusterView, node: Node, pod: Pod) -> bool:
    """Say whether a pod is still to be saved and moved off a node, or may be."""
    # One that has ended and is being deleted has to be gone: a StatefulSet makes no other before that, and without
    # its machine nobody is left to confirm it.
    if (pod.over and not pod.deleting) or not pod.injected or not pod.opted_in:
        return False
    orders = [known.order for known in view.orders_of(pod) if not known.order.spec.leave_running]
    if any(not order.status.phase.final or is_done_with(order) for order in orders):
        return True
    notice = view.notices.get(node.name)
    return not orders and node.ready and can_be_saved(pod) and notice is not None and is_meant(pod, notice)


async def hear(sources: Sequence[Source], desk: NewsDesk) -> None:
    """Have every source tell the desk, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for source in sources:
            group.create_task(source.run(desk), name=f"source {source.name}")
    await asyncio.Event().wait()
