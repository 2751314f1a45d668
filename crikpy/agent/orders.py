"""The orders of this node: Checkpoint objects, obeyed, or taken for what the agent has done by itself already.

An order says what shall be; how far it is, is told by whoever saves (crikpy.agent.saving). One that an agent died
over is obeyed again: its jobs run on, as everything does that an agent leaves behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from crikpy import log
from crikpy.agent.acts import Cause, failed_status
from crikpy.agent.following import follow
from crikpy.agent.reporting import Teller
from crikpy.agent.saving import Saver
from crikpy.agent.sessions import Activity, PodSession
from crikpy.aio.clock import Deadline
from crikpy.errors import DeadlineError, NoSuchJobError, UsageError
from crikpy.kube.api import KubeApi
from crikpy.kube.changes import Change
from crikpy.kube.orders import parse_order
from crikpy.kube.resources import CHECKPOINTS
from crikpy.kube.watching import Mirror
from crikpy.metrics import Metrics
from crikpy.model.orders import NOT_STARTED, Order, OrderStatus
from crikpy.model.pods import Pod
from crikpy.settings import Settings

_log = logging.getLogger(__name__)

_APPEARS_S: Final = 10.0
"""This agent may have begun a moment ago, and not have seen all launchers yet."""

_BEGINS_S: Final = 3.0
"""Under a notice jobs do not begin any more, and their pods had better begin elsewhere at once."""

_LOOK_S: Final = 0.2


class Orders:
    """Follows the orders of this node; each is worked on in a task of its own."""

    def __init__(
        self,
        api: KubeApi,
        pods: Mapping[str, PodSession],
        known: Mapping[str, Pod],
        saver: Saver,
        teller: Teller,
        metrics: Metrics,
        settings: Settings,
        *,
        appears_s: float = _APPEARS_S,
    ) -> None:
        """Make ready.

        Args:
            api: where the orders are.
            pods: the node's pods with launchers by UID, a live view.
            known: all of the node's pods by UID, as far as the API server has told.
            saver: saves them.
            teller: hears what becomes of orders that come to nothing.
            metrics: counted in.
            settings: the node's name, how long a save may take when nothing presses.
            appears_s: how long the launchers of an order's pod are waited for.
        """
        self._pods = pods
        self._known = known
        self._saver = saver
        self._teller = teller
        self._settings = settings
        self._appears_s = appears_s
        node = settings.agent.node
        self._mirror = Mirror(
            api, CHECKPOINTS, parse_order, metrics=metrics, field_selector=f"spec.nodeName={node}"
        )
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Obey for ever; cancel to stop, which leaves saves to the saver."""
        await follow(self._mirror, self._take, self._tasks)

    def _take(self, change: Change, order: Order) -> None:
        if change is Change.DELETED or order.deleted is not None:
            if not self._is_foreign(order):
                self._saver.withdraw_order(order.spec.pod_uid, order.name)
            if (task := self._tasks.get(order.uid)) is not None:
                task.cancel()
            return
        self._teller.appeared(order.namespace, order.name)
        if order.uid not in self._tasks and change is Change.ADDED:
            task = asyncio.create_task(self._guarded(order), name=f"order {order}")
            self._tasks[order.uid] = task
            task.add_done_callback(lambda _: self._tasks.pop(order.uid, None))

    async def _guarded(self, order: Order) -> None:
        with log.about(**order.facts):
            try:
                await self._obey(order)
            except Exception:  # noqa: BLE001  # the other orders must not suffer for it
                _log.exception("an order failed of a defect in crikpy")

    async def _obey(self, order: Order) -> None:
        """Do what an order says, unless its dump is over, or it is in a phase of a later release."""
        if not order.status.phase.open:
            return
        if self._is_foreign(order):
            self._refuse(order, UsageError.reason, f"no pod of this namespace has the UID {order.spec.pod_uid}")
            return
        cause = self._cause(order)
        if (known := self._saver.known(order.spec.pod_uid, cause)) is not None:
            self._teller.tell_status(order.namespace, order.name, known.status)
            return
        session = await self._pod_of(order, cause.deadline)
        if session is None and self._has_not_begun(order):
            self._refuse(order, NOT_STARTED, f"the job of pod {order.spec.pod} has not begun")
        elif session is None and cause.deadline.expired():
            self._refuse(order, DeadlineError.reason, "its deadline has passed", expired=True)
        elif session is None or session.pod is None:
            self._refuse(order, NoSuchJobError.reason, f"no job of pod {order.spec.pod} can be saved on this node")
        elif self._is_foreign(order):  # nobody could tell before its pod was known
            self._refuse(order, UsageError.reason, f"no pod of this namespace has the UID {order.spec.pod_uid}")
        elif wrong := self._wrong_group(order, session.pod):
            self._refuse(order, UsageError.reason, wrong)
        elif unknown := sorted(set(order.spec.containers) - set(session.pod.injected)):
            what = f"{', '.join(unknown)} of pod {order.spec.pod} cannot be saved: not below the launcher"
            self._refuse(order, UsageError.reason, what)
        else:
            await self._saver.save(session, cause)

    def _wrong_group(self, order: Order, pod: Pod) -> str:
        """Say why an order is not for a pod of this group, or nothing."""
        group = order.spec.group
        if pod.group and group is None:
            return f"pod {pod} is saved with its group {pod.group} only, by an order for each member"
        if group is not None and (group.name != pod.group or not group.has(pod.uid)):
            return f"pod {pod} is no member of group {group.name}"
        return ""

    def _is_foreign(self, order: Order) -> bool:
        """Say whether an order is for a pod of another namespace: who may order here may not order there."""
        session = self._pods.get(order.spec.pod_uid)
        pod = self._known.get(order.spec.pod_uid) or (session.pod if session is not None else None)
        return pod is not None and pod.namespace != order.namespace

    async def _pod_of(self, order: Order, deadline: Deadline) -> PodSession | None:
        """Return the order's pod once its jobs have begun; None when it is not here, or does not begin in time."""
        appears = deadline.earlier(self._appears_s)
        begins = deadline.earlier(_BEGINS_S) if order.spec.notice else deadline
        while True:
            session = self._pods.get(order.spec.pod_uid)
            known = session is not None and session.pod is not None
            if session is not None and known and session.activity is not Activity.WAITING:
                return session
            if (begins if known else appears).expired():
                return None
            await asyncio.sleep(_LOOK_S)

    def _has_not_begun(self, order: Order) -> bool:
        """Say whether a pod that goes away has nothing to lose, so that it may begin elsewhere at once."""
        if not order.spec.notice or order.spec.leave_running:
            return False
        session = self._pods.get(order.spec.pod_uid)
        if session is not None and session.capsules:
            return session.activity is Activity.WAITING and not session.begun
        pod = self._known.get(order.spec.pod_uid)
        return pod is not None and pod.phase == "Pending"

    def _cause(self, order: Order) -> Cause:
        spec = order.spec
        ends = None if spec.deadline is None else Deadline.from_datetime(spec.deadline)
        return Cause(
            trigger=spec.trigger,
            deadline=ends or Deadline.after(self._settings.run.manual_deadline_s),
            leave_running=spec.leave_running,
            notice=spec.notice,
            order=order.name,
            ordered=True,
            ends=ends if spec.notice else None,
            group=spec.group,
        )

    def _refuse(self, order: Order, reason: str, message: str, *, expired: bool = False) -> None:
        status = failed_status(OrderStatus(started=order.status.started), reason, message, expired=expired)
        self._teller.tell_status(order.namespace, order.name, status)
        if order.spec.group is not None:
            self._saver.renounce(order.namespace, order.spec.group, order.spec.pod, message)
