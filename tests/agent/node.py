"""A node of the tests: a kubelet's directory with pods whose containers are real ones, made by runc.

What kubelet does for a pod is done here: its directory, its launcher volume with one folder a container, its
cgroup, its emptyDirs, and its object at the (false) API server. Whoever makes a node ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crikpy import names
from crikpy.kube.resources import NODES, PODS
from crikpy.settings import Settings
from tests.fakes.kube import FakeKube
from tests.integration.capsules import ROOT, ContainerJob, JobCapsule, job_words
from tests.integration.containers import Container

NAMESPACE = "training"
EMPTY_DIRS = "volumes/kubernetes.io~empty-dir"
_CGROUPS = Path("/sys/fs/cgroup")
_ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodContainer(Container):
    """One container of a pod.

    Attributes:
        place: its folder in the pod's launcher volume.
        cgroup: the pod's cgroup.
        instead: what runs as its first process in the launcher's place.
        empty_dirs: folders of the node by where they are mounted inside.
    """

    place: Path
    cgroup: str
    instead: tuple[str, ...] = ()
    empty_dirs: Mapping[str, Path] = field(default_factory=dict)

    @property
    def shared(self) -> Path:
        """The container's part of the launcher volume."""
        return self.place

    def prepare(self) -> None:
        """Mount the root and write the bundle; the socket of a launcher that was there before stays."""
        stale = self.place / names.LAUNCHER_SOCKET
        aside = self.place.parent / f".{self.name}"
        with contextlib.suppress(FileNotFoundError):
            stale.rename(aside)
        shutil.rmtree(self.place, ignore_errors=True)
        Container.prepare(self)
        with contextlib.suppress(FileNotFoundError):
            aside.rename(stale)

    def _config(self) -> dict[str, object]:
        config: dict[str, Any] = Container._config(self)
        if self.instead:
            config["process"]["args"] = list(self.instead)
        config["linux"]["cgroupsPath"] = f"/{self.cgroup}/{self.name}"
        config["mounts"] += [
            {"destination": point, "type": "bind", "source": str(path), "options": ["rbind", "rprivate", "rw"]}
            for point, path in self.empty_dirs.items()
        ]
        return config


class NodePod:
    """One pod bound to a node.

    Attributes:
        name: its name.
        uid: its UID.
        jobs: its containers that were begun, by name; of one that began several times the last.
    """

    def __init__(
        self,
        node: FakeNode,
        name: str,
        *,
        containers: Mapping[str, Sequence[str]],
        annotations: Mapping[str, str],
        volumes: Mapping[str, Mapping[str, str]],
        owner: Mapping[str, str] | None,
    ) -> None:
        self.node = node
        self.name = name
        self.uid = str(uuid.uuid4())
        self.containers = containers
        self.jobs: dict[str, JobCapsule] = {}
        self._begun: list[JobCapsule] = []
        self._annotations = annotations
        self._volumes = volumes
        self._owner = owner
        self._cgroup = f"{node.token}-pod{self.uid}"

    @property
    def directory(self) -> Path:
        """The pod's directory below kubelet's."""
        return self.node.kubelet_dir / "pods" / self.uid

    def place(self, container: str) -> Path:
        """Return a container's folder in the launcher volume."""
        return self.directory / EMPTY_DIRS / names.LAUNCHER_VOLUME / container

    def volume(self, name: str) -> Path:
        """Return an emptyDir's folder, made when it is not there."""
        path = self.directory / EMPTY_DIRS / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
        return path

    def body(self) -> dict[str, Any]:
        """Return the pod's object as the API server would show it."""
        volumes = sorted({volume for mounts in self._volumes.values() for volume in mounts.values()})
        metadata: dict[str, Any] = {
            "name": self.name,
            "namespace": NAMESPACE,
            "uid": self.uid,
            "annotations": dict(self._annotations),
        }
        if self._owner is not None:
            metadata["ownerReferences"] = [{**self._owner, "controller": True}]
            metadata["generateName"] = f"{self._owner['name']}-"
        return {
            "metadata": metadata,
            "spec": {
                "nodeName": self.node.name,
                "volumes": [{"name": name, "emptyDir": {}} for name in (names.LAUNCHER_VOLUME, *volumes)],
                "containers": [
                    {
                        "name": name,
                        "command": [f"{names.LAUNCHER_DIR}/launch", "--agent-wait", "30", "--", *words],
                        "volumeMounts": [
                            {"name": volume, "mountPath": point}
                            for point, volume in self._volumes.get(name, {}).items()
                        ],
                    }
                    for name, words in self.containers.items()
                ],
            },
            "status": {"phase": "Running"},
        }

    def begin(self, container: str = "main", *, agent_wait_s: int = 3600) -> JobCapsule:
        """Make a container, its launcher waiting; blocks until it answers."""
        made = self._make(container, agent_wait_s=agent_wait_s)
        made.await_launcher()
        return made

    async def intrude(self, program: str, container: str = "main") -> JobCapsule:
        """Make a container that runs a Python program in the launcher's place, and wait until that listens."""
        made = self._make(container, instead=(sys.executable, "-c", program))
        await asyncio.to_thread(made.expect, "listening")
        return made

    def _make(self, container: str, *, agent_wait_s: int = 3600, instead: tuple[str, ...] = ()) -> JobCapsule:
        number = len(self._begun)
        made = ContainerJob(
            PodContainer(
                name=f"{self.node.token}-{self.uid[:8]}-{number}",
                folder=self.node.folder / f"{self.uid[:8]}-{number}",
                launcher=self.node.settings.criu.launcher,
                words=self.containers[container],
                environment=_ENVIRONMENT,
                agent_wait_s=agent_wait_s,
                place=self.place(container),
                cgroup=self._cgroup,
                instead=instead,
                empty_dirs={point: self.volume(name) for point, name in self._volumes.get(container, {}).items()},
            )
        )
        self._begun.append(made)
        self.jobs[container] = made
        return made

    async def run(self, container: str = "main", *, agent_wait_s: int = 3600) -> JobCapsule:
        """Make a container, its launcher waiting."""
        return await asyncio.to_thread(self.begin, container, agent_wait_s=agent_wait_s)

    def end(self) -> list[Exception]:
        """Kill what is left of it, and remove its cgroup; return what went wrong."""
        faults = []
        for job in self._begun:
            try:
                job.end()
            except Exception as fault:  # noqa: BLE001  every one must have its turn
                faults.append(fault)
        for path in (*_CGROUPS.glob(f"*/{self._cgroup}"), *_CGROUPS.glob(self._cgroup)):
            path.rmdir()
        return faults


class FakeNode:
    """One node.

    Attributes:
        name: its name.
        folder: everything of it is below.
        kubelet_dir: kubelet's directory.
        settings: those of its agent.
        token: what the names of its containers and cgroups start with.
        pods: its pods, those that are gone as well.
    """

    def __init__(self, name: str, folder: Path, settings: Settings, kube: FakeKube) -> None:
        self.name = name
        self.folder = folder
        self.kubelet_dir = folder / "kubelet"
        (self.kubelet_dir / "pods").mkdir(parents=True)
        self.settings = settings
        self.token = f"crikpy-test-{secrets.token_hex(4)}"
        self.pods: list[NodePod] = []
        self._kube = kube
        self.report(ready=True)

    def report(self, *, ready: bool) -> None:
        """Show the node's object, with the condition Ready."""
        condition = {"type": "Ready", "status": "True" if ready else "Unknown"}
        self._kube.put(NODES, {"metadata": {"name": self.name}, "status": {"conditions": [condition]}})

    def pod(
        self,
        name: str = "job-0",
        *,
        job: Sequence[object] = ("memory", 8, 1),
        containers: Mapping[str, Sequence[object]] | None = None,
        annotations: Mapping[str, str] | None = None,
        injected: str | None = None,
        volumes: Mapping[str, Mapping[str, str]] | None = None,
        owner: Mapping[str, str] | None = None,
        known: bool = True,
    ) -> NodePod:
        """Bind a pod to this node; its containers are begun by the test.

        Args:
            name: the pod's name.
            job: program of tests/jobs, or of the machine by its path, and its arguments, for a pod with the one
                container `main`.
            containers: the same for several containers, by name.
            annotations: besides those that opt in.
            injected: value of that annotation; by default all containers.
            volumes: by container the emptyDirs that it mounts, path inside → name.
            owner: `apiVersion`, `kind`, `name`, `uid` of its controller.
            known: whether the API server knows it from the beginning.
        """
        jobs = containers or {"main": job}
        notes = {names.OPT_IN: "true", names.INJECTED: ",".join(jobs) if injected is None else injected}
        pod = NodePod(
            self,
            name,
            containers={container: _words(words) for container, words in jobs.items()},
            annotations={**notes, **(annotations or {})},
            volumes=volumes or {},
            owner=owner,
        )
        self.pods.append(pod)
        if known:
            self._kube.put(PODS, pod.body())
        return pod

    def end(self) -> None:
        """End every pod."""
        faults = []
        for pod in self.pods:
            faults += pod.end()
        if faults:
            raise ExceptionGroup("pods that did not end", faults)


def _words(job: Sequence[object]) -> tuple[str, ...]:
    first, *rest = map(str, job)
    return (first, *rest) if first.startswith("/") else job_words(first, *rest)
