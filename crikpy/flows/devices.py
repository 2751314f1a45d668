"""The story of a job's GPUs around a dump and a restore: taken into memory before, given back on every way out.

CRIU knows nothing of GPUs. NVIDIA's cuda-checkpoint brings what a process has on them into the process's own
memory, which CRIU then saves like all other (crikpy.gpu.tool). CRIU's own plug-in for that is not used: it would
run inside the container, find the tool by its PATH there, and run it with every capability (docs/gpu.md). Here the
node's tool is run on the node. It needs a process that runs: so GPUs are taken before a job is stopped, and given
back once it is let go. All processes are locked before the first is taken, and have their GPUs again before the
first is unlocked: they may wait for each other. Whoever calls decides which way out it is.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from crikpy.aio.clock import Deadline
from crikpy.capsule import accelerators, entering, surveying
from crikpy.capsule.preflight import ProcessView
from crikpy.errors import GpuError, GpuStateLostError
from crikpy.flows import gpus
from crikpy.flows.gpu_processes import GpuHold, attempt_all, do_all
from crikpy.flows.stopping import Inhabitants
from crikpy.gpu import support
from crikpy.gpu.guarding import Guard
from crikpy.gpu.tool import State
from crikpy.model.manifest import GpuFacts, Manifest
from crikpy.settings import Settings

_LOCK_SHARE: Final = 0.25
"""Of the time until the deadline, for locking; the rest is needed to save what was locked."""


class JobDevices:
    """What one job has on GPUs, while it is saved. To be closed; closed in between, it gives nothing back.

    Attributes:
        facts: the GPUs that its capsule sees; empty while it is not known to use any.
        bytes: how much it has on them, as far as anybody says.
        settings: of this node.
    """

    def __init__(self, inhabitants: Inhabitants, settings: Settings) -> None:
        self.facts = GpuFacts()
        self.bytes = 0
        self._inhabitants = inhabitants
        self.settings = settings
        self._tools = gpus.node_tools(settings)
        self._pids: tuple[tuple[int, int, str], ...] = ()
        self._processes: list[GpuHold] = []
        self._held = contextlib.ExitStack()

    def refusals(self, views: Sequence[ProcessView], deadline: Deadline) -> tuple[str, ...]:
        """Remember who uses GPUs; return why the job cannot be saved for their sake."""
        users = accelerators.with_gpus(views)
        self._pids = tuple((view.outer, view.fact.pid, view.fact.command) for view in users)
        if not users:
            return ()
        self.facts = gpus.facts_of(self._inhabitants.folder, self.settings)
        self.bytes = gpus.used_bytes([view.outer for view in users], self._tools, deadline)
        return gpus.refusals(views, self._inhabitants.folder, self.settings, deadline, used=self.bytes)

    @property
    def taken(self) -> tuple[int, ...]:
        """PIDs inside of the processes whose GPU memory is in their own."""
        return tuple(sorted(one.inner for one in self._processes if one.state is State.CHECKPOINTED))

    @property
    def processes(self) -> Sequence[GpuHold]:
        """Those that were begun with."""
        return self._processes

    def begin(self) -> None:
        """Keep hold of the processes, and see to it that they get their GPUs back should we be killed."""
        alive = self._inhabitants.pids()
        self._processes = [
            self._held.enter_context(GpuHold(self._tools, *pids)) for pids in self._pids if pids[0] in alive
        ]
        guard = Guard(
            self._tools.cuda_checkpoint(),
            [(one.descriptor, one.pid) for one in self._processes],
            before=entering.outside(),
            environment=self._tools.environment,
            limit_s=self.settings.gpu.give_back_s,
        )
        self._held.enter_context(guard)

    def require_released(self, tree: Collection[int]) -> None:
        """See that nobody holds a device any more.

        Raises:
            GpuError: somebody does.
        """
        left = accelerators.with_gpus(surveying.survey(list(tree)).views)
        if left:
            named = ", ".join(f"{view.fact.command} (PID {view.fact.pid})" for view in left)
            raise GpuError(
                f"{named} still has a GPU open after cuda-checkpoint, so that CRIU could not save it",
                remedy="have only processes that use CUDA open GPUs: start others by spawn, before CUDA is used",
            )

    def close(self) -> None:
        """Let go of the processes, as they are; harmless a second time."""
        self._held.close()
        self._processes = []


def take(jobs: Sequence[tuple[JobDevices, Callable[[], Collection[int]]]], deadline: Deadline) -> float | None:
    """Bring what jobs have on GPUs into their memory; they must run, and wait at their next call of CUDA.

    Args:
        jobs: with what returns the PIDs of their trees, the root first.
        deadline: of the whole checkpoint.

    Returns:
        The monotonic time from which they stood still in effect; None when none uses a GPU.

    Raises:
        GpuBusyError: they could not be halted in time.
        GpuError, DeadlineError: it failed. After any failure `give_back` is due.
    """
    using = [(job, tree) for job, tree in jobs if job.facts.driver]
    if not using:
        return None
    at, settings = time.monotonic(), using[0][0].settings.gpu
    for job, _ in using:
        job.begin()
    processes = [one for job, _ in using for one in job.processes]
    lock_s = min(settings.lock_s, deadline.remaining() * _LOCK_SHARE)
    do_all(processes, lambda one: one.lock(deadline, lock_s), settings.at_once)
    do_all(processes, lambda one: one.checkpoint(deadline), settings.at_once)
    for job, tree in using:
        job.require_released(tree())
    return at


def give_back(jobs: Sequence[JobDevices]) -> None:
    """Give jobs that were let go what they had on GPUs; nothing where nothing was taken, or it was given back.

    Raises:
        GpuStateLostError: naming the processes that did not get it.
    """
    processes = [one for job in jobs for one in job.processes if not one.gone()]
    settings = jobs[0].settings.gpu
    deadline = Deadline.after(settings.give_back_s)
    faults = [
        *attempt_all(processes, lambda one: one.restore(deadline), settings.at_once),
        *attempt_all(processes, lambda one: one.unlock(deadline), settings.at_once),
    ]
    for job in jobs:
        job.close()
    if faults:
        raise GpuStateLostError(
            f"the job runs on without its GPUs: {'; '.join(dict.fromkeys(map(str, faults)))}",
            remedy="end it; nothing else helps a process that cuda-checkpoint has left so",
        )


def bring_back(restored: Sequence[tuple[Inhabitants, Manifest]], settings: Settings, deadline: Deadline) -> None:
    """Give processes that were restored, and are stopped, what they had on GPUs; only these go on.

    Raises:
        GpuError, DeadlineError: it failed; they may stand in any state.
    """
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(one)
            for capsule, manifest in restored
            if manifest.job.cuda
            for one in _restored(capsule, manifest, settings)
        ]
        for one in processes:
            one.go_on()
        do_all(processes, lambda one: one.restore(deadline), settings.gpu.at_once)
        do_all(processes, lambda one: one.unlock(deadline), settings.gpu.at_once)


def _restored(capsule: Inhabitants, manifest: Manifest, settings: Settings) -> Iterator[GpuHold]:
    """Yield the processes of a restored job that had GPUs."""
    here = gpus.facts_of(capsule.folder, settings)
    device_map = support.device_map(manifest.compatibility.gpus, here)
    tools = gpus.node_tools(settings)
    outer = capsule.outside()
    commands = {process.pid: process.command for process in manifest.job.processes}
    for inner in manifest.job.cuda:
        if inner not in outer:
            raise GpuError(f"process {inner}, which had a GPU, is not in the restored job")
        yield GpuHold(tools, outer[inner], inner, commands.get(inner, ""), State.CHECKPOINTED, device_map)
