"""Clusters for planning, made in one line each: nodes, pods, notices and orders as planning sees them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from crikpy.controller.viewing import ClusterView, KnownOrder, PlanSettings
from crikpy.kube.signals import Signs
from crikpy.model.nodes import Node
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.model.orders import Order, OrderPhase, OrderSpec, OrderStatus, order_name
from crikpy.model.pods import Owner, Pod, PodOptions

NOW = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
SETTINGS = PlanSettings(
    lead=timedelta(minutes=15),
    margin=timedelta(seconds=10),
    spare=timedelta(minutes=5),
    order_ttl=timedelta(days=1),
)
JOB = Owner(kind="Job", name="job", uid="job-uid")


def at(seconds: float) -> datetime:
    """Return the time so many seconds from the beginning."""
    return NOW + timedelta(seconds=seconds)


def a_notice(
    id: str = "spot-1",  # noqa: A002
    *,
    trigger: Trigger = Trigger.SPOT_INTERRUPTION,
    deadline_s: float | None = 120,
    action: str = "terminate",
    seen_s: float = 0,
) -> InterruptionNotice:
    """Return a spot interruption in two minutes, or another notice."""
    return InterruptionNotice(
        id=id,
        trigger=trigger,
        source="imds",
        instance="",
        deadline=None if deadline_s is None else at(deadline_s),
        action=action,
        seen=at(seen_s),
    )


def a_rebalance(*, seen_s: float = 0) -> InterruptionNotice:
    """Return a rebalance recommendation."""
    trigger = Trigger.REBALANCE_RECOMMENDATION
    return a_notice("rebalance-1", trigger=trigger, deadline_s=None, action="", seen_s=seen_s)


def a_node(name: str = "n1", **changes: Any) -> Node:
    """Return a healthy node."""
    return replace(Node(name=name, uid=f"{name}-uid", ready=True, heartbeat=NOW), **changes)


def a_pod(name: str = "a", **changes: Any) -> Pod:
    """Return an opted-in, injected pod of a Job that runs on n1."""
    pod = Pod(
        namespace="default",
        name=name,
        uid=f"{name}-uid",
        node="n1",
        phase="Running",
        opted_in=True,
        injected=("main",),
        workload=f"pod-{name}",
        owner=JOB,
        created=at(-3600),
        started=at(-3600),
    )
    return replace(pod, **changes)


def with_options(**options: Any) -> dict[str, Any]:
    """Return the change to a pod that gives it these options."""
    return {"options": PodOptions(**options)}


def an_order(
    pod: Pod | None = None,
    *,
    phase: OrderPhase = OrderPhase.COMPLETE,
    notice: str = "spot-1",
    trigger: Trigger = Trigger.SPOT_INTERRUPTION,
    leave_running: bool = False,
    deadline_s: float | None = 110,
    created_s: float = 1,
    completed_s: float | None = 20,
    recreates: bool = False,
    kept: bool = True,
    deleted_s: float | None = None,
    discarder: str = "",
    **status: Any,
) -> KnownOrder:
    """Return the order for a pod and a notice, complete unless asked otherwise."""
    pod = pod or a_pod()
    order = Order(
        namespace=pod.namespace,
        name=order_name(pod.name, pod.uid, notice or f"{trigger}-{created_s}"),
        uid=f"order-{pod.uid}-{notice}-{created_s}",
        created=at(created_s),
        deleted=None if deleted_s is None else at(deleted_s),
        spec=OrderSpec(
            pod=pod.name,
            pod_uid=pod.uid,
            node=pod.node,
            containers=pod.injected,
            workload=pod.workload,
            trigger=trigger,
            notice=notice,
            deadline=None if deadline_s is None else at(deadline_s),
            leave_running=leave_running,
        ),
        status=OrderStatus(
            phase=phase, completed=at(completed_s) if phase.final and completed_s is not None else None, **status
        ),
    )
    return KnownOrder(order=order, recreates=recreates, kept=kept, discarder=discarder)


def a_view(
    *objects: Node | Pod | KnownOrder,
    now_s: float = 0,
    warned: tuple[str, ...] = (),
    signs: Signs = None,
    **settings: timedelta,
) -> ClusterView:
    """Return a picture of a cluster with these objects."""
    orders = [known for known in objects if isinstance(known, KnownOrder)]
    return ClusterView(
        now=at(now_s),
        settings=replace(SETTINGS, signs=signs, **settings),
        nodes={node.name: node for node in objects if isinstance(node, Node)},
        pods={pod.uid: pod for pod in objects if isinstance(pod, Pod)},
        orders=tuple(known for known in orders if known.order.deleted is None),
        leaving=tuple(known for known in orders if known.order.deleted is not None),
        warned=frozenset(warned),
    )
