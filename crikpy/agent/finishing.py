"""When a job has ended by itself, what is left of its checkpoints is retired: nobody resumes what is done.

A job that was killed from outside, or that ended of a SIGTERM because its node goes away, is not done: its last
checkpoint is all that its successor has.
"""

from __future__ import annotations

import asyncio
import logging

from crikpy.agent.nodepods import NodePods
from crikpy.agent.outlook import NodeOutlook
from crikpy.agent.sessions import CapsuleSession, PodSession
from crikpy.aio.clock import Deadline
from crikpy.errors import KubeError, StoreError
from crikpy.flows.gathering import retire_pod
from crikpy.kube.api import KubeApi
from crikpy.kube.backoff import Backoff
from crikpy.kube.nodes import parse_node
from crikpy.kube.resources import NODES
from crikpy.kube.signals import read_signs, why_going
from crikpy.model.pods import Pod
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.records import Claim

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_GIVE_UP_S = 3600.0


class Finisher:
    """Retires the checkpoints of finished jobs; `finish` is what NodeSessions.on_ended calls."""

    def __init__(
        self,
        api: KubeApi,
        pods: NodePods,
        store: ObjectStore,
        outlook: NodeOutlook,
        settings: Settings,
        *,
        instance: str = "",
    ) -> None:
        self._signs = read_signs(settings.signals)
        self._api = api
        self._pods = pods
        self._outlook = outlook
        self._store = store
        self._settings = settings
        self._instance = instance

    async def finish(self, session: PodSession, capsule: CapsuleSession) -> None:
        """Retire the checkpoints of a pod if its job has ended by itself; the store may be away meanwhile.

        Raises:
            UsageError: the cluster's name cannot be part of a key of the store.
        """
        pod, status = session.pod, capsule.ended_status
        if status is None or session.moved or pod is None or capsule.container not in pod.injected:
            return
        if status != 0 and await self._ends_for_its_node(pod):
            return
        workloads = session.workloads(self._settings)
        deadline = Deadline.after(_GIVE_UP_S)
        backoff = Backoff(first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)
        claim = Claim.ours(instance=self._instance)
        while True:
            try:
                retired = await asyncio.to_thread(retire_pod, self._store, workloads, session.uid, claim)
            except StoreError as fault:
                if deadline.expired():
                    raise
                _log.warning("checkpoints of a finished job are not retired yet: %s", fault)
                await backoff.pause()
                continue
            if retired:
                _log.info("checkpoints of a finished job are retired", extra={"retired": retired})
            return

    async def _ends_for_its_node(self, pod: Pod) -> bool:
        """Say whether a pod is being ended because its node goes away, as far as anybody knows."""
        if self._outlook.final_notice() is not None:
            return True
        try:
            now = await self._pods.fresh(pod)
        except KubeError:
            now = pod
        return (now is not None and bool(now.disruption)) or await self._node_goes()

    async def _node_goes(self) -> bool:
        try:
            node = parse_node(await self._api.get(NODES, self._settings.agent.node))
        except KubeError:
            return False
        return why_going(node, self._signs) is not None
