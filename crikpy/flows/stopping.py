"""Signals to the processes of a capsule: they go on, or they are killed.

A launcher's PID names its capsule only while the launcher lives. A capsule may end at any moment, killed by
kubelet, for want of memory or by its own will, and the PID may then be given to a process of the node itself,
whose namespace holds every process there is. So the launcher is held by descriptors, which never mean anybody
else, and so is each process while it gets a signal.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType

from crikpy.aio.clock import Deadline
from crikpy.capsule import entering, procfs
from crikpy.capsule.holding import HeldProcess
from crikpy.errors import CapsuleError

_BACK_IN_ITS_CALL_S = 5.0
_RUNS_NS = 5_000_000
"""Whoever has had the CPU for so long since it went on does not wait in a call."""
_POLL_S = 0.005


class Inhabitants:
    """The processes of a capsule besides its launcher; none once that has ended, for the kernel ends them with it.

    Use it as a context.
    """

    def __init__(self, launcher_pid: int, known: int | None = None) -> None:
        """Keep hold of the launcher.

        Args:
            launcher_pid: its PID.
            known: a pidfd of it, where somebody has kept one.

        Raises:
            CapsuleError: it is gone.
        """
        self._launcher = HeldProcess(launcher_pid, known)

    @property
    def folder(self) -> Path:
        """The launcher's folder below /proc, empty once it is gone: how to enter and look at the capsule."""
        return self._launcher.folder

    def __enter__(self) -> Inhabitants:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the launcher."""
        self._launcher.close()

    def gone(self, *, within_s: float = 0.0) -> bool:
        """Say whether the capsule has ended, or does so in that time."""
        return self._launcher.gone(within_s=within_s)

    def pids(self) -> dict[int, int]:
        """Return them: PID on the node → PID inside."""
        try:
            found = entering.members(self.folder)
        except CapsuleError:
            return {}
        # Only now: while the launcher lived, nobody else can have had its PID.
        if self.gone():
            return {}
        found.pop(self._launcher.pid, None)
        return found

    def outside(self) -> dict[int, int]:
        """Return them the other way round: PID inside → PID on the node."""
        return {inner: outer for outer, inner in self.pids().items()}

    def let_go(self, *, but: Collection[int]) -> None:
        """Continue every process, except those with these PIDs inside."""
        # Children first: a shell that goes on before its child could take that for stopped by somebody.
        for outer, inner in sorted(self.pids().items(), key=lambda pids: pids[1], reverse=True):
            if inner not in but:
                self._signal(outer, signal.SIGCONT)

    def unheard_alarms(self, pids: Collection[int]) -> frozenset[int]:
        """Return those of these PIDs inside that CRIU has restored without the SIGALRM that was pending.

        It reads pending signals before the memory and timers after it: an alarm that goes off in between is lost.
        """
        return frozenset(
            inner
            for outer, inner in self.pids().items()
            if inner in pids and not int(_status(outer).get("ShdPnd", "0"), 16) & procfs.ALARM
        )

    def ring(self, pids: Collection[int]) -> None:
        """Send SIGALRM to processes with these PIDs inside, which have just gone on.

        Each gets a moment to be back in the call that its stop has interrupted: the alarm has to end that, too.
        """
        if not pids:
            return
        moment = Deadline.after(_BACK_IN_ITS_CALL_S)
        for outer, inner in self.pids().items():
            if inner in pids:
                before = _ran_ns(outer)
                while not _waits(outer) and _ran_ns(outer) < before + _RUNS_NS and not moment.expired():
                    time.sleep(_POLL_S)
                self._signal(outer, signal.SIGALRM)

    def kill(self) -> None:
        """Kill every process."""
        for outer in self.pids():
            self._signal(outer, signal.SIGKILL)

    def send(self, inner: int, number: int, *, only_if: Callable[[Path, int], bool]) -> bool:
        """Send one process a signal if it may get it; return whether it was sent.

        Args:
            inner: its PID inside.
            number: the signal.
            only_if: says by the process's folder below /proc whether it may.
        """
        outer = next((outer for outer, found in self.pids().items() if found == inner), None)
        with contextlib.suppress(CapsuleError, OSError):
            if outer is not None:
                with HeldProcess(outer) as found:
                    if self._is_theirs(found) and only_if(found.folder, number):
                        found.signal(number)
                        return True
        return False

    def _signal(self, pid: int, number: signal.Signals) -> None:
        """Signal a process if it is one of theirs still: it may have ended since it was found."""
        with contextlib.suppress(CapsuleError, OSError), HeldProcess(pid) as found:
            if self._is_theirs(found):
                found.signal(number)

    def _is_theirs(self, found: HeldProcess) -> bool:
        return os.readlink(found.folder / "ns/pid") == os.readlink(self.folder / "ns/pid")


def _status(pid: int) -> dict[str, str]:
    """Return what /proc says of a process; nothing if it has ended."""
    with contextlib.suppress(OSError):
        return procfs.read_status(Path(f"/proc/{pid}"))
    return {}


def _waits(pid: int) -> bool:
    return _status(pid).get("State", "S").startswith("S")


def _ran_ns(pid: int) -> int:
    """Return for how many nanoseconds a process's main thread has had a CPU; where the kernel says so."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    return 0
