"""Speak with a capsule's launcher over its socket; the protocol is in docs/formats.md.

A connection is more than a channel: while it holds, the launcher neither starts the job by itself nor exits, and
when it breaks, the launcher lets the job run on. So keep it open exactly as long as the work takes.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from pathlib import Path
from types import TracebackType

from crikpy import names, tracing
from crikpy.aio.clock import Deadline
from crikpy.errors import CapsuleError, DeadlineError, LauncherError, NoLauncherError
from crikpy.model.capsule import JobPhase, LauncherStatus

_LONGEST_LINE = 512
_LEAST_WAIT_S = 0.001
_PEER = struct.Struct("=iII")
"""struct ucred: pid, uid, gid."""

_TIME = struct.Struct("@ll")
"""struct timeval: seconds, microseconds."""


class LauncherConnection:
    """An open connection; use it as a context.

    Attributes:
        launcher_pid: the launcher's PID as this process sees it.
        greeting: what the launcher said of its job when we came.
        term_pending: a SIGTERM waits for our answer.
    """

    def __init__(self, path: Path, deadline: Deadline) -> None:
        self._path = path
        self._socket = _connect(path, deadline)
        self._received = b""
        self._held_at = 0.0
        self.term_pending = False
        self.ended_status: int | None = None
        peer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        self.launcher_pid = int(_PEER.unpack(peer)[0])
        try:
            self.greeting = self._read_greeting(deadline)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> LauncherConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; a hold ends with it and the job runs on."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the socket's descriptor, readable when the launcher has news."""
        return self._socket.fileno()

    def status(self, deadline: Deadline) -> LauncherStatus:
        """Ask what the job is doing."""
        return self._order("status", deadline)

    def start(self, deadline: Deadline) -> LauncherStatus:
        """Have the job started from its command."""
        return self._order("start", deadline)

    def hold(self, deadline: Deadline) -> LauncherStatus:
        """Keep the launcher from starting the job or exiting while this connection lasts."""
        self._held_at = time.time()
        return self._order("hold", deadline)

    def release(self, deadline: Deadline, exit_status: int | None = None) -> LauncherStatus:
        """End the hold; with a status, have the launcher exit with it, which needs a job that has ended."""
        status = self._order("release" if exit_status is None else f"release {exit_status}", deadline)
        self._tell_held(exit_status)
        return status

    def adopt(self, pid: int, deadline: Deadline) -> LauncherStatus:
        """Make a child of the launcher, by its PID inside the capsule, the job."""
        self._tell_held()
        with tracing.step("adopt", tracing.LAUNCHER, pid=pid):
            return self._order(f"adopt {pid}", deadline)

    def _tell_held(self, exit_status: int | None = None) -> None:
        """Tell of the hold as a part of the rescue that is under way, if one is."""
        if self._held_at:
            tracing.past("hold", tracing.LAUNCHER, began=self._held_at, exit_status=exit_status)
            self._held_at = 0.0

    def pass_term(self, deadline: Deadline) -> LauncherStatus:
        """Let a pending SIGTERM go on to the job."""
        self.term_pending = False
        return self._order("term pass", deadline)

    def hold_term(self, deadline: Deadline) -> LauncherStatus:
        """Keep a pending SIGTERM from the job while it is dumped."""
        self.term_pending = False
        return self._order("term hold", deadline)

    def wait_ended(self, deadline: Deadline) -> int:
        """Wait for the job's end and return its exit status.

        Raises:
            DeadlineError: it had not ended by then.
        """
        while self.ended_status is None:
            self._take_event(self._read_line(deadline), deadline)
        return self.ended_status

    def read_news(self) -> None:
        """Take what the launcher has sent, without waiting; term_pending and ended_status tell.

        Raises:
            LauncherError: the launcher is gone.
            DeadlineError: it stopped within a line, or did not stop talking.
        """
        deadline = Deadline.after(1.0)
        news = select.poll()  # select() refuses descriptors from 1024 on, which an agent of many pods has
        news.register(self._socket, select.POLLIN)
        while news.poll(0) or b"\n" in self._received:
            self._take_event(self._read_line(deadline), deadline)

    def _read_greeting(self, deadline: Deadline) -> LauncherStatus:
        words = self._read_line(deadline).split(" ")
        if words[0] == "error":
            raise LauncherError(f"the launcher refuses us: {' '.join(words[1:])}")
        if len(words) < 5 or words[0] != "crikpy-launch":
            raise LauncherError(f"{self._path} is not a launcher's socket")
        if words[1] != str(names.LAUNCHER_PROTOCOL):
            raise LauncherError(
                f"the launcher speaks protocol {words[1]}, we speak {names.LAUNCHER_PROTOCOL}",
                remedy="restart the job so that it gets this release's launcher",
            )
        return self._parse_status(words[2:])

    def _order(self, line: str, deadline: Deadline) -> LauncherStatus:
        self._allow_until(deadline)
        try:
            self._socket.sendall(f"{line}\n".encode())
        except TimeoutError as late:
            raise DeadlineError("out of time while speaking to the launcher") from late
        except OSError as fault:
            raise LauncherError("the launcher is gone", remedy="the job has ended or was killed") from fault
        while True:
            answer = self._read_line(deadline)
            words = answer.split(" ")
            if words[0] == "ok":
                return self._parse_status(words[1:])
            if words[:2] == ["error", "held"]:
                raise LauncherError(
                    "another checkpoint or restore of this job is under way", remedy="wait for its end"
                )
            if words[0] == "error":
                raise LauncherError(f"the launcher refused `{line}`: {' '.join(words[1:])}")
            self._take_event(answer, deadline)

    def _take_event(self, line: str, deadline: Deadline) -> None:
        """Take one; a launcher that says nothing else for ever does not keep us past the deadline.

        What a later launcher adds, words to an event or an event of another kind, is passed over.
        """
        match line.split(" "):
            case ["event", "term", *_]:
                self.term_pending = True
            case ["event", "ended", status, *_] if status.isdecimal():
                self.ended_status = int(status)
                return
            case ["event", kind, *_] if kind not in ("", "ended"):
                pass
            case _:
                raise LauncherError(f"the launcher said {line!r}")
        deadline.check("listening to the launcher")

    def _parse_status(self, words: list[str]) -> LauncherStatus:
        try:
            phase, pid, status = JobPhase(words[0]), int(words[1]), int(words[2])
        except (ValueError, IndexError) as fault:
            raise LauncherError(f"the launcher answered {' '.join(words)!r}") from fault
        ended = phase is JobPhase.ENDED
        if ended:
            self.ended_status = status
        return LauncherStatus(phase=phase, job_pid=pid, exit_status=status if ended else None)

    def _read_line(self, deadline: Deadline) -> str:
        while b"\n" not in self._received:
            if len(self._received) > _LONGEST_LINE:
                raise LauncherError("the launcher sent a line that is too long")
            self._allow_until(deadline)
            try:
                part = self._socket.recv(4096)
            except TimeoutError as late:
                raise DeadlineError("out of time while waiting for the launcher") from late
            except OSError as fault:
                raise LauncherError("the launcher is gone") from fault
            if not part:
                raise LauncherError("the launcher is gone", remedy="the job has ended or was killed")
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        return line.decode(errors="replace")

    def _allow_until(self, deadline: Deadline) -> None:
        self._socket.settimeout(max(_LEAST_WAIT_S, deadline.remaining()))


def _connect(path: Path, deadline: Deadline) -> socket.socket:
    """Connect by way of the directory's descriptor: paths below a kubelet's folder exceed a Unix address."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    limit_us = int(max(_LEAST_WAIT_S, deadline.remaining()) * 1e6)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIME.pack(*divmod(limit_us, 1_000_000)))
    try:
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            connection.connect(f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)
    except BlockingIOError as late:
        connection.close()
        raise DeadlineError("out of time while waiting for the launcher to accept us") from late
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as fault:
        connection.close()
        raise NoLauncherError(f"no launcher answers at {path}") from fault
    except OSError as fault:
        connection.close()
        raise LauncherError(f"the launcher at {path} cannot be reached: {fault}") from fault
    return connection


def running_job(status: LauncherStatus) -> int:
    """Return the PID inside of a job that runs.

    Raises:
        CapsuleError: it does not.
    """
    if status.phase is not JobPhase.RUNNING:
        raise CapsuleError(f"there is nothing to save: the job is {status.phase}")
    return status.job_pid
