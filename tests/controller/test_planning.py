"""The plan as a whole, over random histories of a cluster: nothing twice, nothing wrong, nothing left behind.

Agents, kubelets, people and the metadata service do what they like; the plan is carried out wholly or in part, as
a controller that is killed in between would. What an action may do is checked when it is carried out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from crikpy import names
from crikpy.controller import actions
from crikpy.controller.marking import render_marks
from crikpy.controller.planning import plan
from crikpy.controller.viewing import ClusterView, KnownOrder
from crikpy.kube.nodes import notice_condition, parse_node, render_report_patch
from crikpy.kube.signals import notices_of, read_signs
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.model.orders import OrderPhase
from crikpy.model.pods import OnRebalance, Pod, PodOptions
from crikpy.settings import SignalSettings
from tests.controller.clusters import JOB, NOW, SETTINGS, a_pod
from tests.controller.merging import merge

NODES = ("n1", "n2")
TABLE = read_signs(SignalSettings())
SIGNS = [
    {"key": "karpenter.sh/disrupted", "effect": "NoSchedule"},
    {"key": "aws-node-termination-handler/spot-itn", "value": "event", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"},
]
_ROUNDS = 6
"""More rounds than any chain of consequences is long: mark, order, evict, make again, settle."""

_NODES = st.sampled_from(NODES)
_OPTIONS = st.builds(
    PodOptions,
    interval_s=st.sampled_from([None, 300.0]),
    on_rebalance=st.sampled_from(OnRebalance),
    recreate=st.booleans(),
    keep=st.integers(1, 3),
)
_DRAWN = st.integers(0, 10**6)


class Histories(RuleBasedStateMachine):
    """A cluster and what happens to it."""

    @initialize(options=st.lists(_OPTIONS, min_size=2, max_size=4))
    def begin(self, options: list[PodOptions]) -> None:
        self.now = NOW
        self.number = 0
        self.raw_nodes: dict[str, dict[str, Any]] = {name: a_raw_node(name) for name in NODES}
        self.silent: set[str] = set()
        self.pods: dict[str, Pod] = {}
        self.orders: dict[str, KnownOrder] = {}
        self.foreign_cordons: set[str] = set()
        self.told: set[str] = set()
        self.warned: Counter[str] = Counter()
        self.recreated: Counter[str] = Counter()
        for index, wanted in enumerate(options):
            self.pod_comes(NODES[0], wanted, bare=index % 2 == 0, injected=True, phase="Running")

    # ---- what others do ----------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 20, 100, 350, 4000, 100_000]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        for name, raw in self.raw_nodes.items():
            ready = raw["status"]["conditions"][0]
            if name in self.silent:
                ready |= {"status": "Unknown", "reason": "NodeStatusUnknown"}
            else:
                ready |= {"status": "True", "reason": "KubeletReady", "lastHeartbeatTime": self.now.isoformat()}

    @rule(
        node=_NODES,
        trigger=st.sampled_from(
            [Trigger.SPOT_INTERRUPTION, Trigger.REBALANCE_RECOMMENDATION, Trigger.SCHEDULED_EVENT]
        ),
        deadline_s=st.sampled_from([None, 0, 120, 5000]),
        action=st.sampled_from(["terminate", "hibernate", "reboot"]),
    )
    def notice_comes(self, node: str, trigger: Trigger, deadline_s: int | None, action: str) -> None:
        self.number += 1
        final = trigger is not Trigger.REBALANCE_RECOMMENDATION
        notice = InterruptionNotice(
            id=f"notice-{self.number}",
            trigger=trigger,
            source="imds",
            instance="",
            deadline=self.now + timedelta(seconds=deadline_s) if deadline_s is not None and final else None,
            action=action if final else "",
            seen=self.now,
        )
        self._tell(node, notice)

    @rule(node=_NODES)
    def notice_is_withdrawn(self, node: str) -> None:
        self._tell(node, None)

    @rule(
        node=_NODES,
        trigger=st.sampled_from(
            [Trigger.SPOT_INTERRUPTION, Trigger.NODE_SHUTDOWN, Trigger.REBALANCE_RECOMMENDATION]
        ),
        deadline_s=st.sampled_from([None, 0, 120]),
    )
    def notice_is_reported(self, node: str, trigger: Trigger, deadline_s: int | None) -> None:
        self.number += 1
        notice = InterruptionNotice(
            id=f"notice-{self.number}",
            trigger=trigger,
            source="queue:test",
            instance="",
            deadline=None if deadline_s is None else self.now + timedelta(seconds=deadline_s),
            action="",
            seen=self.now,
        )
        self._report(node, (*parse_node(self.raw_nodes[node]).reported, notice))

    @rule(node=_NODES)
    def reports_are_withdrawn(self, node: str) -> None:
        self._report(node, ())

    def _report(self, node: str, notices: tuple[InterruptionNotice, ...]) -> None:
        raw = self.raw_nodes[node]
        self.raw_nodes[node] = merge(raw, render_report_patch(parse_node(raw), notices))

    @rule(node=_NODES, taint=st.sampled_from(SIGNS))
    def somebody_puts_a_sign_up_or_takes_it_down(self, node: str, taint: dict[str, str]) -> None:
        taints = self.raw_nodes[node]["spec"]["taints"]
        if taint in taints:
            taints.remove(taint)
        else:
            taints.append(taint)

    @rule(drawn=_DRAWN)
    def pod_is_evicted_by_others(self, drawn: int) -> None:
        pod = picked(self.pods, drawn)
        if pod and not pod.deleting:
            until = self.now + timedelta(seconds=120)
            self.pods[pod.uid] = replace(pod, deleting=True, deletion_deadline=until, disruption="ByOthers")

    def _tell(self, node: str, notice: InterruptionNotice | None) -> None:
        if node not in self.silent:
            self.raw_nodes[node]["status"]["conditions"][1] = notice_condition(notice, self.now)

    @rule(node=_NODES)
    def machine_falls_silent_or_speaks_again(self, node: str) -> None:
        self.silent ^= {node}

    @rule(node=_NODES)
    def somebody_cordons(self, node: str) -> None:
        raw = self.raw_nodes[node]
        if not raw["spec"].get("unschedulable"):
            raw["spec"]["unschedulable"] = True
            self.foreign_cordons.add(node)

    @rule(node=_NODES)
    def somebody_uncordons(self, node: str) -> None:
        self.raw_nodes[node]["spec"]["unschedulable"] = False
        self.foreign_cordons.discard(node)
        # Seen by the controller: one that was away could not tell a later cordon from its own.
        for action in plan(self.view()):
            if isinstance(action, actions.MarkNode | actions.UndoNode):
                self.carry_out(action)

    @rule(
        node=_NODES,
        options=_OPTIONS,
        bare=st.booleans(),
        injected=st.booleans(),
        phase=st.sampled_from(["Pending", "Running"]),
    )
    def pod_comes(self, node: str, options: PodOptions, bare: bool, injected: bool, phase: str) -> None:
        self.number += 1
        name = f"pod-{self.number}"
        self.pods[f"{name}-uid"] = a_pod(
            name,
            node=node,
            options=options,
            owner=None if bare else JOB,
            injected=("main",) if injected else (),
            phase=phase,
            created=self.now,
            started=self.now,
        )

    @rule(drawn=_DRAWN, phase=st.sampled_from(["Running", "Succeeded", "Failed"]))
    def pod_goes_on(self, drawn: int, phase: str) -> None:
        pod = picked(self.pods, drawn)
        if pod and not pod.over:
            self.pods[pod.uid] = replace(pod, phase=phase)

    @rule(drawn=_DRAWN)
    def pod_is_deleted_by_hand(self, drawn: int) -> None:
        pod = picked(self.pods, drawn)
        if pod:
            self.pods[pod.uid] = replace(pod, deleting=True)

    @rule(drawn=_DRAWN)
    def kubelet_confirms_an_end(self, drawn: int) -> None:
        ending = {uid: pod for uid, pod in self.pods.items() if pod.deleting}
        pod = picked(ending, drawn)
        if pod:
            del self.pods[pod.uid]

    @rule(drawn=_DRAWN, phase=st.sampled_from(OrderPhase))
    def agent_answers_one(self, drawn: int, phase: OrderPhase) -> None:
        self.agent_answers(drawn, phase)

    def agent_answers(self, drawn: int, phase: OrderPhase) -> None:
        known = picked(self.orders, drawn)
        if known is None or phase in (OrderPhase.PENDING, OrderPhase.EXPIRED):
            return
        completed = known.order.status.completed or (self.now if phase.final else None)
        status = replace(known.order.status, phase=phase, completed=completed)
        if known.order.status.phase not in (OrderPhase.FAILED, OrderPhase.RESTORED):
            self.orders[known.order.name] = replace(known, order=replace(known.order, status=status))

    @rule(phase=st.sampled_from([OrderPhase.COMPLETE, OrderPhase.COMPLETE, OrderPhase.FAILED]))
    def agents_answer_everything(self, phase: OrderPhase) -> None:
        for drawn, known in enumerate(list(self.orders.values())):
            if not known.order.status.phase.final:
                self.agent_answers(drawn, phase)

    # ---- what the controller does ------------------------------------------------------

    @rule(killed_after=st.integers(0, 5))
    def controller_is_killed_in_the_middle(self, killed_after: int) -> None:
        for action in plan(self.view())[:killed_after]:
            self.carry_out(action)

    @rule()
    def controller_does_all_there_is_to_do(self) -> None:
        done: Counter[str] = Counter()
        for _ in range(_ROUNDS):
            planned = plan(self.view())
            if not planned:
                return
            for action in planned:
                done[action.key] += 1
                assert done[action.key] == 1, f"twice: {action}"
                self.carry_out(action)
        raise AssertionError(f"no end of {plan(self.view())}")

    def view(self) -> ClusterView:
        return ClusterView(
            now=self.now,
            settings=replace(SETTINGS, signs=TABLE),
            nodes={name: parse_node(raw) for name, raw in self.raw_nodes.items()},
            pods=dict(self.pods),
            orders=tuple(self.orders.values()),
            warned=frozenset(self.told),
        )

    def carry_out(self, action: actions.Action) -> None:
        """Do what an action says, as the API server would, and check that it may."""
        match action:
            case actions.MarkNode() | actions.UndoNode():
                notice = action.notice if isinstance(action, actions.MarkNode) else None
                patch = render_marks(self.raw_nodes[action.node], notice)
                assert patch is not None
                self.raw_nodes[action.node] = merge(self.raw_nodes[action.node], patch)
            case actions.WithdrawReport():
                reported = parse_node(self.raw_nodes[action.node]).reported
                assert action.notice in reported
                self._report(action.node, tuple(notice for notice in reported if notice != action.notice))
            case actions.MakeOrder():
                self._make_order(action)
            case actions.ExpireOrder():
                known = self.orders[action.order.name]
                assert not known.order.status.phase.final
                status = replace(known.order.status, phase=OrderPhase.EXPIRED, completed=self.now)
                self.orders[action.order.name] = replace(known, order=replace(known.order, status=status))
            case actions.EvictPod() | actions.DeletePod():
                self._check_end(action)
                assert not self.pods[action.pod.uid].deleting
                self.pods[action.pod.uid] = replace(self.pods[action.pod.uid], deleting=True)
            case actions.ForgetPod():
                self._check_end(action)
                assert action.pod.node in self.silent
                del self.pods[action.pod.uid]
            case actions.RecreatePod():
                self._recreate(action)
            case actions.SettleOrder():
                known = self.orders[action.order.name]
                assert known.recreates
                self.orders[action.order.name] = replace(known, recreates=False)
            case actions.DeleteOrder():
                assert self.orders.pop(action.order.name).order.status.phase.final
            case actions.TellNotInjected():
                self.told.add(action.pod.uid)
                self.warned[action.pod.uid] += 1

    def _make_order(self, action: actions.MakeOrder) -> None:
        order, pod = action.order, self.pods[action.order.spec.pod_uid]
        assert order.name not in self.orders
        assert pod.injected
        assert pod.phase == "Running"
        assert not pod.deleting or order.spec.trigger is Trigger.DRAIN
        assert (order.spec.node, order.spec.containers) == (pod.node, pod.injected)
        self.orders[order.name] = KnownOrder(order=replace(order, created=self.now), recreates=action.recreates)

    def _check_end(self, action: actions.EvictPod | actions.DeletePod | actions.ForgetPod) -> None:
        order = self.orders[action.order.name].order
        assert not order.spec.leave_running
        assert order.status.phase is OrderPhase.COMPLETE
        told = notices_of(parse_node(self.raw_nodes[action.pod.node]), TABLE, self.now)
        assert order.spec.notice in {notice.id for notice in told}

    def _recreate(self, action: actions.RecreatePod) -> None:
        uid = action.order.spec.pod_uid
        assert uid not in self.pods
        self.number += 1
        self.recreated[uid] += 1
        assert self.recreated[uid] == 1, "made again twice"
        name = action.order.spec.pod
        self.pods[f"again-{self.number}"] = a_pod(
            name, uid=f"again-{self.number}", node="n2", owner=None, created=self.now, started=self.now
        )

    # ---- what always holds -------------------------------------------------------------

    @invariant()
    def one_order_per_pod_and_notice(self) -> None:
        pairs = Counter(
            (known.order.spec.pod_uid, known.order.spec.notice)
            for known in self.orders.values()
            if known.order.spec.notice
        )
        assert all(count == 1 for count in pairs.values())

    @invariant()
    def several_events_of_a_node_stop_a_pod_once(self) -> None:
        view = self.view()
        stopping = Counter(
            order.spec.pod_uid
            for order in (known.order for known in self.orders.values() if not known.order.status.phase.final)
            if not order.spec.leave_running and view.under_its_notice(order)
        )
        assert all(count == 1 for count in stopping.values())

    @invariant()
    def a_cordon_of_somebody_else_is_never_undone(self) -> None:
        assert all(self.raw_nodes[node]["spec"].get("unschedulable") for node in self.foreign_cordons)

    @invariant()
    def nobody_is_told_twice(self) -> None:
        assert all(count == 1 for count in self.warned.values())

    def teardown(self) -> None:
        """When all notices are withdrawn and nobody is left to disturb, no node bears a trace of us."""
        if not hasattr(self, "raw_nodes"):
            return
        self.silent.clear()
        for node in NODES:
            self._tell(node, None)
            self._report(node, ())
            self.raw_nodes[node]["spec"]["taints"] = [
                taint for taint in self.raw_nodes[node]["spec"]["taints"] if taint not in SIGNS
            ]
        self.controller_does_all_there_is_to_do()
        for name, raw in self.raw_nodes.items():
            spared = parse_node(raw)
            assert not any(taint.key == names.TAINT for taint in spared.taints)
            assert not dict(spared.annotations)
            assert spared.unschedulable == (name in self.foreign_cordons)


def a_raw_node(name: str) -> dict[str, Any]:
    """Return a healthy node's JSON."""
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": NOW.isoformat()}
    return {
        "metadata": {"name": name, "uid": f"{name}-uid", "resourceVersion": "1", "annotations": {}},
        "spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]},
        "status": {"conditions": [ready, notice_condition(None, NOW)]},
    }


def picked(things: dict[str, Any], drawn: int) -> Any:
    """Return one of some things, or None when there are none."""
    return list(things.values())[drawn % len(things)] if things else None


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
