"""A cluster with a past, for the status page: made up, but with the objects that agents and controllers write.

Every time counts from the moment at which the story is told. hack/screenshots takes its pictures of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from crikpy import names
from crikpy.kube.nodes import notice_condition
from crikpy.kube.orders import render_order, render_status
from crikpy.kube.resources import CHECKPOINTS, EVENTS, NODES, PODS
from crikpy.kube.times import render_seconds
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.model.orders import Order, OrderBytes, OrderPhase, OrderSpec, OrderStatus, order_name
from tests.fakes.kube import FakeKube

Json = dict[str, Any]
GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Teller:
    """Puts objects into an API server.

    Attributes:
        kube: the server.
        now: from which times count.
    """

    kube: FakeKube
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def ago(self, **span: float) -> datetime:
        """Return a time before now, such as `hours=3`."""
        return self.now - timedelta(**span)

    def notice(
        self, trigger: Trigger, notice: str, left_s: float, action: str = "terminate"
    ) -> InterruptionNotice:
        """Return a notice whose time is up in so many seconds."""
        return InterruptionNotice(
            id=notice,
            trigger=trigger,
            source="imds:spot/instance-action" if action == "terminate" else "imds:events/maintenance/scheduled",
            instance="",
            deadline=self.now + timedelta(seconds=left_s),
            action=action,
            seen=self.now - timedelta(seconds=20),
        )

    def node(
        self, name: str, kind: str = "m7i.4xlarge", notice: InterruptionNotice | None = None, unable: str = ""
    ) -> None:
        """Put a node whose agent works, or says why it cannot."""
        heard = {"status": "True", "reason": "KubeletReady", "lastHeartbeatTime": render_seconds(self.now)}
        able = {"status": "False" if unable else "True", "reason": "Checked", "message": unable}
        self.kube.put(
            NODES,
            {
                "metadata": {
                    "name": name,
                    "labels": {
                        names.LABEL_READY: "false" if unable else "true",
                        names.LABEL_WELL_KNOWN_TYPE: kind,
                    },
                },
                "spec": {},
                "status": {
                    "conditions": [
                        {"type": "Ready", **heard},
                        {"type": names.CONDITION_READY, **able},
                        notice_condition(notice, self.now),
                    ]
                },
            },
        )

    def pod(self, uid: str, node: str, begun: datetime, *, name: str = "", injected: str = "main") -> None:
        """Put a running pod, `NAMESPACE/NAME` by its UID unless its name is another."""
        namespace, _, own = uid.partition("/")
        notes = {names.OPT_IN: "true"} | ({names.INJECTED: injected} if injected else {})
        owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": own[:-2], "uid": "o", "controller": True}
        running = {"name": "main", "state": {"running": {"startedAt": render_seconds(begun)}}}
        self.kube.put(
            PODS,
            {
                "metadata": {
                    "name": name or own,
                    "namespace": namespace,
                    "uid": uid.replace("/", "-"),
                    "annotations": notes,
                    "ownerReferences": [owner],
                },
                "spec": {"nodeName": node, "containers": [{"name": "main", "command": ["run"]}]},
                "status": {"phase": "Running", "startTime": render_seconds(begun), "containerStatuses": [running]},
            },
        )

    def order(
        self,
        uid: str,
        node: str,
        phase: OrderPhase,
        *,
        name: str = "",
        trigger: Trigger = Trigger.SPOT_INTERRUPTION,
        notice: str = "spot-1",
        begun: datetime | None = None,
        when: datetime | None = None,
        gib: float = 0.0,
        reused: float = 0.0,
        by: str = "",
        restored: datetime | None = None,
        message: str = "",
        reason: str = "",
        started: datetime | None = None,
    ) -> Order:
        """Put the Checkpoint object of a pod, with its status as agents write it; `by` resumes it."""
        namespace, _, own = uid.partition("/")
        own = name or own
        flat = uid.replace("/", "-")
        saved = phase in (OrderPhase.COMPLETE, OrderPhase.RESTORING, OrderPhase.RESTORED)
        status = OrderStatus(
            phase=phase,
            started=started or (when - timedelta(seconds=9) if when else None),
            completed=when,
            bytes=OrderBytes(
                memory=int(gib * GIB), stored=int((gib - reused) * GIB / 2), reused=int(reused * GIB)
            ),
            frozen_s=0.8 + gib / 4 if saved else None,
            total_s=2.0 + gib / 2 if saved else None,
            checkpoint=f"c-{flat}" if saved else "",
            reason=reason or phase.value,
            message=message or phase.value,
            restored_by=f"{by.partition('/')[0]}/{name or by.partition('/')[2]}/{by.replace('/', '-')}"
            if by
            else "",
        )
        order = Order(
            namespace=namespace,
            name=order_name(own, flat, f"{notice}{when}"),
            pod_started=begun,
            spec=OrderSpec(
                pod=own,
                pod_uid=flat,
                node=node,
                containers=("main",),
                workload=f"sts-{own}",
                trigger=trigger,
                notice="" if trigger in (Trigger.INTERVAL, Trigger.MANUAL) else notice,
                leave_running=trigger is Trigger.INTERVAL,
            ),
            status=status,
        )
        before: list[Json] = []
        if restored is not None:
            before = render_status(replace(status, phase=OrderPhase.COMPLETE), [], when or restored)["conditions"]
        made = render_order(order) | {"status": render_status(status, before, restored or self.now)}
        made["metadata"]["creationTimestamp"] = render_seconds(started or when or self.now)
        self.kube.put(CHECKPOINTS, made)
        return order

    def event(self, uid: str, reason: str, message: str) -> None:
        """Put what an agent has said of a pod."""
        namespace, _, own = uid.partition("/")
        self.kube.put(
            EVENTS,
            {
                "metadata": {"name": f"{own}.{reason.lower()}", "namespace": namespace},
                "involvedObject": {
                    "kind": "Pod",
                    "name": own,
                    "namespace": namespace,
                    "uid": uid.replace("/", "-"),
                },
                "reason": reason,
                "message": message,
                "lastTimestamp": render_seconds(self.now),
            },
        )


def tell(kube: FakeKube) -> Teller:
    """Tell the story: a rescue under way, jobs that have moved, one that was lost, two that cannot be saved."""
    told = Teller(kube=kube)
    dying, safe = "ip-10-0-1-17.eu-central-1.compute.internal", "ip-10-0-3-8.eu-central-1.compute.internal"
    odd, gone = "ip-10-0-4-4.eu-central-1.compute.internal", "ip-10-0-2-{}.eu-central-1.compute.internal"
    told.node(dying, notice=told.notice(Trigger.SPOT_INTERRUPTION, "spot-1", 97))
    told.node(safe, "r7i.8xlarge")
    told.node(odd, unable="the kernel is older than 5.15: CRIU cannot be trusted there")
    told.node(
        gone.format(40), "m6i.2xlarge", notice=told.notice(Trigger.SCHEDULED_EVENT, "maint-1", 6 * 86400, "reboot")
    )

    _resnet(told, dying, gone)
    told.pod("research/llm-tune-3", dying, told.ago(hours=7))
    told.order(
        "research/llm-tune-3", dying, OrderPhase.COMPLETE,
        begun=told.ago(hours=7), when=told.ago(seconds=4), gib=11.6, reused=8.2,
    )  # fmt: skip
    told.pod("simulation/flow-12", safe, told.ago(hours=15))
    for hours in (12.0, 8.5, 5.0, 1.5):
        told.order(
            "simulation/flow-12", safe, OrderPhase.COMPLETE, trigger=Trigger.INTERVAL,
            begun=told.ago(hours=15), when=told.ago(hours=hours), gib=2.4, reused=1.9,
        )  # fmt: skip
    told.order(
        "simulation/render-9", gone.format(77), OrderPhase.FAILED, begun=told.ago(hours=6), when=told.ago(hours=4),
        reason="PreflightRefused", message="process 9031 (mixer) has an io_uring open: CRIU cannot save it",
    )  # fmt: skip
    told.pod("simulation/etl-1", safe, told.ago(hours=1))
    told.event(
        "simulation/etl-1",
        "CannotBeSaved",
        "container main runs on unsaved (mode auto): process 9007 (loader) has an io_uring open",
    )
    told.pod("simulation/mesh-4", odd, told.ago(minutes=25), injected="")
    return told


def _resnet(told: Teller, dying: str, gone: str) -> None:
    """A job that has moved twice and is being saved once more."""
    first, second, third = (f"research/resnet-{run}" for run in "012")
    began, moved, again = told.ago(hours=22), told.ago(hours=13), told.ago(hours=5)
    told.order(
        first, gone.format(91), OrderPhase.RESTORED, name="resnet-0", begun=began, when=moved, gib=5.1,
        by=second, restored=moved + timedelta(minutes=2),
    )  # fmt: skip
    told.order(
        second, gone.format(55), OrderPhase.RESTORED, name="resnet-0", trigger=Trigger.DRAIN, notice="drain-1",
        begun=moved + timedelta(minutes=1), when=again, gib=5.2, reused=3.0,
        by=third, restored=again + timedelta(minutes=3),
    )  # fmt: skip
    told.pod(third, dying, again + timedelta(minutes=2), name="resnet-0")
    told.order(
        third, dying, OrderPhase.DUMPING, name="resnet-0", begun=again + timedelta(minutes=2),
        started=told.ago(seconds=6),
    )  # fmt: skip
