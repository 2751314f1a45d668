"""The pods of this node, as the API server tells of them; remembered across restarts of the agent.

An agent that starts while the API server is away must still know whose jobs run here: with the machine's last two
minutes running, there is nobody to ask. So what the agent needs of each opted-in pod lies in a file of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from crikpy.agent.places import is_pod_uid
from crikpy.aio.clock import Deadline
from crikpy.errors import KubeError, KubeNotFoundError
from crikpy.kube.api import KubeApi
from crikpy.kube.changes import Change
from crikpy.kube.pods import parse_pod
from crikpy.kube.resources import PODS
from crikpy.kube.watching import Mirror
from crikpy.metrics import Metrics
from crikpy.model.pods import Pod
from crikpy.settings import AgentSettings

_log = logging.getLogger(__name__)

_FRESH_S = 0.8
"""A SIGTERM waits two seconds for its answer, which may depend on this one."""

_OUTAGE_S = 60.0


class NodePods(Mapping[str, Pod]):
    """The pods of this node by UID: a live view, which lags behind the API server or is what we remember of it."""

    def __init__(self, api: KubeApi, settings: AgentSettings, metrics: Metrics) -> None:
        self._api = api
        self._memory = _Memory(settings.state_dir / "pods")
        self._pods = self._memory.load()
        self._mirror = Mirror(
            api, PODS, parse_pod, field_selector=f"spec.nodeName={settings.node}", metrics=metrics
        )
        self._news = asyncio.Event()

    def __getitem__(self, uid: str) -> Pod:
        return self._pods[uid]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pods)

    def __len__(self) -> int:
        return len(self._pods)

    @property
    def reachable(self) -> bool:
        """Whether the API server answers."""
        return self._mirror.synced and self._mirror.reachable

    async def run(self) -> None:
        """Keep the pods current for ever."""
        async with asyncio.TaskGroup() as group:  # if one fails, all do, and crikpy.agent.process begins anew
            group.create_task(self._mirror.run(), name="pods of this node")
            group.create_task(self._forget_absent(), name="pods that went while nobody looked")
            group.create_task(self._follow(), name="changes of the pods of this node")

    async def _follow(self) -> None:
        with self._mirror.subscribe() as changes:
            async for change, pod in changes:
                self._take(change, pod)

    async def find(self, uid: str, deadline: Deadline) -> Pod | None:
        """Return a pod of this node, waiting until the API server has told of it; None if it has not by then."""
        while uid not in self._pods and not deadline.expired():
            news = self._news
            try:
                async with asyncio.timeout(deadline.remaining()):
                    await news.wait()
            except TimeoutError:
                break
        return self._pods.get(uid)

    async def fresh(self, pod: Pod) -> Pod | None:
        """Ask the API server for a pod as it is now; None when it is no more.

        Raises:
            KubeError: it did not answer within a second, or does not let us ask.
        """
        try:
            raw = await self._api.get(PODS, pod.name, namespace=pod.namespace, deadline=Deadline.after(_FRESH_S))
        except KubeNotFoundError:
            return None
        found = parse_pod(raw)
        return found if found.uid == pod.uid else None

    def _take(self, change: Change, pod: Pod) -> None:
        if change is Change.DELETED:
            self._pods.pop(pod.uid, None)
            self._memory.forget(pod.uid)
        else:
            self._pods[pod.uid] = pod
            if pod.opted_in and pod.injected:
                self._memory.keep(pod)
        self._news.set()
        self._news = asyncio.Event()

    async def _forget_absent(self) -> None:
        """Forget what we remembered of pods that the API server does not know any more."""
        while not self._mirror.synced:
            with contextlib.suppress(KubeError):
                await self._mirror.wait_synced(Deadline.after(_OUTAGE_S))
        known = {pod.uid for pod in self._mirror.items.values()}
        for uid in [uid for uid in self._pods if uid not in known]:
            del self._pods[uid]
            self._memory.forget(uid)


class _Memory:
    """One file a pod, `<uid>.json`; what cannot be written or read is only logged, for it matters in an outage."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._kept: dict[str, Pod] = {}

    def load(self) -> dict[str, Pod]:
        """Return what was kept; damaged files are removed."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            files = sorted(self._directory.iterdir())
        except OSError as fault:
            _log.warning("what the agent knew of its pods before cannot be read: %s", fault)
            return {}
        for file in files:
            try:
                pod = msgspec.json.decode(file.read_bytes(), type=Pod)
                if pod.uid != file.stem:
                    raise msgspec.ValidationError(f"it is of the pod {pod.uid}")
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as fault:
                _log.warning("a damaged record of a pod is dropped: %s", fault, extra={"file": file.name})
                file.unlink(missing_ok=True)
                continue
            self._kept[pod.uid] = replace(pod, resource_version="")
        return dict(self._kept)

    def keep(self, pod: Pod) -> None:
        """Write a pod down, if it is not as it was."""
        pod = replace(pod, resource_version="")
        if self._kept.get(pod.uid) == pod or not is_pod_uid(pod.uid):
            return
        draft = self._directory / f".{pod.uid}"
        try:
            draft.touch(mode=0o600)
            draft.write_bytes(msgspec.json.encode(pod))
            draft.replace(self._file(pod.uid))
        except OSError as fault:
            _log.warning("a pod cannot be written down: %s", fault, extra={"pod": str(pod)})
            return
        self._kept[pod.uid] = pod

    def forget(self, uid: str) -> None:
        """Remove what was written of a pod."""
        if self._kept.pop(uid, None) is None:
            return
        try:
            self._file(uid).unlink(missing_ok=True)
        except OSError as fault:
            _log.warning("the record of a pod cannot be removed: %s", fault, extra={"pod_uid": uid})

    def _file(self, uid: str) -> Path:
        return self._directory / f"{uid}.json"
