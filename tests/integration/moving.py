"""Takes jobs of the tests from one capsule to the next by the engine's own stories, over one store.

A bench is one workload with its store and its settings. Everything begun on it ends with it, and `end` says when
something is left behind. Usable without pytest.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

from crikpy import names
from crikpy.aio.clock import Deadline
from crikpy.capsule.launcher import LauncherConnection
from crikpy.errors import CrikpyError
from crikpy.flows.checkpointing import checkpoint
from crikpy.flows.members import CheckpointOrder, Member
from crikpy.flows.restoring import Waiting, restore
from crikpy.model.capsule import Capsule
from crikpy.model.manifest import Manifest
from crikpy.model.notices import Trigger
from crikpy.model.saving import SaveOptions
from crikpy.model.streams import TransferProgress
from crikpy.model.workload import Workload
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.local import LocalStore
from crikpy.store.records import Claim
from tests.integration.capsules import PATIENCE_S, ROOT, ContainerJob, JobCapsule, PlainJob, job_words
from tests.integration.containers import Container


class Kind(StrEnum):
    """How a capsule is made."""

    PLAIN = "plain"
    CONTAINER = "container"


class Story:
    """A reporter that remembers, and does what a test asks for when something happens.

    Attributes:
        events: names of all events so far.
        messages: what was said with the last one of each name.
    """

    def __init__(self, **reactions: Callable[[], object]) -> None:
        self.events: list[str] = []
        self.messages: dict[str, str] = {}
        self._reactions = reactions

    def event(self, name: str, message: str, **facts: object) -> None:
        """Remember an event and react to it."""
        self.events.append(name)
        self.messages[name] = message
        self._reactions.get(name, lambda: None)()

    def transfer(self, direction: str, progress: TransferProgress) -> None:
        """Ignore it."""


class Bench:
    """One workload and what belongs to it.

    Attributes:
        folder: everything of the bench is below it.
        name: what the names of its containers and cgroups start with.
        kind: of the capsules that are made.
        settings: for all flows.
        store: where checkpoints go.
        workload: whose they are.
        uid: user of the jobs in containers.
        read_only: whether the root of containers may not be written.
        apparmor: AppArmor profile of containers, or none.
        shared_directories: of containers, directories of the machine by their paths inside.
        lower: directories that are the image of containers, the uppermost first.
        allowed: system calls that the seccomp filter of containers lets through although it would not.
        environment: variables of the jobs in containers.
        devices: of containers, major and minor number of device nodes by their paths inside.
        volumes: of containers to be, what they cannot write, by paths inside.
        network: what connects each container to be to a network, before its job begins.
        saving: what the jobs hear of their checkpoints, and who saves them.
    """

    def __init__(self, folder: Path, kind: Kind, settings: Settings) -> None:
        self.folder = folder
        self.kind = kind
        self.settings = settings
        (folder / "store").mkdir()
        self.store: ObjectStore = LocalStore(folder / "store")
        self.name = f"crikpy-test-{secrets.token_hex(4)}"
        self.workload = Workload(cluster="tests", namespace="bench", name=self.name)
        self.uid = 0
        self.read_only = False
        self.apparmor = ""
        self.shared_directories: dict[str, Path] = {}
        self.lower: Sequence[Path] = (Path("/"),)
        self.allowed: Sequence[str] = ()
        self.environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        self.devices: dict[str, tuple[int, int]] = {}
        self.volumes: dict[str, Path] = {}
        self.network: Callable[[JobCapsule], None] | None = None
        self.saving = SaveOptions()
        self._temporary = folder / "tmp"
        self._capsules: list[JobCapsule] = []
        self._numbers = itertools.count()
        self._words: tuple[str, ...] = ()

    @property
    def checkpoints(self) -> Checkpoints:
        """The workload's checkpoints."""
        return Checkpoints(self.store, self.workload)

    def begin(self, job: str, *arguments: object, ready: str = "ready") -> JobCapsule:
        """Start a program of tests/jobs in a new capsule and wait until it says that it is ready."""
        capsule = self.vacant(*job_words(job, *arguments))
        capsule.start()
        capsule.expect(ready)
        return capsule

    def vacant(self, *words: str, changes: dict[str, str] | None = None) -> JobCapsule:
        """Make a capsule whose launcher waits; without words it is for the command of the last one."""
        self._words = words or self._words
        folder = self.folder / f"capsule-{next(self._numbers)}"
        launcher = self.settings.criu.launcher
        made: JobCapsule
        if self.kind is Kind.PLAIN:
            # Another machine's disk does not have what the job left on this one's.
            shutil.rmtree(self._temporary, ignore_errors=True)
            made = PlainJob(folder, self._temporary, launcher, self._words)
        else:
            container = Container(
                name=f"{self.name}-{folder.name}",
                folder=folder,
                launcher=launcher,
                words=self._words,
                environment={**self.environment, "BENCH": str(self.folder)},
                uid=self.uid,
                changes=changes or {},
                read_only=self.read_only,
                apparmor=self.apparmor,
                shared_directories=self.shared_directories,
                volumes=self.volumes,
                lower=self.lower,
                allowed=self.allowed,
                devices=self.devices,
            )
            made = ContainerJob(container)
        self._capsules.append(made)
        made.await_launcher()
        if self.network is not None:
            self.network(made)
        return made

    def save(
        self,
        job: JobCapsule,
        story: Story | None = None,
        *,
        leave_running: bool = False,
        store: ObjectStore | None = None,
        capsule: Capsule | None = None,
        within_s: float = PATIENCE_S,
    ) -> Manifest:
        """Checkpoint a job by the engine's own story; with other facts about its capsule if they are given."""
        order = CheckpointOrder(
            trigger=Trigger.MANUAL,
            deadline=Deadline.after(within_s),
            leave_running=leave_running,
        )
        member = self.member(capsule or job.capsule)
        with with_details():
            return checkpoint(member, store or self.store, order, self.settings, story or Story())

    def member(self, capsule: Capsule) -> Member:
        """Return a capsule as the engine takes it."""
        return Member(capsule=capsule, workload=self.workload, command=self._words, saving=self.saving)

    def resume(
        self, manifest: Manifest, story: Story | None = None, *, store: ObjectStore | None = None
    ) -> JobCapsule:
        """Restore a checkpoint into a new capsule by the engine's own story."""
        capsule = self.vacant()
        with capsule.held() as launcher:
            self.restore(manifest, capsule, launcher, story, store=store)
        return capsule

    def restore(
        self,
        manifest: Manifest,
        capsule: JobCapsule,
        launcher: LauncherConnection,
        story: Story | None = None,
        *,
        store: ObjectStore | None = None,
        within_s: float = PATIENCE_S,
    ) -> None:
        """Restore a checkpoint into a capsule that is held."""
        member = replace(self.member(capsule.capsule), command=())
        waiting = Waiting(member=member, launcher=launcher, manifest=manifest)
        deadline = Deadline.after(within_s)
        with with_details():
            restore([waiting], store or self.store, Claim.ours(), deadline, self.settings, story or Story())

    def move(self, job: JobCapsule) -> JobCapsule:
        """Save a job, see it end with 75, and resume it in a new capsule."""
        manifest = self.save(job)
        status = job.wait()
        assert status == names.EXIT_CHECKPOINTED, f"the saved job ended with {status}: {job.stderr.text()}"
        return self.resume(manifest)

    def forget(self, capsule: JobCapsule) -> None:
        """End a capsule now, and keep nothing of it."""
        self._capsules.remove(capsule)
        capsule.end()

    def end(self) -> None:
        """End everything that was begun."""
        faults = []
        for capsule in self._capsules:
            try:
                capsule.end()
            except Exception as fault:  # noqa: BLE001  every one must have its turn
                faults.append(fault)
        if faults:
            raise ExceptionGroup("capsules that did not end", faults)


@contextlib.contextmanager
def with_details() -> Iterator[None]:
    """Show the end of CRIU's log below the traceback of a test that did not expect to fail."""
    try:
        yield
    except CrikpyError as fault:
        fault.add_note(fault.detail)
        raise
