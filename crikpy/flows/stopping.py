"""Signals to the processes of a capsule: they go on, or they are killed.

A launcher's PID names its capsule only while the launcher lives. A capsule may end at any moment, killed by
kubelet or for want of memory, and the PID may then be given to a process of the node itself, whose namespace holds
every process there is. So the launcher is kept by a descriptor, which never means anybody else.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Collection
from types import TracebackType

from crikpy.capsule import entering
from crikpy.errors import CapsuleError


class Inhabitants:
    """The processes of a capsule besides its launcher; none once that has ended, for the kernel ends them with it.

    Use it as a context.
    """

    def __init__(self, launcher_pid: int) -> None:
        """Keep hold of the launcher.

        Raises:
            CapsuleError: it is gone.
        """
        self._launcher_pid = launcher_pid
        try:
            self._launcher = os.pidfd_open(launcher_pid)
        except OSError as fault:
            raise CapsuleError(f"the launcher (process {launcher_pid}) is gone") from fault

    def __enter__(self) -> Inhabitants:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the launcher."""
        os.close(self._launcher)

    def gone(self, *, within_s: float = 0.0) -> bool:
        """Say whether the capsule has ended, or does so in that time."""
        poll = select.poll()
        poll.register(self._launcher, select.POLLIN)
        return bool(poll.poll(within_s * 1000))

    def pids(self) -> dict[int, int]:
        """Return them: PID on the node → PID inside."""
        try:
            found = entering.members(self._launcher_pid)
        except CapsuleError:
            return {}
        # Only now: while the launcher lived, nobody else can have had its PID.
        if self.gone():
            return {}
        found.pop(self._launcher_pid, None)
        return found

    def let_go(self, *, but: Collection[int]) -> None:
        """Continue every process, except those with these PIDs inside."""
        # Children first: a shell that goes on before its child could take that for stopped by somebody.
        for outer, inner in sorted(self.pids().items(), key=lambda pids: pids[1], reverse=True):
            if inner not in but:
                _signal(outer, signal.SIGCONT)

    def kill(self) -> None:
        """Kill every process."""
        for outer in self.pids():
            _signal(outer, signal.SIGKILL)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
