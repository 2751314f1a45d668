"""A pod that came to a node on which its checkpoint cannot be resumed: people are told, and it is moved once.

The agent asks for the move by the order's status, where it stands for good; the controller ends the pod, and has
its successor kept to nodes that fit. Nothing was touched by then. A pod that nobody can move is none of this
room's business: it starts as if its restore had failed.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from crikpy import names
from crikpy.agent.reporting import Teller
from crikpy.aio.clock import Deadline
from crikpy.errors import KubeConflictError, KubeError
from crikpy.flows.gathering import Candidate
from crikpy.kube.api import Json, KubeApi
from crikpy.kube.orders import parse_order, render_status
from crikpy.kube.raw import items, mapping
from crikpy.kube.resources import CHECKPOINTS
from crikpy.metrics import Metrics
from crikpy.model.orders import Order
from crikpy.model.pods import OnMisfit, OnRestoreFailure, Pod, PodOptions

_log = logging.getLogger(__name__)

_ASK_S: Final = 10.0
_CONFLICTS: Final = 5


class Misfits:
    """Asks for moves.

    Args:
        api: where orders are.
        teller: tells people.
        metrics: counted in.
    """

    def __init__(self, api: KubeApi, teller: Teller, metrics: Metrics) -> None:
        self._api = api
        self._teller = teller
        self._metrics = metrics

    async def ask_for_move(self, pod: Pod, candidate: Candidate, differences: tuple[str, ...]) -> bool:
        """Tell people that a checkpoint does not fit, and ask for another node; return whether that was heard.

        It is not where the pod is to start right here, nobody would make it again, it was moved before, or the API
        server does not know how it was saved.
        """
        what = f"checkpoint {candidate.checkpoint} cannot be resumed on this node: {'; '.join(differences)}"
        self._teller.tell_pod(pod, "DoesNotFit", what, warning=True)
        options = pod.options or PodOptions()
        if options.on_misfit is OnMisfit.MOVE and pod.owner is not None and await self._ask(pod, candidate):
            self._metrics.misfits.labels(outcome="moved").inc()
            return True
        refused = options.restore_failure is OnRestoreFailure.FAIL
        self._metrics.misfits.labels(outcome="refused" if refused else "cold").inc()
        return False

    async def _ask(self, pod: Pod, candidate: Candidate) -> bool:
        deadline = Deadline.after(_ASK_S)
        for _ in range(_CONFLICTS):
            try:
                order, raw = await self._order_of(pod, candidate, deadline)
                if order is None or order.status.misfit or not order.status.phase.known:
                    return False
                await self._write(order, raw, f"{pod}/{pod.uid}", deadline)
            except KubeConflictError:
                continue
            except KubeError as fault:
                _log.warning("nobody can be asked to move %s: %s", pod, fault)
                return False
            return True
        return False

    async def _order_of(self, pod: Pod, candidate: Candidate, deadline: Deadline) -> tuple[Order | None, Json]:
        """Return the order under which a checkpoint was made."""
        found = await self._api.list(
            CHECKPOINTS,
            namespace=pod.namespace,
            label_selector=f"{names.LABEL_POD_UID}={candidate.pod_uid}",
            deadline=deadline,
        )
        orders = ((parse_order(raw), raw) for raw in found.items)
        made = [(order, raw) for order, raw in orders if order.status.checkpoint == candidate.checkpoint]
        return max(made, key=lambda each: each[0].name, default=(None, {}))

    async def _write(self, order: Order, raw: Json, misfit: str, deadline: Deadline) -> None:
        conditions = items(mapping(raw.get("status")).get("conditions"))
        body: Json = {
            "metadata": {"resourceVersion": order.resource_version},
            "status": render_status(replace(order.status, misfit=misfit), conditions, datetime.now(UTC)),
        }
        await self._api.patch(
            CHECKPOINTS,
            order.name,
            body,
            namespace=order.namespace,
            subresource="status",
            field_manager=names.FIELD_MANAGER_AGENT,
            deadline=deadline,
        )
