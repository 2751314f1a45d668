"""Checkpoints that people ask for or after: an order made by hand, the wait for what becomes of it, and the list.

Whoever asks needs the right to create Checkpoint objects in the pod's namespace, and to read its pods; no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from crikpy import names
from crikpy.aio.clock import Deadline
from crikpy.errors import DeadlineError, KubeInvalidError, KubeNotFoundError, KubeUnavailableError, UsageError
from crikpy.kube.api import KubeApi
from crikpy.kube.grouping import NO_GROUP, group_order, groups_of, never_whole, not_yet_whole
from crikpy.kube.orders import parse_order, render_order
from crikpy.kube.pods import parse_pod
from crikpy.kube.resources import CHECKPOINTS, PODS
from crikpy.model.notices import Trigger
from crikpy.model.orders import Order, OrderSpec, order_name
from crikpy.model.pods import Pod

_log = logging.getLogger(__name__)

_LOOK_S: Final = 0.3
_INSTALL: Final = "install crikpy: kubectl apply -k controller"


async def order_checkpoint(api: KubeApi, namespace: str, name: str, *, move: bool, within_s: float) -> Order:
    """Make an order for a running pod; where it is in a group, for all of that, of which this returns the pod's.

    Args:
        api: the API server.
        namespace: the pod's.
        name: the pod's.
        move: end the pod once it is saved, so that its replacement resumes it.
        within_s: seconds that it may take.

    Raises:
        KubeNotFoundError: there is no such pod, or the cluster has no crikpy.
        UsageError: the pod cannot be saved as it is, or would not come back from being moved.
    """
    try:
        pod = parse_pod(await api.get(PODS, name, namespace=namespace))
    except KubeNotFoundError as absent:
        raise KubeNotFoundError(
            f"there is no pod {namespace}/{name}", remedy="`kubectl get pods -A` shows what there is"
        ) from absent
    members = await _members_of(api, pod) if pod.group else (pod,)
    for member in members:
        _require_savable(member)
        if move and member.owner is None:
            raise UsageError(
                f"nobody would make pod {member} again: it has no controller",
                remedy="leave out --move, and make the pod anew by yourself",
            )
    now = datetime.now(UTC)
    occasion = f"manual {now.isoformat()}"
    group = group_order(members, occasion) if pod.group else None
    orders = [
        Order(
            namespace=namespace,
            name=order_name(member.name, member.uid, occasion),
            pod_started=member.working_since,
            spec=OrderSpec(
                pod=member.name,
                pod_uid=member.uid,
                node=member.node,
                containers=member.injected,
                workload=member.workload,
                trigger=Trigger.MANUAL,
                deadline=now + timedelta(seconds=within_s),
                leave_running=not move,
                group=group,
            ),
        )
        for member in members
    ]
    try:
        made = [
            parse_order(await api.create(CHECKPOINTS, render_order(order), namespace=namespace))
            for order in orders
        ]
        return next(order for order in made if order.spec.pod_uid == pod.uid)
    except KubeNotFoundError as absent:
        raise KubeNotFoundError(
            f"this cluster does not know Checkpoint objects, or has no namespace {namespace}", remedy=_INSTALL
        ) from absent


async def _members_of(api: KubeApi, pod: Pod) -> tuple[Pod, ...]:
    """Return all pods of a pod's group.

    Raises:
        UsageError: it cannot be saved as a whole.
    """
    pods = [parse_pod(raw) for raw in (await api.list(PODS, namespace=pod.namespace)).items]
    members = groups_of(pods).get((pod.namespace, pod.group), (pod,))
    if fault := never_whole(members) or not_yet_whole(pods, members):
        raise UsageError(
            f"group {pod.group} of pod {pod} cannot be saved: {fault}",
            remedy=f'a pod that is to be saved alone needs {names.GROUP}: "{NO_GROUP}" in its annotations',
        )
    return members


async def list_orders(api: KubeApi, namespace: str) -> list[Order]:
    """Return the orders of a namespace, of all when that is empty; one that cannot be read is logged and left out.

    Raises:
        KubeNotFoundError: the cluster has no crikpy.
        KubeError: the API server did not answer, or refused.
    """
    try:
        found = await api.list(CHECKPOINTS, namespace=namespace)
    except KubeNotFoundError as absent:
        raise KubeNotFoundError("this cluster does not know Checkpoint objects", remedy=_INSTALL) from absent
    orders = []
    for raw in found.items:
        try:
            orders.append(parse_order(raw))
        except KubeInvalidError as fault:
            _log.warning("%s", fault.message)
    return orders


async def await_order(
    api: KubeApi, order: Order, deadline: Deadline, *, on_change: Callable[[Order], None] = lambda order: None
) -> Order:
    """Wait until an order's dump is over, well or not; `on_change` hears of each change on the way.

    Raises:
        DeadlineError: nothing came of it in time; the order still stands.
        KubeNotFoundError: somebody deleted it.
    """
    seen = order.resource_version
    while not order.status.phase.final:
        if deadline.expired():
            raise DeadlineError(
                f"order {order} is still {order.status.phase}",
                remedy=f"see that an agent runs on {order.spec.node}: kubectl -n crikpy-system get pods -o wide",
            )
        await asyncio.sleep(_LOOK_S)
        try:
            order = parse_order(await api.get(CHECKPOINTS, order.name, namespace=order.namespace))
        except KubeUnavailableError:
            continue  # the order stands, whether or not we can see it
        if order.resource_version != seen:
            seen = order.resource_version
            on_change(order)
    return order


def _require_savable(pod: Pod) -> None:
    if not pod.opted_in:
        raise UsageError(
            f"pod {pod} has not opted in", remedy=f'its template needs the annotation {names.OPT_IN}: "true"'
        )
    if not pod.injected:
        raise UsageError(
            f"no container of pod {pod} runs below crikpy's launcher",
            remedy=f"`crikpy why pod/{pod.name}` says why",
        )
    if pod.phase != "Running" or pod.deleting:
        state = "being deleted" if pod.deleting else pod.phase
        raise UsageError(f"pod {pod} is {state}", remedy="only a running pod can be saved")
