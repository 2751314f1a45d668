"""What cannot be saved, and why: pods that have opted in and would be lost, nodes on which nothing can be saved.

Pure. It says what crikpy.kube.explaining says of one pod (`crikpy why`), of all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crikpy.kube.explaining import judge_pod
from crikpy.model.health import Verdict
from crikpy.model.nodes import Node
from crikpy.model.pods import Pod
from crikpy.page.facts import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """A pod that cannot be saved as it is now.

    Attributes:
        pod: the pod.
        why: what stands against it, a sentence each.
        remedies: what can be done.
    """

    pod: Pod
    why: tuple[str, ...]
    remedies: tuple[str, ...]


def obstacles_of(facts: Facts) -> tuple[Obstacle, ...]:
    """Return the pods that would be lost, by namespace and name; one that has not begun has nothing to lose."""
    found = (
        Obstacle(
            pod=pod,
            why=tuple(why for why, _ in against),
            remedies=tuple(dict.fromkeys(filter(None, (remedy for _, remedy in against)))),
        )
        for pod in sorted(facts.pods, key=lambda pod: (pod.namespace, pod.name))
        if pod.opted_in and pod.phase == "Running" and not pod.deleting and (against := list(_against(pod, facts)))
    )
    return tuple(found)


def _against(pod: Pod, facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield what keeps a pod from being saved, and what can be done."""
    for finding in judge_pod(pod):
        if finding.verdict is Verdict.FAILED:
            yield finding.fact, finding.remedy
    node = facts.nodes.get(pod.node)
    if node is not None and (why := why_unable(node)):
        yield f"{node.name}: {why}", f"kubectl describe node {node.name}"
    if pod.uid in facts.refusals:
        yield facts.refusals[pod.uid], f"crikpy why pod/{pod.name} -n {pod.namespace}"


def why_unable(node: Node) -> str:
    """Return why nothing can be saved on a node; empty where it can."""
    if node.served:
        return ""
    return node.unable or "no agent says that jobs can be saved there"
