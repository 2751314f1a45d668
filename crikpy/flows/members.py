"""What a flow is told: the capsules that belong together, and what is to be done with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from crikpy.aio.clock import Deadline
from crikpy.model.capsule import Capsule
from crikpy.model.notices import Trigger
from crikpy.model.saving import SaveOptions
from crikpy.model.workload import Workload
from crikpy.store.pacing import Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One capsule among those that are saved and resumed together: the containers of a pod, or a single job.

    Attributes:
        capsule: where its processes are.
        workload: whose checkpoint it becomes, or is resumed from.
        command: the job's command line.
        image: digest of the container's image, or empty where it is unknown or there is none.
        saving: what the job hears of its checkpoints, and who saves it.
    """

    capsule: Capsule
    workload: Workload
    command: tuple[str, ...] = ()
    image: str = ""
    saving: SaveOptions = field(default_factory=SaveOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointOrder:
    """What is to be done.

    Attributes:
        trigger: why.
        notice: id of the interruption notice, or empty.
        instance: EC2 instance id of this machine, or empty.
        pod: `namespace/name` of the pod, or empty.
        pod_uid: its UID, or empty.
        group: the group of pods that it is saved with, or empty.
        set_id: the set that the checkpoint is a part of, or empty.
        deadline: when every manifest must stand.
        leave_running: let the job run on as soon as it is read.
        pace: bounds the bandwidth instead of the settings, and may be lifted on the way; or None.
    """

    trigger: Trigger
    notice: str = ""
    instance: str = ""
    pod: str = ""
    pod_uid: str = ""
    group: str = ""
    set_id: str = ""
    deadline: Deadline
    leave_running: bool
    pace: Pace | None = None


class Gate(Protocol):
    """Decides whether jobs go on before what was read of them is stored."""

    def opens(self, abandon: Callable[[str], None]) -> bool:
        """Say whether they go on now: everything is read, not everything is stored; asked once for each attempt.

        Args:
            abandon: gives the rest of the storing up, for a reason. If the answer is yes, any thread may call it,
                and it is harmless once the attempt has ended.
        """
        ...


class OrderedGate:
    """Opens when the jobs are to run on afterwards anyway."""

    def __init__(self, order: CheckpointOrder) -> None:
        self._opens = order.leave_running

    def opens(self, abandon: Callable[[str], None]) -> bool:
        """Say what the order says."""
        return self._opens
