"""A cluster in miniature for test_life_cycle: what is true of its machines and jobs, and what its API server says.

Nodes, pods, orders and checkpoints are those of crikpy's own models, so that its own planning and choosing work on
them. Machines, kubelets, schedulers and owners of pods do here what the real ones do, in steps that a test orders
as it likes. Nothing here decides anything that crikpy decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from crikpy import names
from crikpy.agent.choosing import OriginState, doubtful
from crikpy.agent.origins import state_of
from crikpy.controller.actions import (
    Action,
    DeleteOrder,
    DeletePod,
    EvictPod,
    ExpireOrder,
    ForgetPod,
    MakeOrder,
    MarkNode,
    UndoNode,
)
from crikpy.controller.marking import is_marked, wanted_marks
from crikpy.controller.viewing import ClusterView, KnownOrder
from crikpy.flows.gathering import Candidate
from crikpy.model.notices import InterruptionNotice
from crikpy.model.orders import Order, OrderPhase, OrderStatus
from crikpy.model.pods import Pod
from crikpy.store.records import Claim
from tests.controller.clusters import NOW, SETTINGS, a_node, a_notice, a_pod

_ALLOWED = {
    OrderPhase.PENDING: set(OrderPhase) - {OrderPhase.RESTORING, OrderPhase.RESTORED},
    OrderPhase.DUMPING: {OrderPhase.DUMPING, OrderPhase.COMPLETE, OrderPhase.FAILED, OrderPhase.EXPIRED},
    OrderPhase.COMPLETE: {
        OrderPhase.COMPLETE,
        OrderPhase.DUMPING,
        OrderPhase.RESTORING,
        OrderPhase.RESTORED,
        OrderPhase.FAILED,
    },
    OrderPhase.RESTORING: {OrderPhase.RESTORING, OrderPhase.RESTORED, OrderPhase.FAILED},
    OrderPhase.RESTORED: {OrderPhase.RESTORED},
    OrderPhase.FAILED: {OrderPhase.FAILED},
    OrderPhase.EXPIRED: {OrderPhase.EXPIRED},
}
"""What the CRD lets follow each phase."""


class JobState(StrEnum):
    """What is true of a job, whatever anybody believes."""

    WAITING = "waiting"
    RUNNING = "running"
    HELD = "held"
    ENDED = "ended"


@dataclass
class Job:
    """The job in a pod.

    Attributes:
        workload: whose it is; one pod of each is wanted.
        state: what it does.
        steps: how far it has come.
        saving: the order under which it is being saved, by name; empty when it is not.
        resumed: id of the checkpoint that it goes on from, or empty.
    """

    workload: str
    state: JobState = JobState.WAITING
    steps: int = 0
    saving: str = ""
    resumed: str = ""


@dataclass
class Stored:
    """A complete checkpoint in the store.

    Attributes:
        pod_uid: whose job was saved.
        node: where.
        workload: its workload.
        steps: how far the job had come.
        claims: who has claimed it, in order; only the first has it.
    """

    pod_uid: str
    node: str
    workload: str
    steps: int
    claims: list[str] = field(default_factory=list)


class World:
    """Everything.

    Attributes:
        seconds: since the beginning.
        nodes: as the API server has them.
        powered: names of the nodes whose machines run.
        cut_off: of these, those that nobody can reach, nor they anybody.
        pods: as the API server has them, by UID.
        jobs: of every pod that ever was, by its UID.
        orders: as the API server has them, by name.
        store: complete checkpoints by id.
        places: nodes of every pod that ever was, by its UID.
    """

    def __init__(self, nodes: int, workloads: int) -> None:
        self.seconds = 0.0
        self.nodes = {f"n{number}": a_node(f"n{number}") for number in range(nodes)}
        self.powered = set(self.nodes)
        self.cut_off: set[str] = set()
        self.pods: dict[str, Pod] = {}
        self.jobs: dict[str, Job] = {}
        self.orders: dict[str, KnownOrder] = {}
        self.store: dict[str, Stored] = {}
        self.places: dict[str, str] = {}
        self._workloads = [f"w{number}" for number in range(workloads)]
        self._numbers = iter(range(1_000_000))

    @property
    def now(self) -> datetime:
        """The time."""
        return NOW + timedelta(seconds=self.seconds)

    def view(self) -> ClusterView:
        """Return what a controller that looks now would see."""
        return ClusterView(
            now=self.now,
            settings=SETTINGS,
            nodes=dict(self.nodes),
            pods=dict(self.pods),
            orders=tuple(self.orders.values()),
        )

    # Machines.

    def pass_time(self, seconds: float) -> None:
        """Let time pass; machines that run report, and those whose notice is up go, as EC2 promises."""
        self.seconds += seconds
        for name, node in list(self.nodes.items()):
            notice = node.notice
            if notice is not None and notice.deadline is not None and self.now >= notice.deadline:
                self.lose(name)
            if self.reachable(name):
                self.nodes[name] = replace(node, heartbeat=self.now, ready=True, ready_reason="KubeletReady")

    def reachable(self, name: str) -> bool:
        """Say whether a machine runs and can be reached."""
        return name in self.powered and name not in self.cut_off

    def lose(self, name: str) -> None:
        """Have a machine end; its jobs end with it, and the API server hears no more of it."""
        self.powered.discard(name)
        self.cut_off.discard(name)
        for uid, job in self.jobs.items():
            if (pod := self.pods.get(uid)) is not None and pod.node == name and job.state is not JobState.ENDED:
                job.state, job.saving = JobState.ENDED, ""

    def notice_silence(self, name: str) -> None:
        """Have Kubernetes notice that a machine has stopped reporting."""
        if not self.reachable(name):
            self.nodes[name] = replace(self.nodes[name], ready=False, ready_reason="NodeStatusUnknown")

    def give_up_pods(self, name: str) -> None:
        """Have Kubernetes delete the pods of a node that is silent, as it does after five minutes."""
        if not self.nodes[name].ready:
            for uid, pod in self.pods.items():
                if pod.node == name:
                    ends = self.now + timedelta(seconds=30)
                    self.pods[uid] = replace(pod, deleting=True, deletion_deadline=ends)

    def remove_node(self, name: str) -> None:
        """Have the cloud's controller remove a node whose machine is gone, and Kubernetes its pods."""
        if name not in self.powered and len(self.nodes) > 1:
            del self.nodes[name]
            for uid in [uid for uid, pod in self.pods.items() if pod.node == name]:
                del self.pods[uid]

    def add_node(self) -> None:
        """Have a new machine join."""
        name = f"n{next(self._numbers) + 100}"
        self.nodes[name] = a_node(name, heartbeat=self.now)
        self.powered.add(name)

    def announce(self, name: str) -> None:
        """Have a machine's agent publish a spot interruption in two minutes."""
        node = self.nodes[name]
        if self.reachable(name) and node.notice is None:
            found = a_notice(f"spot-{next(self._numbers)}", deadline_s=self.seconds + 120, seen_s=self.seconds)
            self.nodes[name] = replace(node, notice=found)

    def withdraw(self, name: str) -> None:
        """Have the agent take its notice back."""
        if self.reachable(name):
            self.nodes[name] = replace(self.nodes[name], notice=None)

    # Owners, schedulers, kubelets.

    def make_pods(self) -> None:
        """Have owners make the pods that are wanted, and the scheduler place them."""
        for workload in self._workloads:
            wanted = not any(
                pod.workload == workload and not (pod.deleting or pod.over) for pod in self.pods.values()
            )
            places = [name for name, node in self.nodes.items() if node.ready and not is_marked(node)]
            if wanted and places:
                uid = f"{workload}-{next(self._numbers)}"
                # The one with the fewest pods, as a scheduler spreads them.
                place = min(places, key=lambda name: sum(pod.node == name for pod in self.pods.values()))
                self.pods[uid] = replace(a_pod(uid), uid=uid, node=place, workload=workload, created=self.now)
                self.jobs[uid], self.places[uid] = Job(workload), place

    def end_pod(self, uid: str) -> None:
        """Have kubelet end a pod that is being deleted, and confirm it."""
        pod = self.pods.get(uid)
        if pod is not None and pod.deleting and self.reachable(pod.node):
            job = self.jobs[uid]
            job.state, job.saving = JobState.ENDED, ""
            del self.pods[uid]

    # What controllers ask of the API server.

    def carry_out(self, action: Action) -> None:
        """Do to the API server's objects what an action does, as far as it still can be done."""
        match action:
            case MakeOrder(order=order):
                if order.name not in self.orders:
                    made = replace(order, uid=f"o-{order.name}", created=self.now)
                    self.orders[order.name] = KnownOrder(order=made, kept=True)
            case ExpireOrder(order=order):
                self.tell(order.name, OrderPhase.EXPIRED)
            case EvictPod(pod=pod) | DeletePod(pod=pod):
                if (found := self.pods.get(pod.uid)) is not None:
                    ends = self.now + timedelta(seconds=30)
                    self.pods[pod.uid] = replace(found, deleting=True, deletion_deadline=ends)
            case ForgetPod(pod=pod):
                self.pods.pop(pod.uid, None)
            case DeleteOrder(order=order):
                self.orders.pop(order.name, None)
            case MarkNode(node=name, notice=notice):
                self._mark(name, notice)
            case UndoNode(node=name):
                self._mark(name, None)
            case _:
                pass

    def _mark(self, name: str, notice: InterruptionNotice | None) -> None:
        if name not in self.nodes:
            return
        marks = wanted_marks(self.nodes[name], notice)
        notes = ((names.CORDONED, marks.cordoned_for), (names.UNCORDONED, marks.uncordoned_for))
        self.nodes[name] = replace(
            self.nodes[name],
            taints=marks.taints,
            unschedulable=marks.unschedulable,
            annotations=tuple(note for note in notes if note[1]),
        )

    # What agents see and say.

    def tell(self, name: str, phase: OrderPhase, **status: str) -> None:
        """Have somebody write an order's status; what the CRD forbids is refused."""
        known = self.orders.get(name)
        if known is None or phase not in _ALLOWED[known.order.status.phase]:
            return
        completed = self.now if phase.final else None
        old = known.order.status
        told = OrderStatus(
            phase=phase,
            completed=completed,
            checkpoint=status.get("checkpoint", old.checkpoint),
            reason=status.get("reason", ""),
            restored_by=status.get("restored_by", old.restored_by),
        )
        self.orders[name] = replace(known, order=replace(known.order, status=told))

    def orders_for(self, uid: str) -> list[Order]:
        """Return the orders for a pod."""
        return [known.order for known in self.orders.values() if known.order.spec.pod_uid == uid]

    def candidates(self, workload: str) -> list[Candidate]:
        """Return the complete checkpoints of a workload that count, as crikpy.agent.resuming finds them."""
        ours = Claim(host="", instance="", boot_id="", pid=0, time="", token="")
        found = [
            Candidate(
                checkpoint=identity,
                pod_uid=stored.pod_uid,
                claim=replace(ours, token=claims[0], host=self.places[claims[0]])
                if (claims := stored.claims)
                else None,
            )
            for identity, stored in sorted(self.store.items(), reverse=True)
            if stored.workload == workload
        ]
        strange = {
            identity for identity, claim in doubtful(found).items() if self.store[identity].node != claim.host
        }
        return [candidate for candidate in found if candidate.checkpoint not in strange]

    def origins(self, workload: str, own: str) -> dict[str, OriginState]:
        """Return what has become of the pods whose checkpoints there are, as the API server has it now."""
        makers = {found.pod_uid for found in self.store.values() if found.workload == workload} - {own}
        states = dict.fromkeys(makers, OriginState.GONE)
        for uid, pod in self.pods.items():
            ending = pod.deleting and pod.workload == workload and uid != own
            if uid in makers or ending:
                states[uid] = state_of(pod, {}, self.nodes.get(pod.node))
        return states

    def commit(self, uid: str) -> str:
        """Have the checkpoint of a job stand in the store; return its id."""
        job = self.jobs[uid]
        identity = f"c{next(self._numbers):06}"
        self.store[identity] = Stored(uid, self.places[uid], job.workload, job.steps)
        return identity
