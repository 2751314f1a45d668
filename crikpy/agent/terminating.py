"""What a SIGTERM means: kubelet sends the same for a pod that somebody deletes and for one whose node goes away.

Saved jobs end by it. Jobs that go for their node's sake are saved first, within the time that kubelet leaves them.
Everybody else gets it at once. Whatever happens here, the SIGTERM reaches the job in the end, or its end does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from datetime import datetime
from weakref import WeakKeyDictionary

from crikpy import names
from crikpy.agent.acts import Cause, Outcome
from crikpy.agent.launchers import CapsuleSession
from crikpy.agent.outlook import NodeOutlook, final_notice_on
from crikpy.agent.saving import Saver
from crikpy.agent.sessions import Activity, PodSession
from crikpy.aio.clock import Deadline
from crikpy.errors import CrikpyError, KubeError, KubeNotFoundError, LauncherError
from crikpy.kube.api import KubeApi
from crikpy.kube.nodes import parse_node
from crikpy.kube.pods import parse_pod
from crikpy.kube.resources import NODES, PODS
from crikpy.kube.signals import read_signs, why_going
from crikpy.model.nodes import Node
from crikpy.model.notices import Trigger, foremost
from crikpy.model.orders import DRAIN, order_name
from crikpy.model.pods import Pod
from crikpy.settings import Settings

_log = logging.getLogger(__name__)

_ASK_S = 0.8
"""How long the API server may take to say why a pod ends: a plain termination must not be slower for us."""

_MARGIN_S = 3.0
"""Kept between the deadline of a save and kubelet's SIGKILL."""

_PLAIN_S = 1.0
"""A job can send SIGTERM to its launcher, as often as it likes: the API server is not asked at each."""

_LOOK_S = 0.05
"""Between two looks at what is known of the node, or of a save."""

_LEAST_S = 1.0
"""With less time than this nothing can be saved."""


class Terminator:
    """Decides for each pod that gets a SIGTERM, once for all of its containers."""

    def __init__(
        self, api: KubeApi, saver: Saver, outlook: NodeOutlook, own_node: NodeOutlook, settings: Settings
    ) -> None:
        """Make ready.

        Args:
            api: asked why a pod ends.
            saver: saves what is to be saved.
            outlook: what the metadata service says.
            own_node: what stood on the node's object when it was last seen.
            settings: which signs there are.

        Raises:
            SettingsError: the table of signs cannot be read.
        """
        self._signs = read_signs(settings.signals)
        self._api = api
        self._saver = saver
        self._outlook = outlook
        self._own_node = own_node
        self._settings = settings
        self._deciding: dict[str, asyncio.Task[bool]] = {}
        self._plain: WeakKeyDictionary[PodSession, Deadline] = WeakKeyDictionary()
        """Pods whose last SIGTERM was for themselves, and until when the next one counts as the same."""

    async def on_term(self, session: PodSession, capsule: CapsuleSession) -> None:
        """Answer one launcher's SIGTERM, when it is clear what it means; until then it is kept from the job."""
        if session.activity is Activity.WAITING:
            await capsule.pass_term()
            return
        try:
            await capsule.hold_term()
        except LauncherError:  # its job has ended before us, or it has waited too long and has passed it on
            return
        if await self._moves(session):
            return
        with contextlib.suppress(CrikpyError):  # whoever is gone or has got it otherwise needs it no more
            await capsule.pass_term()

    async def _moves(self, session: PodSession) -> bool:
        """Return whether a pod's jobs end by having been saved; asked several times at once, it decides once."""
        task = self._deciding.get(session.uid)
        if task is None:
            task = asyncio.create_task(self._decide(session))
            self._deciding[session.uid] = task
            task.add_done_callback(lambda _: self._deciding.pop(session.uid, None))
        return await asyncio.shield(task)

    async def _decide(self, session: PodSession) -> bool:
        pod = session.pod
        # Ended: the other containers' SIGTERMs were answered together, and the jobs have ended since.
        if session.activity is Activity.ENDED:
            return session.moved
        killed = Deadline.after(_grace_s(pod))
        if (moving := self._saver.end(session, Deadline(killed.at - _MARGIN_S))) is not None:
            return await _within(killed, moving)
        if pod is None:
            await self._untorn(session, killed)
            return False
        if session in self._plain and not self._plain[session].expired():
            return False
        cause = await self._cause(pod, killed)
        if cause is None:
            _log.info("a SIGTERM goes on to the jobs of a pod", extra={"pod": str(session)})
            self._plain[session] = Deadline.after(_PLAIN_S)
            await self._untorn(session, killed)
            return False
        saving = asyncio.ensure_future(self._saver.save(session, cause))
        return await _within(killed, saving)

    async def _untorn(self, session: PodSession, killed: Deadline) -> None:
        """Wait until nobody starts or reads the pod's jobs: a checkpoint would be lost, or hold the SIGTERM."""
        # Nobody is told when it is decided that jobs run on.
        while session.lock.locked() and not self._saver.running_on(session) and not killed.expired():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)

    async def _cause(self, known: Pod, killed: Deadline) -> Cause | None:
        """Return why a pod that ends is to be saved first; None when it just ends."""
        asked = Deadline.after(_ASK_S)
        pod, node = await asyncio.gather(self._fresh_pod(known, asked), self._fresh_node(asked))
        if pod is None or not pod.opted_in:
            return None
        occasion = self._occasion(pod, node)
        while occasion is None and not pod.deleting and not asked.expired():
            # Kubelet that shuts down with its machine deletes nothing, and may tell of it only now.
            await asyncio.sleep(_LOOK_S)
            occasion = self._occasion(pod, None)
        if occasion is None:
            return None
        limits = [killed.at if pod.deletion_deadline is None else Deadline.from_datetime(pod.deletion_deadline).at]
        if occasion.ends is not None:
            limits.append(Deadline.from_datetime(occasion.ends).at)
        deadline = Deadline(min(limits) - _MARGIN_S)
        if deadline.remaining() < _LEAST_S:
            _log.warning("no time is left to save a pod that goes away", extra={"pod": str(pod)})
            return None
        return Cause(
            trigger=occasion.trigger,
            deadline=deadline,
            leave_running=False,
            notice=occasion.notice,
            order=order_name(pod.name, pod.uid, occasion.notice or DRAIN),
            pressing=True,
        )

    async def _fresh_pod(self, known: Pod, deadline: Deadline) -> Pod | None:
        """Return the pod as it is now, as we last knew it if nobody answers, or None when it is gone."""
        try:
            raw = await self._api.get(PODS, known.name, namespace=known.namespace, deadline=deadline)
        except KubeNotFoundError:
            return None
        except KubeError as fault:
            _log.warning("nobody says why a pod ends: %s", fault, extra={"pod": str(known)})
            return known
        pod = parse_pod(raw)
        return pod if pod.uid == known.uid else None

    async def _fresh_node(self, deadline: Deadline) -> Node | None:
        """Return the node as it is now; one that is gone from the API counts as being deleted."""
        name = self._settings.agent.node
        try:
            return parse_node(await self._api.get(NODES, name, deadline=deadline))
        except KubeNotFoundError:
            return Node(name=name, uid="", deleting=True)
        except KubeError:
            return None

    def _occasion(self, pod: Pod, node: Node | None) -> _Occasion | None:
        """Return for which event of its node a pod goes away, or None when it goes for its own reasons.

        A drain has a checkpoint of its own: what was saved for its sign before let the jobs run on.
        """
        if node is None:
            on_node = self._own_node.final_notice()
        else:
            on_node = final_notice_on(node, self._signs, self._settings)
        notice = foremost(one for one in (self._outlook.final_notice(), on_node) if one is not None)
        cordoned_for = "" if node is None else dict(node.annotations).get(names.CORDONED, "")
        if notice is not None and notice.stops:
            ordered_for = cordoned_for if notice.known_as(cordoned_for) else notice.id
            return _Occasion(trigger=notice.trigger, notice=ordered_for, ends=notice.deadline)
        if notice is None and node is not None and (trigger := why_going(node, self._signs)) is not None:
            return _Occasion(trigger=trigger, notice=cordoned_for)
        return _Occasion(trigger=Trigger.DRAIN) if notice is not None or pod.disruption else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Occasion:
    """What a pod goes away for.

    Attributes:
        trigger: the kind of event.
        notice: id of the interruption notice, or empty.
        ends: when the node goes, aware UTC, or None.
    """

    trigger: Trigger
    notice: str = ""
    ends: datetime | None = None


def _grace_s(pod: Pod | None) -> float:
    """Return how long a pod has from its SIGTERM on, the shorter one of what is said and what is left."""
    if pod is None:
        return 30.0
    if pod.deletion_deadline is None:
        return pod.grace_period_s
    return min(pod.grace_period_s, Deadline.from_datetime(pod.deletion_deadline).remaining())


async def _within(killed: Deadline, outcome: asyncio.Future[Outcome]) -> bool:
    """Wait for a save until the pod is killed; return whether it is complete."""
    try:
        async with asyncio.timeout(killed.remaining()):
            return (await asyncio.shield(outcome)).saved
    except TimeoutError:
        return False
