"""Jobs as they lived: pods one after another on their nodes, put together from Checkpoint objects and pods.

Pure. A pod that is gone is known by the Checkpoint objects that were made for it, as long as these are kept.
What nobody has recorded is None here, never guessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from crikpy.model.orders import NOT_STARTED, SPARED, Order, OrderPhase
from crikpy.model.pods import Pod
from crikpy.page.facts import Facts

_COMPLETE: Final = (OrderPhase.COMPLETE, OrderPhase.RESTORING, OrderPhase.RESTORED)
_HOPELESS: Final = (OrderPhase.FAILED, OrderPhase.EXPIRED)


class Fate(StrEnum):
    """How it stands with a pod's job; the value is how people are told."""

    RUNS = "runs"
    WAITS = "saved, waits to be resumed"
    MOVED = "moved on"
    LOST = "lost"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What one pod lived through.

    Attributes:
        namespace: the pod's.
        pod: its name.
        uid: its UID.
        workload: the name under which its checkpoints are kept.
        node: where it was; empty where nobody has recorded it.
        begin: since when its jobs worked, aware UTC; None where that is not known.
        end: until when, as far as is known, aware UTC; None while they do, or where that is not known.
        fate: how it stands with it.
        orders: its Checkpoint objects, the oldest first.
        resumed_from: the one that it was resumed from, or None.
        left_by: of these the one from which another pod has resumed it, or waits to, or None.
    """

    namespace: str
    pod: str
    uid: str
    workload: str
    node: str
    begin: datetime | None
    end: datetime | None
    fate: Fate
    orders: tuple[Order, ...] = ()
    resumed_from: Order | None = None
    left_by: Order | None = None

    @property
    def earliest(self) -> datetime | None:
        """The first moment that is known of it."""
        return min((when for when in (self.begin, *map(moment, self.orders), self.end) if when), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job: pods, each of which went on where the one before it was, or began where that had ended.

    Attributes:
        lives: the oldest first; at least one.
    """

    lives: tuple[Life, ...]

    @property
    def last(self) -> Life:
        """The pod that has it now, or had it last."""
        return self.lives[-1]


def moment(order: Order) -> datetime | None:
    """Return when an order was answered, or else begun, or made."""
    return order.status.completed or order.status.started or order.created


def lives_of(facts: Facts) -> tuple[Life, ...]:
    """Return all pods that are there or have left Checkpoint objects, the earliest first."""
    orders: defaultdict[tuple[str, str], list[Order]] = defaultdict(list)
    resumed: dict[tuple[str, str], Order] = {}
    for order in sorted(facts.orders, key=lambda order: (_stamp(moment(order)), order.name)):
        orders[order.namespace, order.spec.pod_uid].append(order)
        namespace, _, uid = _resumer(order)
        if order.status.phase is OrderPhase.RESTORED and uid and namespace == order.namespace:
            resumed[namespace, uid] = order
    pods = {(pod.namespace, pod.uid): pod for pod in facts.pods}
    found = (
        _life(key, pods.get(key), orders.get(key, ()), resumed.get(key)) for key in {*pods, *orders, *resumed}
    )
    return tuple(sorted(found, key=lambda life: (_stamp(life.earliest), life.namespace, life.pod, life.uid)))


def jobs_of(lives: Iterable[Life]) -> tuple[Job, ...]:
    """Return the jobs that these pods had, one after another.

    A pod follows the one whose checkpoint it has resumed. One that began afresh follows the pod of its workload
    that was lost before, if that was the only one: replicas of a Deployment cannot be told apart.
    """
    chains: list[list[Life]] = []
    of: dict[tuple[str, str], list[Life]] = {}
    having: defaultdict[tuple[str, str], list[list[Life]]] = defaultdict(list)
    for life in lives:
        workload = (life.namespace, life.workload)
        if life.resumed_from is not None:
            chain = of.get((life.namespace, life.resumed_from.spec.pod_uid))
        else:
            chain = _lost_before(life, having[workload])
        if chain is None:
            chain = []
            chains.append(chain)
            having[workload].append(chain)
        chain.append(life)
        of[life.namespace, life.uid] = chain
    return tuple(Job(lives=tuple(chain)) for chain in chains)


def _lost_before(life: Life, chains: Sequence[list[Life]]) -> list[Life] | None:
    """Return the job of the same workload that a pod has begun afresh, or None."""
    if len(chains) != 1 or life.begin is None:
        return None
    last = chains[0][-1]
    return chains[0] if last.fate is Fate.LOST and last.end is not None and last.end <= life.begin else None


def _life(key: tuple[str, str], pod: Pod | None, orders: Sequence[Order], resumed_from: Order | None) -> Life:
    fate, end, left_by = _end(pod, orders)
    known = orders[-1] if orders else resumed_from
    return Life(
        namespace=key[0],
        uid=key[1],
        pod=pod.name if pod else (orders[-1].spec.pod if orders else _resumer(resumed_from)[1]),
        workload=pod.workload if pod else (known.spec.workload if known else ""),
        node=(pod.node if pod else "") or (orders[-1].spec.node if orders else ""),
        begin=_begin(pod, orders, resumed_from),
        end=end,
        fate=fate,
        orders=tuple(orders),
        resumed_from=resumed_from,
        left_by=left_by,
    )


def _begin(pod: Pod | None, orders: Sequence[Order], resumed_from: Order | None) -> datetime | None:
    """Return since when a pod's jobs worked; the last time where they were started again in place."""
    told = [order.pod_started for order in orders if order.pod_started is not None]
    if pod is not None and pod.working_since is not None and not pod.over:
        told.append(pod.working_since)
    if resumed_from is not None and resumed_from.restored is not None:
        told.append(resumed_from.restored)
    return max(told, default=None)


def _end(pod: Pod | None, orders: Sequence[Order]) -> tuple[Fate, datetime | None, Order | None]:
    """Return how it stands with a pod's job, until when it worked, and what was kept of it."""
    taken = next((order for order in reversed(orders) if order.status.phase is OrderPhase.RESTORED), None)
    stopped = next((order for order in reversed(orders) if _stands(order)), None)
    if taken is not None:
        return Fate.MOVED, _last_work(orders, taken), taken
    if stopped is not None:
        return Fate.WAITS, stopped.status.completed, stopped
    if pod is not None and not pod.over:
        return Fate.RUNS, None, None
    lost = next((order for order in reversed(orders) if _is_loss(order)), None)
    if lost is not None:
        return Fate.LOST, lost.status.completed, None
    return Fate.ENDED, max(filter(None, map(moment, orders)), default=None), None


def _last_work(orders: Sequence[Order], taken: Order) -> datetime | None:
    """Return until when a pod worked whose checkpoint was resumed: beyond it, if it could not be saved again."""
    later = [order.status.completed for order in orders if _is_loss(order)]
    known = [when for when in (taken.status.completed, *later) if when is not None]
    return max(known, default=None)


def _stands(order: Order) -> bool:
    """Say whether an order's checkpoint stands and its job stands still for it."""
    return order.status.phase in _COMPLETE and not order.spec.leave_running and order.status.reason != SPARED


def _is_loss(order: Order) -> bool:
    """Say whether an order came to nothing that a pod's job hung on: the save for good, or the resumption."""
    if order.status.phase not in _HOPELESS or order.status.reason == NOT_STARTED:
        return False
    return not order.spec.leave_running or order.status.checkpoint != ""


def _resumer(order: Order | None) -> tuple[str, str, str]:
    """Return namespace, name and UID of the pod that has resumed an order's checkpoint; empty where nobody has."""
    namespace, name, uid = ("", "", "", *(order.status.restored_by if order else "").split("/"))[-3:]
    return namespace, name, uid


def _stamp(when: datetime | None) -> float:
    return when.timestamp() if when is not None else 0.0
