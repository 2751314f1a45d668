"""What commands about a cluster share: the way to its API server, and how pods and orders are named and shown."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

import crikpy
from crikpy.aio.clock import Deadline
from crikpy.cli.watching import Listing, Row
from crikpy.errors import KubeUnavailableError, UsageError
from crikpy.kube.client import KubeClient
from crikpy.kube.judging import judge
from crikpy.kube.surveying import survey
from crikpy.model.health import Finding, Verdict
from crikpy.model.orders import Order
from crikpy.model.quantities import human_age, human_size
from crikpy.settings import Settings

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])
_STYLES = {"Failed": "red"}
_LOOK_S = 60.0
_POD = re.compile(r"(?:pod|pods|po)/([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)")


def namespace_option(command: _F) -> _F:
    """Give a command `-n`, `--namespace`, as kubectl has it."""
    return click.option(
        "-n", "--namespace", metavar="NAMESPACE", help="Namespace of the pod.  [default: that of the kubeconfig]"
    )(command)


def pod_name(target: str) -> str | None:
    """Return the name in `pod/NAME`; None when the words name something else."""
    found = _POD.fullmatch(target)
    return found[1] if found else None


def require_pod_name(target: str) -> str:
    """Return the name in `pod/NAME`.

    Raises:
        UsageError: that is not a pod's name.
    """
    name = pod_name(target)
    if name is None:
        raise UsageError(f"{target!r} is not the name of a pod", remedy="write pod/NAME, as kubectl does")
    return name


def on_cluster(settings: Settings, act: Callable[[KubeClient], Awaitable[_T]]) -> _T:
    """Do something with the API server that the settings lead to."""

    async def connected() -> _T:
        async with await KubeClient.connect(settings.kube) as api:
            return await act(api)

    return asyncio.run(connected())


def cluster_findings(settings: Settings, namespace: str) -> tuple[Finding, ...]:
    """Return what a cluster lacks, that its API server does not answer included.

    Raises:
        SettingsError: nobody says which cluster.
    """
    try:
        seen = on_cluster(settings, lambda api: survey(api, settings, namespace, Deadline.after(_LOOK_S)))
    except KubeUnavailableError as fault:
        remedy = fault.remedy or "see that the kubeconfig names the right cluster, and that it can be reached"
        return (Finding(name="api", verdict=Verdict.FAILED, fact=fault.message, remedy=remedy),)
    return judge(seen, datetime.now(UTC), crikpy.__version__)


def order_facts(order: Order) -> dict[str, object]:
    """Return an order for `--output json`."""
    status = order.status
    return {
        "namespace": order.namespace,
        "name": order.name,
        "pod": order.spec.pod,
        "pod_uid": order.spec.pod_uid,
        "node": order.spec.node,
        "workload": order.spec.workload,
        "trigger": order.spec.trigger,
        "group": order.spec.group.name if order.spec.group else "",
        "set": order.spec.group.set_id if order.spec.group else "",
        "leave_running": order.spec.leave_running,
        "phase": status.phase,
        "reason": status.reason,
        "message": status.message,
        "checkpoint": status.checkpoint,
        "location": status.location,
        "memory_bytes": status.bytes.memory,
        "stored_bytes": status.bytes.stored,
        "reused_bytes": status.bytes.reused,
        "frozen_s": status.frozen_s,
        "total_s": status.total_s,
        "restored_by": status.restored_by,
        "created": _text(order.created),
        "started": _text(status.started),
        "completed": _text(status.completed),
    }


def order_listing(orders: Iterable[Order], *, with_namespace: bool) -> Listing:
    """Return orders for `crikpy list`, in their order."""
    columns = ("NAME", "POD", "GROUP", "NODE", "TRIGGER", "PHASE", "SIZE", "FROZEN", "RESTORED BY", "AGE")
    return Listing(
        columns=("NAMESPACE", *columns) if with_namespace else columns,
        rows=tuple(_order_row(order, with_namespace=with_namespace) for order in orders),
        right=("SIZE", "FROZEN", "AGE"),
        empty="no checkpoints",
    )


def _order_row(order: Order, *, with_namespace: bool) -> Row:
    status = order.status
    cells = (
        order.name,
        order.spec.pod,
        order.spec.group.name if order.spec.group else "",
        order.spec.node,
        order.spec.trigger,
        status.phase,
        human_size(status.bytes.memory) if status.bytes.memory else "",
        f"{status.frozen_s:.1f} s" if status.frozen_s is not None else "",
        "/".join(status.restored_by.split("/")[:2]),
        human_age((datetime.now(UTC) - order.created).total_seconds()) if order.created else "",
    )
    return Row(
        key=f"{order.namespace}/{order.name}",
        cells=(order.namespace, *cells) if with_namespace else cells,
        facts=order_facts(order),
        style=_STYLES.get(status.phase, ""),
    )


def _text(time: datetime | None) -> str:
    return time.isoformat(timespec="seconds") if time else ""
