"""What crikpy.kube.judging says of nodes and pods: where jobs can be saved or could go, and which cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from crikpy import names
from crikpy.kube import raw
from crikpy.kube.nodes import parse_node
from crikpy.kube.pods import parse_pod
from crikpy.kube.raw import Json
from crikpy.kube.surveying import Survey
from crikpy.kube.verdicts import refusals
from crikpy.model.health import Finding, Verdict
from crikpy.model.nodes import Node
from crikpy.model.pods import Pod
from crikpy.model.quantities import some_of

_MOST: Final = 3
_SPOT: Final = (
    ("karpenter.sh/capacity-type", "spot"),
    ("eks.amazonaws.com/capacityType", "SPOT"),
    ("node.kubernetes.io/lifecycle", "spot"),
)


def judge_nodes(seen: Survey) -> Iterator[Finding]:
    """Judge each node that is not well by itself, those that are together, and whether jobs can go elsewhere."""
    if seen.nodes is None:
        return
    able: list[Node] = []
    for found in seen.nodes:
        node = parse_node(found)
        condition = _condition(found)
        if condition.get("status") == "True":
            able.append(node)
        elif condition:
            what = raw.text(condition.get("message")) or "it does not say why"
            remedy = f"kubectl describe node {node.name}, and the log of its agent"
            reason = raw.text(condition.get("reason"))
            yield _finding(f"node-{node.name}", Verdict.FAILED, f"{reason}: {what}", remedy)
        else:
            yield _without_agent(node, seen)
    if able:
        listed = few([node.name for node in able])
        yield _finding("nodes", Verdict.OK, f"jobs can be saved on {len(able)} of {len(seen.nodes)}: {listed}")
    else:
        remedy = "see the findings of the agents and of each node"
        yield _finding("nodes", Verdict.FAILED, f"jobs can be saved on none of {len(seen.nodes)} nodes", remedy)
    yield from _elsewhere(able, seen.nodes)


def _without_agent(node: Node, seen: Survey) -> Finding:
    name = f"node-{node.name}"
    if node.architecture not in ("", "amd64"):
        what = f"is {node.architecture}; agents run on amd64 only, so that its pods are not saved"
        return _finding(
            name, Verdict.WARNING, what, "keep opted-in pods off it: nodeSelector kubernetes.io/arch: amd64"
        )
    remedy = f"kubectl -n {seen.namespace} get pods -l app={names.AGENT} -o wide"
    return _finding(name, Verdict.FAILED, "no agent has reported from it, so that its pods are not saved", remedy)


def _elsewhere(able: Sequence[Node], found: Sequence[Json]) -> Iterator[Finding]:
    """Judge where jobs of each node could be resumed: on a node that has all features of its CPU."""
    if len(able) == 1:
        what = f"only {able[0].name} can save jobs, and there is no other node to resume them on"
        yield _finding("elsewhere", Verdict.WARNING, what, "have a second node, or an autoscaler that makes one")
        return
    spot = {parse_node(each).name for each in found if _is_spot(each)}
    stuck, told = [], 0
    for node in able:
        if not node.cpu_features:
            continue
        told += 1
        if not any(other.name != node.name and node.cpu_features <= other.cpu_features for other in able):
            stuck.append(node)
    for node in stuck:
        where = "spot node" if node.name in spot else "node"
        missing = min(
            ((len(node.cpu_features - other.cpu_features), other) for other in able if other.name != node.name),
            key=lambda pair: (pair[0], pair[1].name),
        )[1]
        lacks = few(sorted(node.cpu_features - missing.cpu_features))
        what = f"no other node has the CPU features of {where} {node.name}: even {missing.name} lacks {lacks}"
        remedy = "have a node of the same instance type or a newer one, or start jobs on the older CPU"
        yield _finding(f"cpu-{node.name}", Verdict.WARNING, what, remedy)
    if told and not stuck:
        yield _finding("cpu", Verdict.OK, f"a job of any of {told} nodes can be resumed on another")


def judge_pods(seen: Survey) -> Iterator[Finding]:
    """Judge the pods that opted in: which run without the launcher, and which agents say they cannot save."""
    if seen.pods is None:
        return
    pods = [pod for pod in map(parse_pod, seen.pods) if not pod.over and (pod.opted_in or pod.fault)]
    if not pods:
        remedy = f'annotate pod templates with {names.OPT_IN}: "true"'
        yield _finding("pods", Verdict.WARNING, "no pod has opted in", remedy)
        return
    faulty = [pod for pod in pods if pod.fault]
    bare = [pod for pod in pods if pod.opted_in and not pod.injected and pod not in faulty]
    refused = _refused(seen, pods)
    for name, which, why, remedy in (
        ("pods-annotations", faulty, "have annotations that cannot be read", "`crikpy why pod/NAME` says which"),
        (
            "pods-launcher",
            bare,
            "run without the launcher",
            "the webhook was away when they were made, or declined: make them anew; `crikpy why pod/NAME`",
        ),
    ):
        if which:
            listed = few([str(pod) for pod in which])
            yield _finding(name, Verdict.WARNING, f"{len(which)} of {len(pods)} pods {why}: {listed}", remedy)
    if refused:
        first = next(iter(refused.items()))
        what = f"{len(refused)} of {len(pods)} pods cannot be saved: {few(list(refused))}; {first[0]}: {first[1]}"
        yield _finding(
            "pods-jobs", Verdict.WARNING, what, "`crikpy why pod/NAME -n NAMESPACE` says what to change"
        )
    well = [pod for pod in pods if pod not in faulty and pod not in bare and str(pod) not in refused]
    if well:
        yield _finding("pods", Verdict.OK, f"{len(well)} of {len(pods)} pods that opted in can be saved")


def _refused(seen: Survey, pods: Sequence[Pod]) -> dict[str, str]:
    """Return the pods of which the newest word of their agents is that they cannot be saved, with that word."""
    refused = refusals(seen.events or ())
    return {str(pod): refused[pod.uid] for pod in pods if pod.uid in refused}


def _condition(node: Json) -> Json:
    conditions = raw.items(raw.mapping(node.get("status")).get("conditions"))
    return next((one for one in conditions if one.get("type") == names.CONDITION_READY), {})


def _is_spot(node: Json) -> bool:
    labels = raw.string_map(raw.mapping(node.get("metadata")).get("labels"))
    return any(labels.get(key) == value for key, value in _SPOT)


def _finding(name: str, verdict: Verdict, fact: str, remedy: str = "") -> Finding:
    return Finding(name=name, verdict=verdict, fact=fact, remedy=remedy)


def few(found: Sequence[str]) -> str:
    """Return so many names as fit into a finding."""
    return some_of(found, _MOST)
