"""One capsule's part in a checkpoint: looked at, stopped, read, stored, described by a manifest.

Nothing here decides when the job may run again or must end; crikpy.flows.saving does, for all capsules at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import crikpy
from crikpy import names
from crikpy.aio import retrying
from crikpy.aio.clock import Deadline
from crikpy.capsule import confinement, entering, refusing, remaps, surveying, systemv, unixsockets
from crikpy.capsule.changes import Place, places_of, plan_changes
from crikpy.capsule.launcher import LauncherConnection, running_job
from crikpy.capsule.members import CarriedTree
from crikpy.capsule.mounts import read_mounts
from crikpy.capsule.preflight import LostName, Survey
from crikpy.capsule.procfs import shown
from crikpy.capsule.trees import JobTree, find_tree
from crikpy.criu.quieting import StoppedTree, stop_tree
from crikpy.criu.running import Criu
from crikpy.errors import CapsuleError, CrikpyError, DeadlineError, DumpError, LauncherError, UnsupportedJobError
from crikpy.flows.carrying import needed_files, travelling, write_archives
from crikpy.flows.connecting import store_connections
from crikpy.flows.devices import JobDevices
from crikpy.flows.hooks import Hearer
from crikpy.flows.members import CheckpointOrder, Member
from crikpy.flows.room import staging_bytes
from crikpy.flows.stopping import Inhabitants
from crikpy.flows.surroundings import network_of, own_files
from crikpy.model.manifest import Compatibility, FileArchive, Job, Manifest, Origin
from crikpy.model.network import Network
from crikpy.model.streams import TransferProgress, WrittenImages
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.recalling import KnownPages
from crikpy.store.records import FINISHED, Claim
from crikpy.store.writing import ChunkWriter

ANSWER_S = 10.0
"""How long the launcher may take to answer, and a killed job to vanish."""

_EXIT_S = 1.0
"""How long a launcher that has hung up may take to be gone."""

_SEARCH_S = 1.0
"""How long names of what the stopped job watches are sought, most of which are known."""

_WITHDRAW_S = 10.0
"""How long the store is asked to take back what stands of a checkpoint that failed; the job runs meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What was seen of a capsule while it stood still; its memory and files are on their way into the store.

    Attributes:
        survey: its processes.
        trees: its files that travel.
        places: where the directories among these really lie.
        archives: the files that are being stored.
        tiles: what the dump's outcome said of tiles.
        network: what of the capsule's network it uses.
    """

    survey: Survey
    trees: tuple[CarriedTree, ...]
    places: tuple[Place, ...]
    archives: tuple[FileArchive, ...]
    tiles: bool
    network: Network


class Dump:
    """One member's way into the store. Use it as a context; its end is the end of the hold on the launcher.

    Attributes:
        member: whose it is.
        launcher: the connection that holds the launcher, from `hold` on.
        root_pid: PID of the job's root inside.
        stopped: the job's processes once they stand still.
        can_run_on: the job can go on where it is; one that has ended by saving itself cannot.
        devices: what the job has on GPUs.
    """

    can_run_on = True

    def __init__(self, member: Member, store: ObjectStore, order: CheckpointOrder, settings: Settings) -> None:
        """Find the job.

        Raises:
            CapsuleError: there is none; LauncherError: its launcher does not answer.
        """
        self.member = member
        self.stopped: StoppedTree | None = None
        self._store = store
        self._order = order
        self._settings = settings
        self._checkpoints = Checkpoints(store, member.workload)
        self._checkpoint = ""
        self._may_stand = False
        self._memory_bytes = 0
        self._writer: ChunkWriter | None = None
        self._known_chunks: frozenset[str] = frozenset()
        self._pages: KnownPages | None = None
        self._stopped_before: tuple[int, ...] = ()
        self._lost_names: frozenset[LostName] = frozenset()
        self._watched: tuple[str, ...] = ()
        self._members: tuple[int, ...] = ()
        with contextlib.ExitStack() as stack:
            answer = order.deadline.earlier(ANSWER_S)
            self.launcher = stack.enter_context(LauncherConnection(member.capsule.socket, answer))
            self.inhabitants = stack.enter_context(
                Inhabitants(self.launcher.launcher_pid, member.capsule.launcher)
            )
            if self.launcher.launcher_pid != member.capsule.launcher_pid:
                raise CapsuleError("there is nothing to save: the job has ended, another launcher has its place")
            self.root_pid = running_job(self.launcher.greeting)
            self._root = self._find_root()
            self.devices = JobDevices(self.inhabitants, settings)
            stack.callback(self.devices.close)
            self._resources = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def hearer(self) -> Hearer:
        """Who hears of its checkpoint."""
        return Hearer(member=self.member, inhabitants=self.inhabitants, root_pid=self.root_pid)

    def close(self) -> None:
        """Hang up on the launcher."""
        self._resources.close()

    def refusals(self) -> tuple[str, ...]:
        """Return why CRIU could not save the job as it is now; empty when it may."""
        limit = self._settings.criu.ghost_limit_bytes
        seen = refusing.look(self._tree(), self.inhabitants.folder, self._inhabitants(), ghost_limit_bytes=limit)
        of_devices = self.devices.refusals(seen.survey.views, self._order.deadline)
        processes = seen.survey.processes
        self._memory_bytes = self.devices.bytes
        self._memory_bytes += sum(process.anonymous_bytes + process.shared_bytes for process in processes)
        self._watched = seen.watched
        return (*seen.refusals, *of_devices)

    def hold(self) -> None:
        """Keep the launcher from exiting, and others from saving.

        Raises:
            LauncherError: another act holds it.
        """
        self.launcher.hold(self._order.deadline)

    def announce(self, claim: Claim, checkpoint: str) -> None:
        """Begin the checkpoint of this id in the store."""
        self._checkpoint = checkpoint
        _, known = self._checkpoints.begin(
            claim, checkpoint, pod_uid=self._order.pod_uid, deadline=self._order.deadline
        )
        self._known_chunks = known.chunks
        if known.base is not None:
            self._pages = KnownPages(self._store, self.member.workload, known.base)
            self._pages.read_ahead()

    def prepare(self, on_progress: Callable[[TransferProgress], None]) -> None:
        """Make ready to read the job, whose memory is given by the kernel now where it is to go on soon.

        Args:
            on_progress: told how far its storing is.
        """
        order, store = self._order, self._settings.store
        writer = ChunkWriter(
            self._store,
            self.member.workload,
            settings=store,
            known=self._known_chunks,
            pages=self._pages,
            deadline=order.deadline,
            on_progress=on_progress,
            pace=order.pace,
            staging_bytes=staging_bytes(store) if order.leave_running else 0,
        )
        self._writer = self._resources.enter_context(writer)
        if order.leave_running:
            self._writer.prepare(self._memory_bytes)

    def tree(self) -> tuple[int, ...]:
        """Return the job's processes as they are now, the root first, by their PIDs on the node."""
        return self._tree().members

    def stop(self) -> float:
        """Stop the job; return the monotonic time by which it stood still.

        Raises:
            TilesInUseError, DumpError, DeadlineError, UnsupportedJobError: it could not be stopped and runs on.
            CapsuleError: it has just ended.
        """
        deadline = self._order.deadline
        limit_s = self._settings.criu.collect_timeout_s
        try:
            self.stopped = stop_tree(self._root, deadline.earlier(limit_s))
        except DeadlineError as late:
            deadline.check("stopping the job")
            raise DumpError(
                f"the job's processes could not be stopped within {limit_s} s",
                remedy="see which of them hang in the kernel, for example on a network filesystem",
            ) from late
        self._stopped_before = tuple(sorted(entering.inner_pids(self.stopped.stopped_before)))
        # Its launcher would know if it had ended before, and what was stopped here were something else.
        if running_job(self.launcher.status(deadline)) != self.root_pid:
            raise CapsuleError("there is nothing to save: the job has just ended")
        tree = self._tree()
        if tree.nested:
            self.stopped.undo()  # the only way to them: they are not among the capsule's inhabitants
            self.stopped = None
            raise UnsupportedJobError("the job cannot be saved: it has just begun a sandbox")
        self._members = tree.members
        return self.stopped.at

    def read(self, elsewhere: Collection[Place]) -> Read:
        """Read the stopped job, but for directories that travel with others; what was read is being stored.

        Raises:
            CrikpyError: CRIU refused, a file cannot travel, the store failed or time ran out.
        """
        capsule, deadline = self.member.capsule, self._order.deadline
        writer = self._ready()
        launcher = self.inhabitants.folder
        survey = surveying.survey(self._members)
        # What has come to be since the job was looked at.
        fate = systemv.fate_of(self._root, launcher, self._inhabitants())
        watched, nameless = refusing.names_of_watched(survey, launcher, self._watched, within_s=_SEARCH_S)
        if fate.refusal or nameless:
            raise UnsupportedJobError(f"the job cannot be saved: {fate.refusal or nameless}")
        remaps.remove(launcher, survey.lost)  # left by an agent that was killed
        entry = entering.dump_entry(launcher, saves_ipc=fate.travels)
        ends = unixsockets.connected_ends(self._members, launcher)
        outcome = Criu(self._settings.criu).dump(
            entry, self.root_pid, writer, deadline, unix_ends=ends, watched=watched
        )
        store_connections(outcome.sockets, self._members, writer)
        node_root = self._settings.criu.node_root
        trees = plan_changes(capsule, survey.written, node_root=node_root, elsewhere=elsewhere, launcher=launcher)
        mounts = read_mounts(launcher)
        self._lost_names = travelling(survey.lost, trees, mounts)
        archives = tuple(write_archives(trees, writer, deadline))
        return Read(
            survey=survey,
            trees=trees,
            places=places_of(trees, mounts),
            archives=archives,
            tiles=outcome.tiles,
            network=network_of(launcher, outcome.sockets),
        )

    def go_on(self) -> None:
        """Have the job run on before it is stored; its launcher stays held."""
        remaps.remove(self.inhabitants.folder, self._lost_names)
        self.inhabitants.let_go(but=self._stopped_before)
        self.stopped = None
        if self._order.pace is not None:
            self._order.pace.ease()

    def abandon(self, reason: str) -> None:
        """Give the rest of the storing up; harmless when there is none."""
        if self._writer is not None:
            self._writer.abort(CapsuleError(reason))

    def store(self) -> WrittenImages:
        """Wait until everything that was read is stored; calling it again costs nothing.

        Raises:
            CrikpyError: the store failed or time ran out.
        """
        written = self._ready().finish()
        if self._pages is not None:
            self._pages.forget()  # a job may be held for hours
        return written

    def draft(self, found: Read, *, here: Compatibility, origin: Origin, carried: Collection[Place]) -> Manifest:
        """Describe what was read, as long as the job stands still; images and sizes come later.

        Args:
            found: what `read` returned.
            here: facts of this machine and the capsule's image.
            origin: where and why.
            carried: directories that travel, with whomever.
        """
        survey, mounts = found.survey, read_mounts(self.inhabitants.folder)
        return Manifest(
            format=names.FORMAT_VERSION,
            checkpoint=self._checkpoint,
            workload=str(self.member.workload),
            created="",
            release=crikpy.__version__,
            origin=origin,
            job=Job(
                command=self.member.command,
                root_pid=self.root_pid,
                highest_pid=survey.highest_pid,
                processes=survey.processes,
                stdio=survey.stdio,
                stopped=self._stopped_before,
                tiles=found.tiles,
                apparmor=shown(confinement.profile_of(self._root)),
                container_apparmor=shown(confinement.profile_of(self.inhabitants.folder)),
                cuda=self.devices.taken,
                alarmed=surveying.alarmed(self._members),
                lost_sessions=survey.lost_sessions,
            ),
            compatibility=replace(here, gpus=self.devices.facts),
            images=(),
            archives=found.archives,
            network=found.network,
            open_files=needed_files(survey.files, found.trees, carried, mounts),
            own_files=own_files(survey.files, mounts),
        )

    def resumed_elsewhere(self) -> bool:
        """Say whether somebody has claimed what was committed here.

        Raises:
            StoreError: the store does not tell.
        """
        claim = self._checkpoints.summary(self._checkpoint).claim
        return claim is not None and claim.outcome != FINISHED

    def commit(self, manifest: Manifest) -> None:
        """Make this part of the checkpoint complete."""
        self._may_stand = True
        self._checkpoints.commit(manifest)

    def let_go(self) -> None:
        """Have the job run on, if it was stopped; harmless when it is gone."""
        if self.stopped is not None:
            remaps.remove(self.inhabitants.folder, self._lost_names)
            self.inhabitants.let_go(but=self._stopped_before)

    def release(self) -> None:
        """Let go of the launcher, of a job that runs on; harmless when that is gone."""
        # In order: when a hold breaks off, the launcher continues even what was stopped before.
        with contextlib.suppress(LauncherError, DeadlineError):
            self.launcher.release(Deadline.after(ANSWER_S))

    def withdraw(self, reason: str) -> None:
        """Have the store say that this checkpoint must not be used, or that there will be none."""
        with contextlib.suppress(CrikpyError):
            if self._may_stand:
                act = partial(self._checkpoints.withdraw, self._checkpoint, reason)
                retrying.call(act, deadline=Deadline.after(_WITHDRAW_S))
            elif self._checkpoint:
                self._checkpoints.give_up(self._checkpoint)

    def end(self, deadline: Deadline) -> None:
        """See the killed job's end, and have the launcher exit with 75; one that is gone has exited already.

        Raises:
            LauncherError, DeadlineError: the launcher does not answer as it should.
        """
        try:
            self.launcher.wait_ended(deadline)
            self.launcher.release(deadline, names.EXIT_CHECKPOINTED)
        except LauncherError:
            if not self.inhabitants.gone(within_s=_EXIT_S):
                raise

    def _ready(self) -> ChunkWriter:
        if self._writer is None:
            raise CapsuleError("nothing was made ready to read the job")
        return self._writer

    def _inhabitants(self) -> set[int]:
        return {self.member.capsule.launcher_pid, *self.inhabitants.pids()}

    def _tree(self) -> JobTree:
        return find_tree(self.member.capsule.launcher_pid, self._root, self.inhabitants.folder)

    def _find_root(self) -> int:
        """Return the job's root process as the node sees it."""
        try:
            return self.inhabitants.outside()[self.root_pid]
        except KeyError as fault:
            raise CapsuleError("there is nothing to save: the job has just ended") from fault
