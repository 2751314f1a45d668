"""Speaks with processes of a job that listen for its checkpoints (crikpy.job); the lines are in docs/formats.md.

Whoever listens there may say what it likes, or nothing: only a process of the capsule counts that has the socket
itself open, it is reached by that socket and by no path, and it is heard for so many bytes and so long. What it
gains by a lie is that it is not told of its own checkpoint.

Nothing is left in a job by which CRIU could fail: requests are single datagrams, those that it has not taken are
taken back, and a pipe for an answer that has lost its reader is no hindrance, as a broken connection would be.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import itertools
import os
import re
import select
import socket
from dataclasses import dataclass
from pathlib import Path

from crikpy.aio.clock import Deadline
from crikpy.capsule import beneath, procfs, syscalls
from crikpy.capsule.holding import HeldProcess
from crikpy.capsule.procfs import shown
from crikpy.errors import CapsuleError, DeadlineError

_SOCKET = re.compile(r"job-([0-9]{1,10})\.sock")
_PROTOCOL = "crikpy-job 1"
_MOST_NAMES = 4096
_MOST_LISTENERS = 64
_MOST_DESCRIPTORS = 65536
_MOST_REQUESTS = 64
_LONGEST_LINE = 512
_SIOCUNIXFILE = 0x89E0
"""Linux 4.17: names the file to which a Unix socket is bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a process of a job says it has done.

    Attributes:
        ready: whether it has done what it was asked for.
        word: the first word of what it said.
        reason: what went wrong, in its own words made fit to be shown; or empty.
    """

    ready: bool
    word: str = ""
    reason: str = ""


def listeners(launcher: Path, directory: str) -> dict[str, int]:
    """Return the sockets at which processes of a job may listen, some left over: name → PID inside.

    Args:
        launcher: the launcher's folder below /proc, held.
        directory: where the sockets lie, an absolute path inside the capsule.
    """
    parts = [part for part in directory.split("/") if part]
    try:
        with (
            beneath.opened_trusted(launcher / "root") as top,
            beneath.opened_below(top, parts) as folder,
            os.scandir(folder) as entries,
        ):
            named = [_SOCKET.fullmatch(entry.name) for entry in itertools.islice(entries, _MOST_NAMES)]
    except OSError:
        return {}
    return dict(sorted((match[0], int(match[1])) for match in named if match)[:_MOST_LISTENERS])


class JobListener:
    """The listening socket of one process of a job; use it as a context, and leave it before CRIU comes."""

    def __init__(self, launcher: Path, pid: int, path: str) -> None:
        """Find it.

        Args:
            launcher: the launcher's folder below /proc, held.
            pid: the process, as this process sees it.
            path: the socket's path as the process knows it.

        Raises:
            CapsuleError: the process is gone, or belongs to another capsule, or has no such socket.
            OSError: the kernel refuses.
        """
        with contextlib.ExitStack() as stack:
            process = stack.enter_context(HeldProcess(pid))
            if os.readlink(process.folder / "ns/pid") != os.readlink(launcher / "ns/pid"):
                raise CapsuleError("it does not belong to this job")
            self._theirs = stack.enter_context(_socket_of(process, path))
            self._address = fcntl.ioctl(self._theirs.fileno(), _SIOCUNIXFILE)
            stack.callback(os.close, self._address)
            self._open = stack.pop_all()

    def __enter__(self) -> JobListener:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def ask(self, request: str, deadline: Deadline, *, take_back: bool = True) -> Answer:
        """Ask for something, and wait until it is done.

        Args:
            request: `who`, `checkpoint SECONDS`, `save SECONDS` or `after OUTCOME`.
            deadline: how long that may take.
            take_back: have it never come to a request that it has not even taken by then.

        Raises:
            CapsuleError: it hung up, or answered something else.
            DeadlineError: it is not done.
        """
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            try:
                self._send(f"{_PROTOCOL} {request}", writing)
            finally:
                os.close(writing)
            return read_answer(reading, deadline)
        except DeadlineError:
            if take_back:
                self._take_back()
            raise
        finally:
            os.close(reading)

    def _send(self, line: str, pipe: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pipe]))]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendmsg([line.encode()], rights, socket.MSG_DONTWAIT, f"/proc/self/fd/{self._address}")
            except BlockingIOError as full:
                raise CapsuleError("it does not take what it is told") from full
            except OSError as fault:
                raise CapsuleError(f"it cannot be told: {fault.strerror}") from fault

    def _take_back(self) -> None:
        for _ in range(_MOST_REQUESTS):
            try:
                self._theirs.recv(_LONGEST_LINE, socket.MSG_DONTWAIT)
            except OSError:
                return


def read_answer(pipe: int, deadline: Deadline) -> Answer:
    """Return what a process writes into a pipe that does not block.

    Raises:
        CapsuleError: it said nothing, or nothing that means anything.
        DeadlineError: it is not done.
    """
    received = b""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while b"\n" not in received:
        if len(received) >= _LONGEST_LINE:
            raise CapsuleError("it said too much")
        if not poll.poll(deadline.remaining() * 1000):
            raise DeadlineError("it was not done in time")
        try:
            part = os.read(pipe, _LONGEST_LINE)
        except BlockingIOError:
            continue
        if not part:
            raise CapsuleError("it has ended, or does not listen to us")
        received += part
        if b"\n" not in received:
            deadline.check("listening to the job")
    word, _, rest = received.partition(b"\n")[0].decode("ascii", "replace").partition(" ")
    if word not in ("ready", "saves", "listens", "failed", "error"):
        raise CapsuleError("it answered something else")
    return Answer(ready=word not in ("failed", "error"), word=word, reason=shown(rest))


def _socket_of(process: HeldProcess, path: str) -> socket.socket:
    """Return a descriptor of ours for a socket that a process is bound to."""
    for number, _ in procfs.sockets(process.folder, most=_MOST_DESCRIPTORS):
        try:
            found = socket.socket(fileno=syscalls.getfd(process.fileno(), number))
        except OSError as fault:
            if fault.errno in {errno.EMFILE, errno.ENFILE, errno.EPERM}:
                raise
            continue  # it has just been closed
        if (found.family, found.type) == (socket.AF_UNIX, socket.SOCK_DGRAM) and _name_of(found) == path:
            return found
        found.close()
    raise CapsuleError("it has no such socket")


def _name_of(found: socket.socket) -> object:
    try:
        return found.getsockname()
    except OSError:
        return None
