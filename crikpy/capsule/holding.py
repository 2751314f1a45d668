"""Keeps hold of a process, so that what is done to it is never done to another that got its PID.

A PID is a number that the kernel gives away again, and whoever owns a container may end its first process at any
moment. A pidfd means one process for ever; so does its folder below /proc when it is held open, in which nothing
can be found any more once the process has ended. Nothing here decides whom to trust.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
from pathlib import Path
from types import TracebackType

from crikpy.capsule import procfs
from crikpy.errors import CapsuleError

Process = int | Path
"""A process by its PID, or by its folder below /proc, which outlives no process."""


def folder_of(process: Process) -> Path:
    """Return a process's folder below /proc."""
    return process if isinstance(process, Path) else Path(f"/proc/{process}")


def pidfd_of(process: Process) -> int:
    """Return a pidfd of a process, the caller's to close.

    Raises:
        CapsuleError: it is gone.
    """
    folder = folder_of(process)
    try:
        found = os.pidfd_open(int(procfs.read_status(folder)["Pid"]))
        try:
            os.stat(folder / "ns/pid")  # still there: what has its PID is itself
        except BaseException:
            os.close(found)
            raise
    except (OSError, LookupError) as fault:
        raise CapsuleError(f"process {process} is gone") from fault
    return found


def _pid_of(descriptor: int) -> int:
    """Return the PID of a pidfd's process; -1 when it has ended, or the descriptor is something else by now."""
    return int(procfs.fields(procfs.read_lines(Path(f"/proc/self/fdinfo/{descriptor}"))).get("Pid", -1))


class HeldProcess:
    """A process by descriptors; use it as a context.

    Attributes:
        pid: its PID, another's perhaps once it is gone.
        folder: its folder below /proc for this process and those that it starts; empty once it is gone.
    """

    def __init__(self, pid: int, known: int | None = None) -> None:
        """Take hold of it.

        Args:
            pid: its PID as this process sees it.
            known: a pidfd of it, the caller's, where somebody has kept one; else whoever has the PID now is meant.

        Raises:
            CapsuleError: it is gone.
            OSError: there are no descriptors left.
        """
        self.pid = pid
        with contextlib.ExitStack() as stack:
            try:
                self._process = os.pidfd_open(pid) if known is None else os.dup(known)
                stack.callback(os.close, self._process)
                if _pid_of(self._process) != pid:
                    raise ProcessLookupError(pid)
                opened = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as fault:
                if fault.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
                    raise
                raise CapsuleError(f"process {pid} is gone") from fault
            stack.callback(os.close, opened)
            # Only now: while it lives nobody else can have had its PID, so the folder is its own.
            if self.gone():
                raise CapsuleError(f"process {pid} is gone")
            self.folder = Path(f"/proc/{os.getpid()}/fd/{opened}")
            self._open = stack.pop_all()

    def __enter__(self) -> HeldProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it; harmless a second time."""
        self._open.close()

    def fileno(self) -> int:
        """Return its pidfd, readable once it has ended."""
        return self._process

    def gone(self, *, within_s: float = 0.0) -> bool:
        """Say whether it has ended, or does so in that time."""
        poll = select.poll()  # select() refuses descriptors from 1024 on
        poll.register(self._process, select.POLLIN)
        return bool(poll.poll(within_s * 1000))

    def signal(self, number: int) -> None:
        """Send it a signal; harmless when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, number)
