"""Which Checkpoint objects have served their time. The checkpoints in the store are kept by other rules.

Nothing is deleted that still means something: what is not in a final phase, what was ordered for the notice that
its node is under (it would be ordered again), what holds a bare pod, and what keeps a job standing still.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from crikpy.controller.actions import DeleteOrder
from crikpy.controller.evicting import is_done_with
from crikpy.controller.viewing import ClusterView, KnownOrder, options_of
from crikpy.kube.signals import notices_of
from crikpy.model.orders import Order, OrderPhase
from crikpy.model.pods import PodOptions

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_WITHOUT_CHECKPOINT = (OrderPhase.FAILED, OrderPhase.EXPIRED)


def plan_prunings(view: ClusterView) -> Iterator[DeleteOrder]:
    """Yield the objects that are too old, or too many: per pod as many are kept as its checkpoints are."""
    for known in view.orders_by_pod.values():
        pod = view.pod_of(known[0].order)
        keep = max(1, (options_of(pod) if pod else PodOptions()).keep)
        final = sorted((one for one in known if one.order.status.phase.final), key=_age, reverse=True)
        failed = [one for one in final if one.order.status.phase in _WITHOUT_CHECKPOINT]
        complete = [one for one in final if one.order.status.phase not in _WITHOUT_CHECKPOINT]
        surplus = [*_surplus(view, complete, keep), *_surplus(view, failed, keep)]
        if pod and options_of(pod).interval_s and final:
            # From the end of the last one the pod's next periodic checkpoint is reckoned.
            last = max(final, key=lambda one: _ended(one.order))
            surplus = [one for one in surplus if one is not last]
        yield from (DeleteOrder(order=one.order) for one in surplus)


def _surplus(view: ClusterView, newest_first: Sequence[KnownOrder], keep: int) -> Iterator[KnownOrder]:
    for rank, known in enumerate(newest_first):
        is_old = view.now > _ended(known.order) + view.settings.order_ttl
        if (rank >= keep or is_old) and not _still_means_something(view, known):
            yield known


def _still_means_something(view: ClusterView, known: KnownOrder) -> bool:
    order = known.order
    if order.spec.notice and _is_told_of(view, order):
        return True
    awaits_pod = known.recreates and order.status.phase is OrderPhase.COMPLETE
    awaits_end = not order.spec.notice and is_done_with(order) and view.pod_of(order) is not None
    return awaits_pod or awaits_end


def _is_told_of(view: ClusterView, order: Order) -> bool:
    """Say whether the node still bears the notice, in force or outlived."""
    node = view.nodes.get(order.spec.node)
    told = () if node is None else notices_of(node, view.settings.signs, view.now)
    return any(notice.id == order.spec.notice for notice in told)


def _ended(order: Order) -> datetime:
    return order.status.completed or order.created or _LONG_AGO


def _age(known: KnownOrder) -> tuple[datetime, str]:
    return known.order.created or _LONG_AGO, known.order.name
