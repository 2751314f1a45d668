"""Child processes that can always be ended, their own children included.

A child that hangs must never keep a job frozen or a node from shutting down: whoever waits has a deadline, and
past it the whole tree goes. Each child leads a session of its own so that a terminal's signals miss it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from types import TracebackType

import psutil

from crikpy.aio.clock import Deadline
from crikpy.errors import DeadlineError

_STOPS_S = 0.2
_STANDS_S = 5.0
_DIES_S = 5.0
_LONGEST_OUTPUT = 1024 * 1024


class Child:
    """A running program; use it as a context, which never leaves it behind."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        pass_fds: Sequence[int] = (),
        stdout: int | None = subprocess.DEVNULL,
        stderr: int | None = subprocess.DEVNULL,
        stdin: int | None = subprocess.DEVNULL,
        env: dict[str, str] | None = None,
    ) -> None:
        self.argv = tuple(argv)
        self._process = subprocess.Popen(
            argv,
            pass_fds=pass_fds,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            start_new_session=True,
            close_fds=True,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill_tree()

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while it runs."""
        return self._process.poll()

    def wait(self, deadline: Deadline) -> int:
        """Return the exit status, negative for a signal.

        Raises:
            DeadlineError: it still runs at the deadline; its tree has been killed then.
        """
        try:
            return self._process.wait(deadline.remaining())
        except subprocess.TimeoutExpired as late:
            self.kill_tree()
            raise DeadlineError(f"{self.argv[0]} did not end in time and was killed") from late

    def terminate(self) -> None:
        """Ask it to end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill_tree(self) -> None:
        """Kill it, every descendant and its session, and reap it; harmless when its end is known already."""
        if self._process.returncode is None:
            kill_tree(self.pid)
        self._process.wait()


def kill_tree(pid: int) -> None:
    """Kill a process, its descendants and the session that it leads; none gets a chance to fork away.

    The session finds those whose parents have ended before. The process itself may have ended but must not have
    been reaped, so that its number is still its own.
    """
    family: list[psutil.Process] = []
    limit = Deadline.after(_STANDS_S)
    while fresh := [member for member in _relatives(pid) if member not in family]:
        _stop(fresh)  # a stopped process makes no new ones, so the last look sees nobody new
        family += fresh
        if limit.expired():
            break  # one that cannot be stopped can be killed all the same
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            member.kill()
    _await(family, {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}, _DIES_S)


def _relatives(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return list({root, *root.children(recursive=True), *_session(pid)})
    except psutil.NoSuchProcess:
        return []


def _session(leader: int) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader:
                yield process


def _stop(members: Sequence[psutil.Process]) -> None:
    """Stop some; one that a descendant traces ignores it, so that the wait for it is short."""
    for member in members:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            member.suspend()
    still = {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    _await(members, still, _STOPS_S)


def _await(members: Sequence[psutil.Process], states: Collection[str], seconds: float) -> None:
    limit = Deadline.after(seconds)
    while not all(_is_in(member, states) for member in members) and not limit.expired():
        time.sleep(0.001)


def _is_in(member: psutil.Process, states: Collection[str]) -> bool:
    try:
        return member.status() in states
    except psutil.NoSuchProcess:
        return True


def run(
    argv: Sequence[str], *, deadline: Deadline, pass_fds: Sequence[int] = (), env: dict[str, str] | None = None
) -> tuple[int, str]:
    """Run a short program and return its exit status and what it wrote, both streams together, a mebibyte at most.

    Raises:
        DeadlineError: it did not end in time and was killed.
    """
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as output:
        try:
            child = Child(argv, pass_fds=pass_fds, stdout=write_end, stderr=write_end, env=env)
        finally:
            os.close(write_end)
        with child:
            text = _read_until_end(output.fileno(), deadline, child)
            return child.wait(deadline), text.decode(errors="replace")


def _read_until_end(fd: int, deadline: Deadline, child: Child) -> bytes:
    os.set_blocking(fd, False)
    text = b""
    while not deadline.expired():
        try:
            part = os.read(fd, 65536)
        except BlockingIOError:
            time.sleep(0.005)
            continue
        if not part:
            return text
        text += part[: _LONGEST_OUTPUT - len(text)]
    child.kill_tree()
    raise DeadlineError(f"{child.argv[0]} did not end in time and was killed")
