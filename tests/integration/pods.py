"""Several capsules that are saved and resumed together, as the containers of a pod are; one bench for each.

Usable without pytest; whoever makes one ends it.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from crikpy.aio.clock import Deadline
from crikpy.flows.gathering import Candidate, find_together, read_manifests
from crikpy.flows.members import CheckpointOrder, Member
from crikpy.flows.restoring import Waiting, restore
from crikpy.flows.saving import Saved, save
from crikpy.model.capsule import Capsule, JobPhase
from crikpy.model.notices import Trigger
from crikpy.model.workload import Workload
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.local import LocalStore
from crikpy.store.records import Claim
from tests.integration.capsules import PATIENCE_S, JobCapsule
from tests.integration.moving import Bench, Kind, Story, with_details


class Pod:
    """Benches by the names of their containers, over one store.

    Attributes:
        store: where checkpoints go.
        uid: UID of the pod that runs now.
        claim: who resumes; the same for every attempt, as an agent's is.
        image: digest of the image of every container.
        carried: directories inside that travel whole, by container.
        capsules: the capsules that are the pod's now, in the order of the names.
    """

    def __init__(
        self, folder: Path, kind: Kind, settings: Settings, names: Sequence[str] = ("one", "two")
    ) -> None:
        (folder / "store").mkdir()
        self.store: ObjectStore = LocalStore(folder / "store")
        self.uid = secrets.token_hex(4)
        self.claim = Claim.ours()
        self.image = ""
        self.carried: dict[str, tuple[str, ...]] = {}
        self.benches: dict[str, Bench] = {}
        for name in names:
            (folder / name).mkdir()
            self.benches[name] = Bench(folder / name, kind, settings)
            self.benches[name].store = self.store
        self.capsules: list[JobCapsule] = []

    @property
    def workloads(self) -> list[Workload]:
        """The containers' workloads, in the order in which they are saved."""
        return sorted(bench.workload for bench in self.benches.values())

    @property
    def settings(self) -> Settings:
        """Settings of all flows."""
        return next(iter(self.benches.values())).settings

    def use(self, settings: Settings) -> None:
        """Change the settings of all flows."""
        for bench in self.benches.values():
            bench.settings = settings

    def of(self, workload: Workload) -> JobCapsule:
        """Return the capsule of a workload."""
        return next(
            capsule
            for bench, capsule in zip(self.benches.values(), self.capsules, strict=True)
            if bench.workload == workload
        )

    def begin(self, jobs: Mapping[str, Sequence[object]]) -> None:
        """Start a job in each container."""
        self.capsules = [
            self.benches[name].begin(str(job), *arguments) for name, (job, *arguments) in jobs.items()
        ]

    def members(self) -> list[Member]:
        """Return the capsules as the flows take them."""
        return [
            Member(
                capsule=_carrying(capsule, self.carried.get(name, ())), workload=bench.workload, image=self.image
            )
            for (name, bench), capsule in zip(self.benches.items(), self.capsules, strict=True)
        ]

    def save(
        self, story: Story | None = None, *, store: ObjectStore | None = None, within_s: float = PATIENCE_S
    ) -> Saved:
        """Save the jobs by the engine's own story."""
        order = CheckpointOrder(
            trigger=Trigger.DRAIN,
            pod="tests/pod",
            pod_uid=self.uid,
            deadline=Deadline.after(within_s),
            leave_running=False,
        )
        with with_details():
            return save(self.members(), store or self.store, order, self.settings, story or Story())

    def end_saved(self) -> str:
        """Save the jobs and have them end; return the checkpoint's id."""
        with self.save() as saved:
            saved.end()
        assert [capsule.wait() for capsule in self.capsules] == [75] * len(self.capsules)
        return saved.checkpoint

    def replace(self) -> None:
        """Make a new pod whose launchers wait."""
        self.uid = secrets.token_hex(4)
        self.capsules = [bench.vacant() for bench in self.benches.values()]

    @contextlib.contextmanager
    def held(self, checkpoint: str) -> Iterator[list[Waiting]]:
        """Hold the launchers, ready for a restore."""
        with contextlib.ExitStack() as stack:
            members = self.members()
            manifests = read_manifests(self.store, [member.workload for member in members], checkpoint)
            yield [
                Waiting(member=member, launcher=stack.enter_context(capsule.held()), manifest=manifest)
                for member, capsule, manifest in zip(members, self.capsules, manifests, strict=True)
            ]

    def resume(self, checkpoint: str, *, store: ObjectStore | None = None) -> None:
        """Restore a checkpoint into the waiting capsules by the engine's own story."""
        with self.held(checkpoint) as waiting, with_details():
            self.restore(waiting, store=store)

    def restore(self, waiting: Sequence[Waiting], *, store: ObjectStore | None = None) -> None:
        """Restore into capsules that are held."""
        deadline = Deadline.after(PATIENCE_S)
        restore(waiting, store or self.store, self.claim, deadline, self.settings, Story())

    def found(self) -> tuple[Candidate, ...]:
        """Return what the store holds of the pod."""
        return find_together(self.store, self.workloads)

    def records(self) -> list[str]:
        """Return what the store says of checkpoints in any of the workloads."""
        return [summary.id for workload in self.workloads for summary in Checkpoints(self.store, workload).list()]

    def states(self) -> set[str]:
        """Return what the jobs' processes are doing, in the words of psutil."""
        return {psutil.Process(pid).status() for capsule in self.capsules for pid in capsule.members()}

    def prove(self) -> None:
        """Have all jobs prove their state."""
        for capsule in self.capsules:
            capsule.prove()

    def finish(self) -> list[int]:
        """Have all jobs finish, and return their exit statuses."""
        return [capsule.finish() for capsule in self.capsules]

    def phases(self) -> list[JobPhase]:
        """Return what the launchers say of their jobs."""
        return [capsule.phase() for capsule in self.capsules]

    def end(self) -> None:
        """End everything that was begun."""
        faults = []
        for bench in self.benches.values():
            try:
                bench.end()
            except Exception as fault:  # noqa: BLE001  every one must have its turn
                faults.append(fault)
        if faults:
            raise ExceptionGroup("containers that did not end", faults)


def _carrying(capsule: JobCapsule, carried: tuple[str, ...]) -> Capsule:
    known = capsule.capsule
    return replace(known, carried=(*known.carried, *carried))
