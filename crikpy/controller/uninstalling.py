"""crikpy off a cluster, before whoever installed it removes its objects: no pod is stranded, no mark is left.

Each step leaves the cluster in a state in which everything goes on, and does nothing where it was done before, so
that it can be broken off at any point and begun anew. The order is the point of it:

1. Jobs that are on their way from one node to another get a while to arrive.
2. Without webhooks, new pods are made as if nobody had opted in.
3. What the store holds goes while there are agents to remove it, if it is to go.
4. Without the controller nobody is evicted any more; then the Checkpoint objects are deleted, and agents let run
   on what stands still for their sake.
5. Agents end, and with them what they kept on their nodes. Only then the finalizers are taken off.
6. Nobody writes to nodes any more: these become as they were.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from crikpy import names
from crikpy.aio.clock import Deadline
from crikpy.controller.sweeping import is_sweeper, render_sweeper, unswept
from crikpy.controller.unmarking import render_unmarked, render_without_conditions
from crikpy.errors import DeadlineError, KubeConflictError, KubeNotFoundError
from crikpy.kube.api import Json, KubeApi, PatchKind
from crikpy.kube.raw import mapping, string_map, text, texts
from crikpy.kube.raw import time as fields_time
from crikpy.kube.resources import (
    CHECKPOINTS,
    CRON_JOBS,
    DAEMON_SETS,
    DEPLOYMENTS,
    LEASES,
    MUTATING_WEBHOOKS,
    NODES,
    PODS,
    SECRETS,
    VALIDATING_WEBHOOKS,
    Resource,
)
from crikpy.model.orders import OrderPhase
from crikpy.model.quantities import some_of

TIDY: Final = "crikpy-tidy"
CERTIFICATE: Final = "crikpy-webhook-tls"
"""Names of what controller/base and daemonset/base install."""

_LOOK_S: Final = 0.5
_CONFLICTS: Final = 5
_ARRIVE_S: Final = 90.0
_PODS_S: Final = 90.0
_SWEEP_S: Final = 180.0
_MOVING: Final = (OrderPhase.PENDING, OrderPhase.DUMPING, OrderPhase.RESTORING)
_NAMED: Final = 5
_FRESH: Final = timedelta(minutes=5)
"""How long after its save a job that was moved counts as on its way, should nobody have resumed it."""

Tell = Callable[[str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be done.

    Attributes:
        namespace: where crikpy is installed.
        delete_stored: also remove from the store what it holds for Checkpoint objects.
        dry_run: only say what would be done.
    """

    namespace: str
    delete_stored: bool = False
    dry_run: bool = False


class Uninstall:
    """One run of it.

    Args:
        api: the cluster, with an administrator's rights or those of controller/uninstall.
        wish: what is to be done.
        deadline: for all of it.
        tell: takes the name of a step and a sentence about it.
    """

    def __init__(self, api: KubeApi, wish: Wish, deadline: Deadline, tell: Tell) -> None:
        self._api = api
        self._wish = wish
        self._deadline = deadline
        self._say = tell

    async def run(self) -> None:
        """Do it.

        Raises:
            DeadlineError: a bare pod is still on its way, or time was out; what was done stays done.
            KubeError: the API server refused something, or does not answer.
        """
        await self._await_arrivals()
        for kind in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            await self._delete("webhooks", kind, names.WEBHOOK)
        if self._wish.delete_stored:
            await self._clear_store()
        await self._delete("controller", CRON_JOBS, TIDY)
        await self._delete("controller", DEPLOYMENTS, names.CONTROLLER)
        await self._await_no_pods("controller", names.CONTROLLER)
        await self._delete_checkpoints()
        await self._end_agents()
        await self._release_checkpoints()
        for node in (await self._api.list(NODES, deadline=self._deadline)).items:
            await self._unmark(text(mapping(node.get("metadata")).get("name")))
        await self._delete("traces", LEASES, names.CONTROLLER)
        await self._delete("traces", SECRETS, CERTIFICATE)

    async def _await_arrivals(self) -> None:
        """Give jobs that are being moved a while; a bare pod that is gone must be made again before we go on."""
        # Never all of our time, so that what is found then can still be said.
        patience = min(_ARRIVE_S, self._deadline.remaining() / 2)
        limit = self._deadline.earlier(0 if self._wish.dry_run else patience)
        moving = [each for each in await self._checkpoints() if await self._is_moving(each)]
        if moving:
            self._say("moves", f"jobs are being saved or resumed now: {_named(moving)}")
        while moving and not limit.expired():
            await asyncio.sleep(_LOOK_S)
            moving = [each for each in await self._checkpoints() if await self._is_moving(each)]
        bare = [each for each in moving if await self._lacks_its_pod(each)]
        if bare and not self._wish.dry_run:
            raise DeadlineError(
                f"pods without a controller are on their way from one node to another: {_named(bare)}",
                remedy="try again when they run, or delete these Checkpoint objects to give the pods up",
            )
        if moving and not self._wish.dry_run:
            self._say("moves", f"not waited for any longer; they may begin anew: {_named(moving)}")

    async def _is_moving(self, checkpoint: Json) -> bool:
        if "deletionTimestamp" in mapping(checkpoint.get("metadata")):
            return False
        status = mapping(checkpoint.get("status"))
        phase = text(status.get("phase"), OrderPhase.PENDING)
        saved = fields_time(status.get("completionTime"))
        is_moved = phase == OrderPhase.COMPLETE and not mapping(checkpoint.get("spec")).get("leaveRunning")
        if phase in _MOVING or (is_moved and saved and datetime.now(UTC) - saved < _FRESH):
            return True
        return await self._lacks_its_pod(checkpoint)

    async def _lacks_its_pod(self, checkpoint: Json) -> bool:
        """Say whether the pod is gone that only this object remembers."""
        metadata, spec = mapping(checkpoint.get("metadata")), mapping(checkpoint.get("spec"))
        if names.RECREATE_FROM not in string_map(metadata.get("annotations")):
            return False
        place = text(metadata.get("namespace"))
        try:
            pod = await self._api.get(PODS, text(spec.get("podName")), namespace=place, deadline=self._deadline)
        except KubeNotFoundError:
            return True
        return "deletionTimestamp" in mapping(pod.get("metadata"))

    async def _clear_store(self) -> None:
        """Delete the Checkpoint objects while controller and agents see to what the store holds for them."""
        await self._delete_checkpoints()
        if self._wish.dry_run:
            return
        # Half of what is left of our time; the rest must do for all else.
        limit = self._deadline.earlier(self._deadline.remaining() / 2)
        while (left := await self._checkpoints()) and not limit.expired():
            await asyncio.sleep(_LOOK_S)
            await self._each_deleted([each for each in left if "deletionTimestamp" not in each["metadata"]])
        if left:
            self._say("store", f"the store may keep what it holds for {_named(left)}")

    async def _delete_checkpoints(self) -> None:
        found = await self._checkpoints()
        if not found:
            return
        stays = "" if self._wish.delete_stored else "; the store keeps what it holds for them"
        if self._wish.dry_run:
            self._say("checkpoints", f"would delete {len(found)} Checkpoint objects{stays}")
            return
        self._say("checkpoints", f"deleting {len(found)} Checkpoint objects{stays}")
        await self._each_deleted(found)

    async def _each_deleted(self, checkpoints: list[Json]) -> None:
        for each in checkpoints:
            name, place = each["metadata"]["name"], each["metadata"]["namespace"]
            await _unless_gone(self._api.delete(CHECKPOINTS, name, namespace=place, deadline=self._deadline))

    async def _release_checkpoints(self) -> None:
        """Take our finalizer off what is left: nobody else would, and namespaces would hang on it."""
        while not self._wish.dry_run and (left := await self._checkpoints()):
            self._deadline.check("letting go of Checkpoint objects")
            for each in left:
                await self._release(each)
            await self._each_deleted([each for each in left if "deletionTimestamp" not in each["metadata"]])

    async def _release(self, checkpoint: Json) -> None:
        metadata = checkpoint["metadata"]
        kept = [name for name in texts(metadata.get("finalizers")) if name != names.FINALIZER]
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": kept}}
        place = metadata["namespace"]
        await _unless_gone(
            self._api.patch(CHECKPOINTS, metadata["name"], patch, namespace=place, deadline=self._deadline)
        )

    async def _end_agents(self) -> None:
        """Have the agents end, their directories removed, and their DaemonSet deleted."""
        try:
            found = await self._api.get(
                DAEMON_SETS, names.AGENT, namespace=self._wish.namespace, deadline=self._deadline
            )
        except KubeNotFoundError:
            return
        if self._wish.dry_run:
            self._say("agents", "would end the agents and remove what they keep on their nodes")
            return
        sweeper = found if is_sweeper(found) else render_sweeper(found)
        if sweeper is not None:
            self._say("agents", "ending the agents, and removing what they keep on their nodes")
            await self._sweep(sweeper)
        await self._delete("agents", DAEMON_SETS, names.AGENT)
        await self._await_no_pods("agents", names.AGENT)

    async def _sweep(self, sweeper: Json) -> None:
        place, limit = self._wish.namespace, self._deadline.earlier(_SWEEP_S)
        await self._api.replace(DAEMON_SETS, names.AGENT, sweeper, namespace=place, deadline=self._deadline)
        while True:
            now = await self._api.get(DAEMON_SETS, names.AGENT, namespace=place, deadline=self._deadline)
            if not (left := unswept(now)):
                return
            if limit.expired():
                self._say("agents", f"{left} nodes did not answer; they keep the agent's directory")
                return
            await asyncio.sleep(_LOOK_S)

    async def _await_no_pods(self, step: str, app: str) -> None:
        limit = self._deadline.earlier(_PODS_S)
        while not self._wish.dry_run:
            found = await self._api.list(
                PODS, namespace=self._wish.namespace, label_selector=f"app={app}", deadline=self._deadline
            )
            if not found.items:
                return
            if limit.expired():
                self._say(step, f"pods that do not end, on nodes that do not answer: {_named(list(found.items))}")
                return
            await asyncio.sleep(_LOOK_S)

    async def _unmark(self, name: str) -> None:
        for _ in range(_CONFLICTS):
            try:
                raw = await self._api.get(NODES, name, deadline=self._deadline)
                patch, conditions = render_unmarked(raw), render_without_conditions(raw)
                if patch is None and conditions is None:
                    return
                if self._wish.dry_run:
                    self._say("nodes", f"would take off node {name} what is ours")
                    return
                if patch is not None:
                    await self._api.patch(NODES, name, patch, deadline=self._deadline)
                if conditions is not None:
                    await self._api.patch(
                        NODES,
                        name,
                        conditions,
                        subresource="status",
                        kind=PatchKind.STRATEGIC,
                        deadline=self._deadline,
                    )
            except KubeConflictError:
                continue
            except KubeNotFoundError:
                return
            self._say("nodes", f"node {name} is as it was")
            return
        raise KubeConflictError(f"node {name} changes all the time")

    async def _checkpoints(self) -> list[Json]:
        try:
            return list((await self._api.list(CHECKPOINTS, deadline=self._deadline)).items)
        except KubeNotFoundError:
            return []

    async def _delete(self, step: str, kind: Resource, name: str) -> None:
        place = self._wish.namespace if kind.namespaced else ""
        try:
            await self._api.get(kind, name, namespace=place, deadline=self._deadline)
            if not self._wish.dry_run:
                await self._api.delete(kind, name, namespace=place, deadline=self._deadline)
        except KubeNotFoundError:
            return
        self._say(step, f"{'would delete' if self._wish.dry_run else 'deleted'} {kind.kind} {name}")


async def _unless_gone(act: Awaitable[object]) -> None:
    """Do something to an object that may be gone, or another by now: then it is looked at again."""
    try:
        await act
    except (KubeNotFoundError, KubeConflictError):
        return


def _named(objects: list[Json]) -> str:
    found = sorted(f"{each['metadata'].get('namespace', '')}/{each['metadata']['name']}" for each in objects)
    return some_of(found, _NAMED)
