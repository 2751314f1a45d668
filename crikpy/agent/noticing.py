"""The node's own bad news: heard from its metadata service, acted upon at once, told to the cluster besides.

Nothing here waits for the API server: a node whose controller is away must save its pods all the same. What the
controller does with the node's condition later means the same saves, by the names of their orders.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from crikpy.agent.acts import Cause
from crikpy.agent.outlook import is_due
from crikpy.agent.reporting import Teller
from crikpy.agent.saving import Saver
from crikpy.agent.sessions import Activity, PodSession
from crikpy.aio.clock import Deadline
from crikpy.aio.tasks import stop
from crikpy.ec2.imds import MetadataClient
from crikpy.ec2.watching import watch_notices
from crikpy.errors import MetadataError
from crikpy.kube.nodes import notice_condition
from crikpy.metrics import Metrics
from crikpy.model.notices import InterruptionNotice, Withdrawn, foremost
from crikpy.model.orders import order_name
from crikpy.model.pods import OnRebalance, Pod
from crikpy.settings import Settings

_log = logging.getLogger(__name__)

_MARGIN = timedelta(seconds=3)
"""Kept between the deadline of a save and the machine's end, for the eviction."""

_LEAST_S: Final = 20.0
"""Time for a save whose deadline has passed: a machine that is still there may be for a while."""

_LOOK_S: Final = 1.0
"""While a notice is in force: between two looks for pods whose jobs have begun only now."""

_IDLE_S: Final = 30.0
_SURE_AFTER_POLLS: Final = 3
"""So many looks after the metadata service first answered, there surely is no notice."""


class NodeNotices:
    """The notices in force on this node, and what they make the agent do."""

    def __init__(
        self,
        pods: Mapping[str, PodSession],
        saver: Saver,
        teller: Teller,
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        """Make ready.

        Args:
            pods: the node's pods by UID, a live view.
            saver: saves them.
            teller: hears of notices.
            metrics: counted in.
            settings: where notices come from, how long saved jobs wait.
        """
        self._pods = pods
        self._saver = saver
        self._teller = teller
        self._metrics = metrics
        self._settings = settings
        self._announced: dict[str, InterruptionNotice] = {}
        self._in_force: dict[str, InterruptionNotice] = {}
        self._asked: set[tuple[str, str]] = set()
        self._saves: set[asyncio.Task[object]] = set()
        self._news = asyncio.Event()
        self._told: str | None = None
        self._sure = not settings.notices.imds_enabled

    def final_notice(self) -> InterruptionNotice | None:
        """Return the notice in force by which this node surely goes, the most pressing one, or None."""
        notice = foremost(self._in_force.values())
        return notice if notice is not None and notice.final else None

    async def run(self, client: MetadataClient) -> None:
        """Hear and act for ever; cancel to stop."""
        tasks = [asyncio.create_task(self._hear(client)), asyncio.create_task(self._find_out_who_we_are(client))]
        try:
            while True:
                self._news.clear()
                self._attend(datetime.now(UTC))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S if self._announced else _IDLE_S):
                        await self._news.wait()
        finally:
            for task in [*tasks, *self._saves]:
                await stop(task)

    async def _hear(self, client: MetadataClient) -> None:
        async for news in watch_notices(client, self._settings.notices, metrics=self._metrics):
            if isinstance(news, Withdrawn):
                self._announced.pop(news.notice.id, None)
            else:
                self._announced[news.id] = news
            self._news.set()

    async def _find_out_who_we_are(self, client: MetadataClient) -> None:
        """Learn the instance's id, and when the absence of a notice is news in itself."""
        poll_s = self._settings.notices.poll_interval_s
        while self._settings.notices.imds_enabled:
            try:
                self._saver.instance = await client.instance_id()
            except MetadataError:
                await asyncio.sleep(poll_s)
                continue
            await asyncio.sleep(_SURE_AFTER_POLLS * poll_s)
            break
        self._sure = True
        self._news.set()

    def _attend(self, now: datetime) -> None:
        """Compare what is announced with what is in force, and act on the difference."""
        due = {notice.id: notice for notice in self._announced.values() if is_due(notice, self._settings, now)}
        begun = [notice for notice in due.values() if notice.id not in self._in_force]
        over = [notice for notice in self._in_force.values() if notice.id not in due]
        self._in_force = due
        self._metrics.notices_active.set(len(due))
        for notice in begun:
            self._saver.forget_notice(notice.id)
            self._teller.tell_node("InterruptionNotice", _describe(notice), warning=True)
        for notice in over:
            self._end(notice)
        for notice in due.values():
            if notice.final or notice in begun:
                self._save_for(notice)
        self._publish(now)

    def _end(self, notice: InterruptionNotice) -> None:
        withdrawn = notice.id not in self._announced
        how = "was withdrawn" if withdrawn else "is past, and the machine is still there"
        self._teller.tell_node("NoticeWithdrawn", f"{notice.id} ({notice.trigger.value}) {how}")
        self._saver.withdraw_notice(notice.id)
        self._asked = {(pod, asked) for pod, asked in self._asked if asked != notice.id}

    # Saving.

    def _save_for(self, notice: InterruptionNotice) -> None:
        """Have every pod saved that was not asked for, the most pressing first."""
        wanted = [
            (session, pod, cause)
            for session, pod in self._savable()
            if (session.uid, notice.id) not in self._asked and (cause := self._cause(pod, notice)) is not None
        ]
        for session, _, cause in sorted(wanted, key=lambda found: found[2].rank(found[1])):
            self._asked.add((session.uid, notice.id))
            task: asyncio.Task[object] = asyncio.create_task(self._saver.save(session, cause))
            self._saves.add(task)
            task.add_done_callback(self._saves.discard)

    def _savable(self) -> Iterator[tuple[PodSession, Pod]]:
        for session in list(self._pods.values()):
            pod = session.pod
            if session.activity in (Activity.WAITING, Activity.ENDED) or pod is None:
                continue
            if pod.opted_in and pod.injected and not pod.deleting and not pod.over:
                yield session, pod

    def _cause(self, pod: Pod, notice: InterruptionNotice) -> Cause | None:
        """Return why a pod is to be saved; None when it need not be."""
        chosen = pod.options.on_rebalance if pod.options else OnRebalance.CHECKPOINT
        if not notice.final and chosen is OnRebalance.IGNORE:
            return None
        ends = deadline = None
        if notice.deadline is not None:
            ends = Deadline.from_datetime(notice.deadline)
            deadline = max(Deadline.from_datetime(notice.deadline - _MARGIN), Deadline.after(_LEAST_S), key=_at)
        return Cause(
            trigger=notice.trigger,
            deadline=deadline or Deadline.after(self._settings.run.manual_deadline_s),
            leave_running=not notice.final and chosen is OnRebalance.CHECKPOINT,
            notice=notice.id,
            order=order_name(pod.name, pod.uid, notice.id),
            ends=ends,
        )

    # Telling.

    def _publish(self, now: datetime) -> None:
        """Write the node's condition when it is news; that there is no notice, only when that is sure."""
        notice = foremost(self._in_force.values())
        if notice is None and not self._sure:
            return
        said = notice.id if notice else ""
        if said != self._told:
            self._told = said
            self._teller.tell_condition(notice_condition(notice, now))


def _at(deadline: Deadline) -> float:
    return deadline.at


def _describe(notice: InterruptionNotice) -> str:
    when = f" at {notice.deadline:%H:%M:%S} UTC" if notice.deadline else ""
    return f"{notice.trigger.value} ({notice.source}): {notice.action or 'the machine may go'}{when}"
