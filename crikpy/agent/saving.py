"""Saving pods: each act once however many ask for it, so many at once, the most pressing first.

Whatever fails, the jobs run on. Saved jobs that are to move stay stopped and held here until they have to end, or
until nothing asks for their end any more. Whether a pod is to be saved is decided elsewhere.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

from crikpy.agent.acts import Act, Cause, Outcome, failed_status, stopped_outcome
from crikpy.agent.performing import Performer
from crikpy.agent.planning import Urgency
from crikpy.agent.reporting import FAILED_EVENT, Teller
from crikpy.agent.sessions import PodSession
from crikpy.aio.clock import Deadline
from crikpy.errors import CapsuleError, GroupError
from crikpy.flows.fate import patience_s
from crikpy.flows.saving import Member
from crikpy.metrics import Metrics
from crikpy.model.groups import GroupOrder
from crikpy.model.orders import OrderPhase, OrderStatus
from crikpy.model.pods import Pod
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore

_MOST_OUTCOMES = 1024
_LOOK_S = 0.2
_ORDERED_S = 10.0
"""From a SIGTERM until a save of the pod's group must have been ordered; then the job gets it."""

_UNDO_S = 2.0
"""Of the time that an agent has for its end, kept for tidying up what is given up then."""


class Saver:
    """Saves this node's pods.

    Attributes:
        instance: EC2 instance id of this machine, or empty.
        stopping: nothing is begun any more, and saved jobs run on.
    """

    def __init__(
        self,
        store: ObjectStore,
        settings: Settings,
        teller: Teller,
        metrics: Metrics,
        *,
        on_complete: Callable[[PodSession, Sequence[Member]], None] = lambda session, members: None,
    ) -> None:
        """Make ready.

        Args:
            store: where to.
            settings: how many at once, how much memory.
            teller: hears what becomes of orders.
            metrics: counted in.
            on_complete: called on the event loop after each commit.

        Raises:
            SettingsError: the memory does not suffice for any transfer.
        """
        self.instance = ""
        self.stopping = False
        self._teller = teller
        self._performer = Performer(store, settings, teller, metrics, self, on_complete)
        self._acts: dict[asyncio.Task[None], Act] = {}
        self._outcomes: OrderedDict[tuple[str, str], Outcome] = OrderedDict()
        self._withdrawn: set[str] = set()

    # What others ask for.

    async def save(self, session: PodSession, cause: Cause) -> Outcome:
        """Save a pod, or take part in a save that is under way or was done for the same reason.

        Never raises: a failure is an outcome, and the jobs run on then. Jobs that are not to run on are stopped on
        return, or have ended by then.
        """
        if not cause.pressing and (known := self.known(session.uid, cause)) is not None:
            if cause.order and session.pod is not None:
                self._teller.tell_status(session.pod.namespace, cause.order, known.status)
            return known
        if self.stopping:
            return stopped_outcome(OrderStatus())
        if (pod := session.pod) is None:
            status = failed_status(
                OrderStatus(), CapsuleError.reason, f"nothing is known yet of the pod {session}"
            )
            return Outcome(status=status)
        if pod.group and cause.group is None:
            return await self._save_with_group(session, pod, cause)
        act = self._serving(session, cause) or self._begin(session, pod, cause)
        self._join(act, cause)
        return await asyncio.shield(act.outcome)

    async def _save_with_group(self, session: PodSession, pod: Pod, cause: Cause) -> Outcome:
        """Take part in the save of a pod's group once that is ordered: here nobody knows who else is in it."""
        limit = cause.deadline.earlier(_ORDERED_S) if cause.pressing else cause.deadline
        while True:
            serving = (act for act in self.acts_of(session) if act.group is not None and act.serves(cause))
            if (act := next(serving, None)) is not None:
                self._join(act, cause)
                return await asyncio.shield(act.outcome)
            if not cause.pressing and (known := self.known(session.uid, cause)) is not None:
                return known
            if cause.notice in self._withdrawn or self.stopping:
                return stopped_outcome(OrderStatus())
            if limit.expired():
                break
            await asyncio.sleep(_LOOK_S)
        what = f"not saved and runs on: nobody has ordered in time to save its group {pod.group}"
        self._teller.tell_pod(pod, FAILED_EVENT, what, warning=True)
        return Outcome(status=failed_status(OrderStatus(), GroupError.reason, what))

    def renounce(self, namespace: str, group: GroupOrder, pod: str, reason: str) -> None:
        """Have the other members of a set not wait for a pod that is not saved; returns at once."""
        self._performer.renounce(namespace, group, pod, reason)

    def known(self, pod_uid: str, cause: Cause) -> Outcome | None:
        """Return what this process has done for a cause already, and whether it came to something."""
        keys = [(pod_uid, word) for word in (cause.order, cause.notice) if word]
        return next((self._outcomes[key] for key in keys if key in self._outcomes), None)

    def end(self, session: PodSession, by: Deadline | None = None) -> asyncio.Future[Outcome] | None:
        """Say that a pod has to end; its jobs do so once they are saved, if they are to move.

        Returns:
            The outcome, perhaps still to come, of the save that they move by; None when there is none.
        """
        for act in self.acts_of(session):
            if not act.leave_running and (act.saved is not None or not act.outcome.done()):
                act.end_wanted = True
                act.stirred.set()
                if by is not None:
                    self._hurry(act, by, Urgency.PRESSING)
                return act.outcome
        return None

    def running_on(self, session: PodSession) -> bool:
        """Say whether a pod's jobs run on while what was read of them is stored; that makes haste from now on."""
        for act in self.acts_of(session):
            if act.begun and not act.outcome.done() and act.fate.running_on:
                act.fate.hasten()
                return True
        return False

    def withdraw_notice(self, notice: str) -> None:
        """Take back a notice: what was saved for it alone runs on."""
        self._withdrawn.add(notice)
        for act in self._acts.values():
            act.take_back(notice=notice)

    def forget_notice(self, notice: str) -> None:
        """Forget what was done for a notice that comes once more: it asks anew."""
        self._withdrawn.discard(notice)
        self._performer.forecasts.forget_notice(notice)
        for key in [key for key, outcome in self._outcomes.items() if notice in outcome.notices]:
            del self._outcomes[key]

    def withdraw_order(self, pod_uid: str, name: str) -> None:
        """Take back an order that was deleted."""
        for act in self._acts.values():
            if act.session.uid == pod_uid:
                act.take_back(order=name)

    @property
    def busy(self) -> bool:
        """Whether a dump is under way or waits for its turn."""
        return any(not act.outcome.done() for act in self._acts.values())

    @property
    def idle(self) -> bool:
        """Whether no thread works on a dump, not even on one that nobody waits for any more."""
        return self._performer.dumper.idle

    async def stop(self, deadline: Deadline) -> None:
        """Begin nothing more, let dumps that are under way come to their end, and let saved jobs run on.

        Whoever works on this node next saves them again if they still have to go.
        """
        self.stopping = True
        self._performer.dumper.begin_no_more()
        for task, act in self._acts.items():
            act.stirred.set()
            act.fate.hasten()
            if act.company is not None and not act.company.standing:
                self._give_way(act, "its agent is being stopped")
            if not act.begun:
                task.cancel()
        if self._acts:
            await asyncio.wait(self._acts, timeout=max(0.0, deadline.remaining() - _UNDO_S))
        for act in self._acts.values():
            self._give_way(act, "its agent is being stopped")
        if self._acts:
            await asyncio.wait(self._acts, timeout=deadline.remaining())
        self._performer.dumper.leave()
        left = list(self._acts)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    # Which act it is.

    def acts_of(self, session: PodSession) -> list[Act]:
        """Return the acts of a pod that wait, are under way, or hold saved jobs."""
        return [act for act in self._acts.values() if act.session is session]

    def remember(self, act: Act) -> None:
        """Remember what an act came to, for those who ask later for the same reason."""
        outcome = Outcome(status=act.status, notices=act.notices)
        for word in act.orders | act.notices:
            self._outcomes[act.session.uid, word] = outcome
        while len(self._outcomes) > _MOST_OUTCOMES:
            self._outcomes.popitem(last=False)

    def _serving(self, session: PodSession, cause: Cause) -> Act | None:
        """Return the act that a cause takes part in; one that would let the jobs run on is made to keep them."""
        acts = self.acts_of(session)
        if (serving := next((act for act in acts if act.serves(cause)), None)) is not None:
            return serving
        if cause.leave_running:
            return None
        kept = next((act for act in acts if act.keep()), None)
        self._overtake(session, kept, cause.deadline)
        return kept

    def _overtake(self, session: PodSession, act: Act | None, by: Deadline) -> None:
        """Have what is still stored of jobs that run on be done soon: another act waits to save them for good."""
        for other in self.acts_of(session):
            if other is not act and other.begun and not other.outcome.done():
                other.fate.overtake()
                what = "it gave way to the checkpoint by which the job moves"
                asyncio.get_running_loop().call_later(patience_s(by), self._give_way, other, what)

    def _give_way(self, act: Act, reason: str) -> None:
        """Have an act come to an end; one that waits for others of its group by having that wait no more."""
        act.fate.give_way()
        if act.group is not None and not act.outcome.done():
            self.renounce(act.pod.namespace, act.group, act.pod.name, reason)

    def _begin(self, session: PodSession, pod: Pod, cause: Cause) -> Act:
        act = Act(session, pod, cause)
        task = asyncio.create_task(self._performer.perform(act))
        self._acts[task] = act
        task.add_done_callback(self._acts.pop)
        return act

    def _join(self, act: Act, cause: Cause) -> None:
        act.causes.append(cause)
        act.notices |= {cause.notice} - {""}
        if cause.order and cause.order not in act.orders:
            act.orders.add(cause.order)
            if act.status.phase is not OrderPhase.PENDING:
                self._teller.tell_status(act.pod.namespace, cause.order, act.status)
        if cause.pressing:
            act.end_wanted = True
            act.stirred.set()
        if cause.pressing or cause.urgency < act.urgency:
            self._hurry(act, cause.deadline, cause.urgency)

    def _hurry(self, act: Act, by: Deadline, urgency: Urgency) -> None:
        """Let an act come earlier, and not later than that; one that has begun is only planned with so."""
        act.urgency = min(act.urgency, urgency)
        if by.at < act.deadline.at:
            act.deadline = by
            asyncio.get_running_loop().call_later(by.remaining(), self._expire, act)
            if not act.begun and not act.leave_running:
                self._overtake(act.session, act, by)
        self._performer.turns.hurry(act)

    def _expire(self, act: Act) -> None:
        if not act.begun and not act.outcome.done() and not self._performer.turns.has(act):
            self._performer.expire(act)
