"""Facts in few words, for tests of what the page makes of them. Times are hours after BEGIN."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from crikpy.model.notices import Trigger
from crikpy.model.orders import Order, OrderBytes, OrderPhase, OrderSpec, OrderStatus
from crikpy.model.pods import Container, Pod
from crikpy.page.facts import Facts

BEGIN = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
GIB = 1 << 30


def at(hours: float | None) -> datetime | None:
    """Return the time so many hours after BEGIN."""
    return None if hours is None else BEGIN + timedelta(hours=hours)


def pod(
    uid: str, *, node: str = "n1", begun: float = 0, phase: str = "Running", injected: bool = True, name: str = "a"
) -> Pod:
    """Return an opted-in pod of the workload `w`."""
    return Pod(
        namespace="team",
        name=name,
        uid=uid,
        node=node,
        phase=phase,
        opted_in=True,
        injected=("main",) if injected else (),
        workload="w",
        started=at(begun - 0.25),
        containers=(Container(name="main", started=at(begun)),),
    )


def order(
    uid: str,
    phase: OrderPhase,
    completed: float | None,
    *,
    begun: float | None = 0,
    by: str = "",
    restored: float | None = None,
    periodic: bool = False,
    node: str = "n1",
    reason: str = "",
    checkpoint: str | None = None,
    name: str = "a",
) -> Order:
    """Return the Checkpoint object of a pod of the workload `w`; it was answered so many hours after BEGIN."""
    saved = phase in (OrderPhase.COMPLETE, OrderPhase.RESTORING, OrderPhase.RESTORED)
    return Order(
        namespace="team",
        name=f"{uid}-{phase}-{completed}",
        created=at(completed),
        pod_started=at(begun),
        restored=at(restored),
        spec=OrderSpec(
            pod=name,
            pod_uid=uid,
            node=node,
            containers=("main",),
            workload="w",
            trigger=Trigger.INTERVAL if periodic else Trigger.SPOT_INTERRUPTION,
            notice="" if periodic else "spot-1",
            leave_running=periodic,
        ),
        status=OrderStatus(
            phase=phase,
            completed=at(completed),
            checkpoint=checkpoint if checkpoint is not None else ("c" if saved else ""),
            bytes=OrderBytes(memory=3 * GIB, stored=GIB, reused=2 * GIB) if saved else OrderBytes(),
            frozen_s=1.5 if saved else None,
            total_s=12.25 if saved else None,
            restored_by=f"team/{name}/{by}" if by else "",
            reason=reason,
            message=f"it is {phase}",
        ),
    )


def facts(*things: Pod | Order, now: float = 20) -> Facts:
    """Return facts of pods and Checkpoint objects, looked at so many hours after BEGIN."""
    return Facts(
        now=BEGIN + timedelta(hours=now),
        pods=tuple(thing for thing in things if isinstance(thing, Pod)),
        orders=tuple(thing for thing in things if isinstance(thing, Order)),
    )
