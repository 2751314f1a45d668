"""What has become of the pods that a new pod may take over from, asked of the API server and of nobody else.

A checkpoint whose pod still runs must not be resumed, so no answer here comes from a copy that may be old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime

from crikpy import names
from crikpy.agent.choosing import OriginState
from crikpy.aio.clock import Deadline
from crikpy.errors import KubeNotFoundError
from crikpy.flows.gathering import Candidate
from crikpy.kube import raw
from crikpy.kube.api import Json, KubeApi
from crikpy.kube.nodes import parse_node
from crikpy.kube.pods import parse_pod
from crikpy.kube.resources import NODES, PODS
from crikpy.kube.signals import Signs, why_going
from crikpy.model.nodes import Node
from crikpy.model.pods import Pod

_LOOK_EVERY_S = 1.0
_ANSWER_S = 10.0

_KILLED = 128 + 9
"""Exit status of a container that kubelet, or want of memory, has killed as a whole."""


class Origins:
    """Asks for one new pod: looks first, and is told of checkpoints afterwards.

    In this order, for a pod that was gone at the look has no checkpoint that is not in the store by now.
    """

    def __init__(self, api: KubeApi, pod: Pod, signs: Signs) -> None:
        self._api = api
        self._signs = signs
        self._pod = pod
        self._listed: dict[str, tuple[Pod, Json]] = {}

    async def look(self, deadline: Deadline) -> None:
        """See which pods there are.

        Raises:
            KubeError: the API server does not answer, or not to us.
        """
        listed = await self._api.list(PODS, namespace=self._pod.namespace, deadline=deadline)
        parsed = [(parse_pod(found), found) for found in listed.items]
        # Only of one that is over the JSON is looked at again; the others' may be large, and the wait long.
        self._listed = {
            pod.uid: (pod, found if pod.over else {}) for pod, found in parsed if pod.uid != self._pod.uid
        }

    async def states(
        self, candidates: Sequence[Candidate], deadline: Deadline, others: Collection[str] = ()
    ) -> dict[str, OriginState]:
        """Return the states of the pods that made the checkpoints, and of those that may make one just now.

        Args:
            candidates: the checkpoints.
            deadline: for the answer.
            others: UIDs of further pods that matter.

        Raises:
            KubeError: the API server does not answer, or not to us.
        """
        makers = {candidate.pod_uid for candidate in candidates if candidate.pod_uid} | set(others)
        makers -= {self._pod.uid}
        states = dict.fromkeys(makers, OriginState.GONE)
        for uid, (pod, found) in self._listed.items():
            if uid not in makers and not self._could_be_replaced(pod):
                continue
            node = await self._node_of(pod, deadline)
            if uid in makers or _is_ended_for_its_node(pod, node, self._signs):
                states[uid] = state_of(pod, found, node)
        return states

    def killed_at(self, uid: str) -> datetime | None:
        """Return when kubelet kills a pod that was seen, aware UTC; None unless it is being deleted."""
        return self._listed[uid][0].deletion_deadline if uid in self._listed else None

    async def await_end(self, uid: str, deadline: Deadline) -> None:
        """Wait until a pod that was seen is not being ended any more, or until the deadline.

        Raises:
            KubeError: the API server does not answer, or not to us.
        """
        if uid not in self._listed:
            await asyncio.sleep(min(_LOOK_EVERY_S, deadline.remaining()))
            return
        pod, _ = self._listed[uid]
        while not deadline.expired():
            await asyncio.sleep(min(_LOOK_EVERY_S, deadline.remaining()))
            try:
                found = await self._api.get(PODS, pod.name, namespace=pod.namespace)
            except KubeNotFoundError:
                return
            now = parse_pod(found)
            node = await self._node_of(now, Deadline.after(_ANSWER_S))
            if now.uid != uid or state_of(now, found, node) is not OriginState.ENDING:
                return

    def _could_be_replaced(self, pod: Pod) -> bool:
        """Say whether this new pod may be meant to take over from one that is being ended."""
        return pod.deleting and pod.opted_in and bool(pod.injected) and pod.workload == self._pod.workload

    async def _node_of(self, pod: Pod, deadline: Deadline) -> Node | None:
        """Return the node of a pod that is being ended, None when it is gone; of others nobody wants to know."""
        if not pod.deleting or not pod.node:
            return None
        try:
            return parse_node(await self._api.get(NODES, pod.node, deadline=deadline))
        except KubeNotFoundError:
            return None


def state_of(pod: Pod, found: Json, node: Node | None) -> OriginState:
    """Return what has become of a pod that the API server still knows.

    Args:
        pod: the pod.
        found: its raw JSON.
        node: its node, None when that is gone; only needed of a pod that is being ended.
    """
    if pod.over:
        return OriginState.OVER if ended_by_itself(pod, found) else OriginState.GONE
    if not pod.deleting:
        return OriginState.ALIVE
    # Of a node that is lost nobody will ever hear that the pod has ended.
    return OriginState.ENDING if node is not None and node.ready else OriginState.GONE


def ended_by_itself(pod: Pod, found: Json) -> bool:
    """Say whether one of a pod's jobs has ended otherwise than by being saved or killed from outside."""
    if pod.phase == "Succeeded":
        return True
    for state in raw.items(raw.mapping(found.get("status")).get("containerStatuses")):
        ended = raw.mapping(raw.mapping(state.get("state")).get("terminated"))
        status = raw.number(ended.get("exitCode"), _KILLED)
        moved = status in (names.EXIT_CHECKPOINTED, _KILLED) or (status != 0 and bool(pod.disruption))
        if raw.text(state.get("name")) in pod.injected and not moved:
            return True
    return False


def _is_ended_for_its_node(pod: Pod, node: Node | None, signs: Signs) -> bool:
    """Say whether a pod is ended because its node goes away, and so is saved first, if it can be."""
    if pod.disruption:
        return True
    return node is not None and (_is_noticed(node) or why_going(node, signs) is not None)


def _is_noticed(node: Node) -> bool:
    return node.notice is not None and node.notice.final
