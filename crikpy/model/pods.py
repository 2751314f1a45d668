"""What crikpy knows of a pod, read once from its raw JSON (crikpy.kube.pods) and passed on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from crikpy.model.saving import SaveOptions


class OnRebalance(StrEnum):
    """What a rebalance recommendation means for a pod."""

    CHECKPOINT = "checkpoint"
    MIGRATE = "migrate"
    IGNORE = "ignore"


class OnRestoreFailure(StrEnum):
    """What becomes of a pod whose checkpoint cannot be resumed."""

    START = "start"
    FAIL = "fail"


class Placement(StrEnum):
    """How strongly a pod whose checkpoint waits is kept to nodes on which that can be resumed."""

    PREFER = "prefer"
    REQUIRE = "require"
    IGNORE = "ignore"


class OnMisfit(StrEnum):
    """What becomes of a pod that came to a node on which its checkpoint cannot be resumed."""

    MOVE = "move"
    START = "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodOptions:
    """The pod's annotations, parsed; defaults where they say nothing.

    Attributes:
        containers: names of the containers to save; empty means every one with an explicit command.
        interval_s: seconds between periodic checkpoints; None takes none.
        on_rebalance: what a rebalance recommendation means.
        priority: higher is saved first; None leaves it to the pod's own priority.
        excluded_volumes: names of emptyDir volumes that do not travel.
        restore_failure: what a failed restore means.
        keep: complete checkpoints to keep of a pod.
        recreate: a bare pod is made again elsewhere after it was saved.
        placement: how strongly a replacement is kept to nodes that fit.
        on_misfit: what a node that does not fit means: once moved elsewhere, or started from the beginning.
        saving: what its jobs hear of their checkpoints, and who saves them.
    """

    containers: tuple[str, ...] = ()
    interval_s: float | None = None
    on_rebalance: OnRebalance = OnRebalance.CHECKPOINT
    priority: int | None = None
    excluded_volumes: tuple[str, ...] = ()
    restore_failure: OnRestoreFailure = OnRestoreFailure.START
    keep: int = 2
    recreate: bool = False
    placement: Placement = Placement.PREFER
    on_misfit: OnMisfit = OnMisfit.MOVE
    saving: SaveOptions = field(default_factory=SaveOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMount:
    """Where a container sees a volume.

    Attributes:
        volume: the volume's name in the pod.
        path: inside the container.
        empty_dir: whether the volume is an emptyDir.
    """

    volume: str
    path: str
    empty_dir: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container of a pod; init containers are none.

    Attributes:
        name: its name.
        command: `command` and `args` of its specification, the launcher's own words left out.
        mounts: where it sees volumes, the launcher's own left out.
        image_digest: `sha256:…` of the image that runs, or empty while unknown.
        restarts: how often kubelet has started it again.
        started: when it was started the last time, aware UTC; None unless it runs.
    """

    name: str
    command: tuple[str, ...] = ()
    mounts: tuple[VolumeMount, ...] = ()
    image_digest: str = ""
    restarts: int = 0
    started: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The controller that made a pod.

    Attributes:
        kind: `Job`, `ReplicaSet`, `StatefulSet` or another.
        name: its name.
        uid: its UID.
    """

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod.

    Attributes:
        namespace: its namespace.
        name: its name.
        uid: its UID.
        resource_version: of the JSON that this was read from.
        node: the node that it is bound to, or empty.
        phase: `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
        opted_in: it bears the annotation.
        injected: names of the containers that run below our launcher, as the webhook recorded them.
        workload: the name under which its checkpoints are kept; pods of the same name may resume each other's.
        options: its annotations; those that cannot be read have their defaults. None only in what earlier releases
            have written down.
        fault: what is wrong with its annotations, or empty.
        owner: its controller; None for a bare pod.
        priority: the pod's own priority.
        grace_period_s: of its specification.
        created: when it was made, aware UTC.
        started: when kubelet acknowledged it, aware UTC, or None.
        deleting: it has a deletion timestamp.
        deletion_deadline: when its grace period ends, aware UTC; None unless it is being deleted.
        disruption: reason of its condition DisruptionTarget while that is true, such as `EvictionByEvictionAPI`.
        containers: its containers in the order of its specification.
        group: name of the group of pods, within its namespace, that is saved and resumed as one; or empty.
        group_size: of how many pods that consists, as far as this one says; else 0.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str = ""
    node: str = ""
    phase: str = "Pending"
    opted_in: bool = False
    injected: tuple[str, ...] = ()
    workload: str = ""
    options: PodOptions | None = field(default_factory=PodOptions)
    fault: str = ""
    owner: Owner | None = None
    priority: int = 0
    grace_period_s: int = 30
    created: datetime | None = None
    started: datetime | None = None
    deleting: bool = False
    deletion_deadline: datetime | None = None
    disruption: str = ""
    containers: tuple[Container, ...] = ()
    group: str = ""
    group_size: int = 0

    @property
    def over(self) -> bool:
        """Whether all its containers have ended for good."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def working_since(self) -> datetime | None:
        """When its jobs were begun, or the last of them started again in place, aware UTC; None where unknown."""
        known = (one.started for one in self.containers if one.name in self.injected)
        return max((since for since in known if since is not None), default=self.started)

    @property
    def facts(self) -> dict[str, object]:
        """What records about it say."""
        return {"pod": str(self), "pod_uid": self.uid, "workload": self.workload}

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
