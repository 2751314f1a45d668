"""One process of a job on its way from its GPU into memory and back, and several of them at once.

What is known of a process's state is kept here, for on the ways out it decides what has to be undone: a tool that
was killed, or has failed, leaves a state that only the driver can tell.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import Final

from crikpy.aio.clock import Deadline
from crikpy.aio.threads import Pool
from crikpy.capsule.holding import HeldProcess
from crikpy.errors import CapsuleError, CrikpyError, DeadlineError, GpuBusyError, GpuError
from crikpy.gpu.tool import Action, NodeTools, State

_OVERHEAD_S: Final = 15.0
"""A tool that is to give up by itself gets this much longer: most of it is the driver's own start."""


class GpuHold:
    """One process, held; use it as a context. Its methods block, each for as long as the tool does.

    Attributes:
        pid: on the node.
        inner: its PID inside.
        state: as far as it is known.
    """

    def __init__(
        self,
        tools: NodeTools,
        pid: int,
        inner: int,
        name: str,
        state: State = State.RUNNING,
        device_map: str = "",
    ) -> None:
        self.pid = pid
        self.inner = inner
        self.state = state
        self._tools = tools
        self._who = f"{name} (PID {inner})" if name else f"PID {inner}"
        self._device_map = device_map
        self._held = HeldProcess(pid)

    def __enter__(self) -> GpuHold:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    @property
    def descriptor(self) -> int:
        """Of its folder below /proc."""
        return int(self._held.folder.name)

    def gone(self) -> bool:
        """Say whether it has ended."""
        return self._held.gone()

    def go_on(self) -> None:
        """Have it go on, if it is stopped."""
        self._held.signal(signal.SIGCONT)

    def lock(self, deadline: Deadline, lock_s: float) -> None:
        """Have its calls of CUDA wait from now on.

        Raises:
            GpuBusyError: it was not possible in that time.
            GpuError, DeadlineError: it was not possible.
        """
        began = time.monotonic()
        self.state = State.UNKNOWN
        try:
            self._act(Action.LOCK, deadline.earlier(lock_s + _OVERHEAD_S), lock_s=lock_s)
        except (GpuError, DeadlineError) as fault:
            if time.monotonic() - began < lock_s:
                raise
            deadline.check("halting the job's GPUs")
            raise GpuBusyError(f"{self._who} could not be halted on its GPU within {lock_s:.0f} s") from fault
        self.state = State.LOCKED

    def checkpoint(self, deadline: Deadline) -> None:
        """Bring what it has on the GPU into its memory."""
        self.state = State.UNKNOWN
        self._act(Action.CHECKPOINT, deadline)
        self.state = State.CHECKPOINTED

    def restore(self, deadline: Deadline) -> None:
        """Have its memory on the GPU again, if it was taken."""
        if self.state is State.UNKNOWN:
            self.state = self._tools.state(self.pid, deadline)
        if self.state is State.CHECKPOINTED:
            self.state = State.FAILED
            self._act(Action.RESTORE, deadline, device_map=self._device_map)
            self.state = State.LOCKED
        elif self.state in {State.FAILED, State.UNKNOWN}:
            unknown = "its state cannot be found out" if self.state is State.UNKNOWN else "CUDA has failed in it"
            self.state = State.FAILED
            raise GpuError(f"{self._who}: {unknown}")

    def unlock(self, deadline: Deadline) -> None:
        """Have it go on, if it was locked."""
        if self.state is not State.LOCKED:
            return
        self.state = State.FAILED
        try:
            self._act(Action.UNLOCK, deadline)
        except (GpuError, DeadlineError):
            if self._tools.state(self.pid, deadline) is not State.RUNNING:
                raise
        self.state = State.RUNNING

    def _act(self, action: Action, deadline: Deadline, *, lock_s: float = 0.0, device_map: str = "") -> None:
        if self.gone():
            raise CapsuleError(f"{self._who} has just ended")
        try:
            self._tools.act(action, self.pid, deadline, lock_s=lock_s, device_map=device_map)
        except GpuError as fault:
            raise GpuError(f"{self._who}: {fault.message}", remedy=fault.remedy) from fault


def attempt_all(processes: Sequence[GpuHold], act: Callable[[GpuHold], None], at_once: int) -> list[CrikpyError]:
    """Do something to all, some at once; return what failed, but for processes that have ended."""

    def attempt(one: GpuHold) -> CrikpyError | None:
        try:
            act(one)
        except CrikpyError as fault:
            return None if one.gone() and not isinstance(fault, GpuBusyError) else fault
        return None

    if not processes:
        return []
    with Pool(min(at_once, len(processes)), thread_name_prefix="gpu") as threads:
        return [fault for fault in threads.map(attempt, processes) if fault is not None]


def do_all(processes: Sequence[GpuHold], act: Callable[[GpuHold], None], at_once: int) -> None:
    """Do something to all, and raise the first fault once none is at work any more."""
    faults = attempt_all(processes, act, at_once)
    if faults:
        raise faults[0]
