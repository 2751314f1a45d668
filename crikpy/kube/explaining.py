"""Why a pod can or cannot be saved, and what happened to it so far, from what the API server knows.

Reads only. The agents and the controller say what they find as conditions, events and Checkpoint objects; this
puts it together for whoever asks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from crikpy import names
from crikpy.errors import KubeForbiddenError, KubeNotFoundError
from crikpy.kube.api import KubeApi
from crikpy.kube.grouping import NO_GROUP, groups_of, never_whole, not_yet_whole
from crikpy.kube.pods import parse_pod
from crikpy.kube.raw import Json
from crikpy.kube.requesting import list_orders
from crikpy.kube.resources import EVENTS, NODES, PODS
from crikpy.kube.verdicts import CAN_BE_SAVED, CANNOT_BE_SAVED, time_of
from crikpy.model.health import Finding, Verdict
from crikpy.model.orders import Order
from crikpy.model.pods import Pod, PodOptions
from crikpy.model.saving import Mode

_T = TypeVar("_T")

_COMPONENTS: Final = "crikpy-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One thing that crikpy did or said about a pod.

    Attributes:
        time: when, RFC 3339.
        what: the event's reason, or the phase of an order.
        message: one sentence.
    """

    time: str
    what: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The answer to `why`.

    Attributes:
        pod: the pod.
        findings: what was looked at; one that FAILED keeps the pod from being saved.
        story: what happened so far, the oldest first.
    """

    pod: Pod
    findings: tuple[Finding, ...]
    story: tuple[Happening, ...]

    @property
    def able(self) -> bool:
        """Whether nothing speaks against saving the pod now."""
        return all(finding.verdict is not Verdict.FAILED for finding in self.findings)


async def explain_pod(api: KubeApi, namespace: str, name: str) -> Explanation:
    """Find out whether a pod can be saved, and what happened to it.

    Raises:
        KubeNotFoundError: there is no such pod.
        KubeError: the API server did not answer.
    """
    try:
        pod = parse_pod(await api.get(PODS, name, namespace=namespace))
    except KubeNotFoundError as absent:
        raise KubeNotFoundError(
            f"there is no pod {namespace}/{name}", remedy="`kubectl get pods -A` shows what there is"
        ) from absent
    unread: list[Finding] = []
    events = await _read(_events_of(api, pod), "events", unread) or []
    orders = await _read(_orders_of(api, pod), "orders", unread) or []
    node = await _read(api.get(NODES, pod.node), "node", unread) if pod.node else None
    others = await _read(_pods_of(api, pod), "group", unread) if pod.group else None
    return Explanation(
        pod=pod,
        findings=(*_findings(pod, node, events), *_group(pod, others), *unread),
        story=tuple(_story(events, orders)),
    )


async def _read(asked: Awaitable[_T], name: str, unread: list[Finding]) -> _T | None:
    """Return what was asked for; None, and why, where there is none or whoever asks may not read it."""
    try:
        return await asked
    except (KubeNotFoundError, KubeForbiddenError) as fault:
        unread.append(Finding(name=name, verdict=Verdict.WARNING, fact=fault.message, remedy=fault.remedy))
        return None


async def _events_of(api: KubeApi, pod: Pod) -> list[Json]:
    found = await api.list(EVENTS, namespace=pod.namespace, field_selector=f"involvedObject.uid={pod.uid}")
    ours = [event for event in found.items if _component(event).startswith(_COMPONENTS)]
    return sorted(ours, key=time_of)


async def _pods_of(api: KubeApi, pod: Pod) -> list[Pod]:
    return [parse_pod(found) for found in (await api.list(PODS, namespace=pod.namespace)).items]


async def _orders_of(api: KubeApi, pod: Pod) -> list[Order]:
    """Return the orders for a pod, and the one that it was resumed from."""
    return [
        order
        for order in await list_orders(api, pod.namespace)
        if order.spec.pod_uid == pod.uid or order.status.restored_by.endswith(pod.uid)
    ]


def _findings(pod: Pod, node: Json | None, events: Sequence[Json]) -> Iterator[Finding]:
    yield from judge_pod(pod)
    if not pod.opted_in:
        return
    yield _phase(pod)
    if node is not None:
        yield _node(pod, node)
    yield _job(events)


def judge_pod(pod: Pod) -> Iterator[Finding]:
    """Yield what a pod's own object says about whether it can be saved."""
    yield _opted_in(pod)
    if not pod.opted_in:
        return
    yield _annotations(pod)
    yield _launcher(pod)
    yield _mode(pod)


def _opted_in(pod: Pod) -> Finding:
    if pod.opted_in:
        return Finding(name="annotation", verdict=Verdict.OK, fact=f"{names.OPT_IN} is true")
    return Finding(
        name="annotation",
        verdict=Verdict.FAILED,
        fact=pod.fault
        if names.OPT_IN in pod.fault
        else f"{names.OPT_IN} is not set: crikpy leaves this pod alone",
        remedy=f'set {names.OPT_IN}: "true" in the annotations of the pod template; it concerns new pods',
    )


def _annotations(pod: Pod) -> Finding:
    if not pod.fault:
        return Finding(name="options", verdict=Verdict.OK, fact="every annotation can be read")
    return Finding(name="options", verdict=Verdict.FAILED, fact=pod.fault, remedy="correct the annotation")


def _launcher(pod: Pod) -> Finding:
    if pod.injected:
        return Finding(name="launcher", verdict=Verdict.OK, fact=f"in {', '.join(pod.injected)}")
    return Finding(
        name="launcher",
        verdict=Verdict.FAILED,
        fact="no container runs below crikpy's launcher: the webhook was away when the pod was made, or declined",
        remedy="give the containers an explicit command, see that the controller runs, and make the pod anew",
    )


def _phase(pod: Pod) -> Finding:
    if pod.phase == "Running" and not pod.deleting:
        return Finding(name="phase", verdict=Verdict.OK, fact=f"running on {pod.node}")
    what = "being deleted" if pod.deleting else pod.phase
    return Finding(
        name="phase", verdict=Verdict.FAILED, fact=f"the pod is {what}", remedy="only running pods are saved"
    )


def _group(pod: Pod, pods: Sequence[Pod] | None) -> Iterator[Finding]:
    """Judge a pod's group, as a part of which alone it is saved."""
    if pods is None:
        return
    members = groups_of(pods).get((pod.namespace, pod.group), ())
    listed = ", ".join(member.name for member in members)
    if members and (fault := never_whole(members) or not_yet_whole(pods, members)):
        remedy = f'all its pods are saved together or not at all; {names.GROUP}: "{NO_GROUP}" takes one out of it'
        what = f"{pod.group} ({listed}) cannot be saved: {fault}"
        yield Finding(name="group", verdict=Verdict.FAILED, fact=what, remedy=remedy)
    else:
        yield Finding(name="group", verdict=Verdict.OK, fact=f"is saved as a part of {pod.group} ({listed})")


def _node(pod: Pod, node: Json) -> Finding:
    for condition in (node.get("status") or {}).get("conditions") or ():
        if condition.get("type") == names.CONDITION_READY:
            able = condition.get("status") == "True"
            return Finding(
                name="node",
                verdict=Verdict.OK if able else Verdict.FAILED,
                fact=f"{pod.node}: {condition.get('message') or condition.get('reason') or 'no reason given'}",
                remedy="" if able else f"`kubectl describe node {pod.node}` and the agent's log say more",
            )
    return Finding(
        name="node",
        verdict=Verdict.FAILED,
        fact=f"no agent has reported from {pod.node}",
        remedy="see whether the DaemonSet crikpy-agent runs there",
    )


def _mode(pod: Pod) -> Finding:
    saving = (pod.options or PodOptions()).saving
    where = ", ".join(saving.application_directories)
    told = {
        Mode.AUTO: f"auto: by CRIU{f', or where that cannot, by itself into {where}' if where else ''}",
        Mode.PROCESS: "process: by CRIU",
        Mode.APPLICATION: f"application: by itself into {where}",
    }
    if saving.mode is Mode.APPLICATION and not where:
        return Finding(
            name="mode",
            verdict=Verdict.FAILED,
            fact="application, but nobody says in which directory the job saves itself",
            remedy=f"set {names.APPLICATION_DIRECTORY}",
        )
    return Finding(name="mode", verdict=Verdict.OK, fact=told[saving.mode])


def _job(events: Sequence[Json]) -> Finding:
    """Judge by the newest look that an agent took at the job."""
    for event in reversed(events):
        if event.get("reason") == CAN_BE_SAVED:
            return Finding(name="job", verdict=Verdict.OK, fact=str(event.get("message") or "it can be saved"))
        if event.get("reason") == CANNOT_BE_SAVED:
            message = str(event.get("message") or "")
            return Finding(
                name="job",
                verdict=Verdict.FAILED,
                fact=message,
                remedy="change the job as said; until then it runs unsaved",
            )
    return Finding(name="job", verdict=Verdict.OK, fact="nothing is known that could not be saved")


def _story(events: Sequence[Json], orders: Sequence[Order]) -> list[Happening]:
    told = [
        Happening(
            time=time_of(event), what=str(event.get("reason") or ""), message=str(event.get("message") or "")
        )
        for event in events
    ]
    told += [
        Happening(
            time=_text(order.status.completed or order.status.started or order.created),
            what=f"{order.spec.trigger}/{order.status.phase}",
            message=f"checkpoint {order.name}: {order.status.message or 'not begun yet'}",
        )
        for order in orders
    ]
    return sorted(told, key=lambda happening: happening.time)


def _component(event: Json) -> str:
    return str((event.get("source") or {}).get("component") or event.get("reportingComponent") or "")


def _text(time: datetime | None) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}" if time else ""
