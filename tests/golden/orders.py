"""Checkpoint objects in every state in which the controller and the agents of this release leave them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from crikpy import names
from crikpy.agent.acts import complete_status, failed_status
from crikpy.agent.misfits import Misfits
from crikpy.controller.actions import ExpireOrder
from crikpy.errors import DumpError, RestoreError
from crikpy.flows.gathering import Candidate
from crikpy.kube.pods import parse_pod
from crikpy.kube.resources import PODS
from crikpy.model.manifest import Sizes
from crikpy.model.orders import Order, OrderPhase, OrderStatus
from crikpy.model.workload import Workload
from tests.agent.cluster import NAMESPACE
from tests.golden.stage import NEW_UID, SEEN, STORE, UID, Json, Stage, raw_pod
from tests.golden.writing import FIRST
from tests.store.images import manifest_of

_BEGUN: Final = OrderStatus(phase=OrderPhase.DUMPING, started=SEEN, reason="Dumping", message="is being saved")
_SIZES: Final = Sizes(image_bytes=3 << 30, zero_bytes=0, reused_bytes=2 << 30, stored_bytes=1 << 30, chunks=9)
_CANDIDATE: Final = Candidate(checkpoint=FIRST, pod=f"{NAMESPACE}/train-0", pod_uid=UID)


def complete_status_of() -> OrderStatus:
    """Return the status of an order whose checkpoint stands."""
    manifest = manifest_of(Workload(cluster="cluster", namespace=NAMESPACE, name="sts-train-0.main"), FIRST)
    manifests = [replace(manifest, sizes=_SIZES)]
    return complete_status(_BEGUN, manifests, location=STORE, frozen_s=1.5, total_s=12.25)


async def _resumed(stage: Stage, order: Order, phase: OrderPhase) -> None:
    """Have another pod resume what an order has saved, well or not."""
    new = parse_pod(raw_pod("train-0", NEW_UID))
    stage.teller.tell_restoring(new, checkpoint=FIRST, origin_uid=UID)
    await stage.reaches(order, OrderPhase.RESTORING)
    if phase is OrderPhase.RESTORED:
        stage.teller.tell_restored(new, checkpoint=FIRST, origin_uid=UID, seconds=2.0)
    elif phase is OrderPhase.FAILED:
        fault = RestoreError("CRIU gave up")
        stage.teller.tell_restore_failed(new, checkpoint=FIRST, origin_uid=UID, fault=fault)
    await stage.reaches(order, phase)


async def _misfit(stage: Stage) -> None:
    new = parse_pod(raw_pod("train-0", NEW_UID))
    assert await Misfits(stage.api, stage.teller, stage.metrics).ask_for_move(new, _CANDIDATE, ("CPU features",))


async def order_in(folder: Path, case: str) -> Json:
    """Return an order of one case, made from its beginning."""
    async with Stage.set_up(folder) as stage:
        raw = raw_pod("train-0", UID, owned=case != "Recreated", notes={names.INJECTED: "main"})
        pod = parse_pod(stage.kube.put(PODS, raw))
        order = await stage.make(pod, leave_running=case == "Periodic", recreates=case == "Recreated")
        match case:
            case "Dumping":
                await stage.tell(order, _BEGUN)
            case "Failed":
                fault = DumpError("CRIU gave up")
                await stage.tell(order, failed_status(_BEGUN, fault.reason, fault.message))
            case "Expired":
                await stage.actor.perform(ExpireOrder(order=order, message="no agent took it in time"))
            case "Complete" | "Periodic" | "Recreated" | "Restoring" | "Restored" | "NotRestored" | "Misfit":
                await stage.tell(order, complete_status_of())
        match case:
            case "Restoring" | "Restored":
                await _resumed(stage, order, OrderPhase(case))
            case "NotRestored":
                await _resumed(stage, order, OrderPhase.FAILED)
            case "Misfit":
                await _misfit(stage)
        return stage.order(order)


CASES: Final = (
    *("Pending", "Dumping", "Complete", "Restoring", "Restored", "Failed", "Expired"),
    *("NotRestored", "Misfit", "Periodic", "Recreated"),
)
