"""The standing connection to one launcher: hears its news and answers its SIGTERM, from its finding to its end.

It never holds a job: whoever starts, saves or resumes one has a connection of its own, so that the end of this one
means nothing to the job. All talk is done in threads, since the other side may be hostile and silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from enum import StrEnum
from pathlib import Path

from crikpy.agent import peers, places
from crikpy.agent.places import LauncherPlace
from crikpy.agent.threads import in_thread
from crikpy.aio.clock import Deadline
from crikpy.capsule.holding import HeldProcess
from crikpy.capsule.launcher import LauncherConnection
from crikpy.errors import CapsuleError, LauncherError, NodeError, NoLauncherError
from crikpy.model.capsule import JobPhase, LauncherStatus

_ANSWER_S = 2.0
"""How long a launcher may take to answer; a sound one takes less than a millisecond."""

_EXIT_S = 1.0


class News(StrEnum):
    """What a launcher tells of itself."""

    TERM = "term"
    ENDED = "ended"


class PinnedLauncher:
    """A launcher that has proved to be one of its pod, pinned: its socket and its process.

    Attributes:
        place: where it was found.
        connection: an open connection to it.
        path: a path of its socket that means this very launcher, whatever is put in its place; only for this
            process, and only until it is closed.
        process: its process, held as long.
    """

    def __init__(self, kubelet_dir: Path, place: LauncherPlace, deadline: Deadline) -> None:
        """Find it, connect and look at who answers.

        Raises:
            NoLauncherError: nobody listens there, or it has just ended.
            LauncherError: somebody does who is no launcher of this pod, or it hung up.
            DeadlineError: it does not answer.
            NodeError: this machine has no descriptors left.
        """
        self.place = place
        with contextlib.ExitStack() as stack:
            try:
                pinned = places.pin(kubelet_dir, place)
                stack.callback(os.close, pinned)
                self.path = places.path_of(pinned)
                self.connection = stack.enter_context(LauncherConnection(self.path, deadline))
                self.process = stack.enter_context(_held(self.connection.launcher_pid))
            except OSError as fault:
                raise NodeError(f"the launcher of {place} cannot be reached: {fault}") from fault
            peers.require_launcher(self.connection.launcher_pid, place.pod_uid)
            self.status = self.connection.status(deadline)
            # Somebody else may answer in its place, but while it lives its PID has meant no other process.
            if self.process.gone():
                raise NoLauncherError("the launcher has just ended")
            self._open = stack.pop_all()

    def close(self) -> None:
        """Hang up and forget the launcher; harmless a second time."""
        self._open.close()

    def signal(self, number: int) -> None:
        """Send the process a signal; never another one that got its PID."""
        self.process.signal(number)

    def await_exit(self, deadline: Deadline) -> bool:
        """Wait until the process has exited; return whether it has."""
        return self.process.gone(within_s=deadline.remaining())


def _held(pid: int) -> HeldProcess:
    try:
        return HeldProcess(pid)
    except CapsuleError as gone:
        raise NoLauncherError("the launcher has just ended") from gone


class CapsuleSession:
    """One launcher, from the moment that it is found to its end.

    Attributes:
        pod_uid: the pod's UID.
        container: the container's name.
        socket: a path of the launcher's socket that means this very launcher, whatever is put in its place; for
            this process only, and only while it is a session of its pod.
        launcher_pid: the launcher's PID as this process sees it.
        process: a pidfd of the launcher, to be used as long as `socket`.
        phase: what the job was doing when the launcher was last heard.
    """

    def __init__(self, launcher: PinnedLauncher, executor: Executor) -> None:
        self.pod_uid = launcher.place.pod_uid
        self.container = launcher.place.container
        self.socket = launcher.path
        self.launcher_pid = launcher.connection.launcher_pid
        self.process = launcher.process.fileno()
        self.phase = launcher.status.phase
        self._launcher = launcher
        self._connection = launcher.connection
        self._executor = executor
        self._turn = asyncio.Lock()
        self._stirred = asyncio.Event()
        self._stirred.set()  # something may have come with the greeting
        self._term_told = False
        self._closed = False

    def __str__(self) -> str:
        return str(self._launcher.place)

    @property
    def ended_status(self) -> int | None:
        """The job's exit status; None while it has not ended, and if it was killed together with its launcher."""
        return self._connection.ended_status

    @property
    def term_pending(self) -> bool:
        """Whether a SIGTERM waits for our answer."""
        return self._connection.term_pending

    async def hold_term(self) -> None:
        """Keep a pending SIGTERM from the job until pass_term, or until this session ends.

        Raises:
            LauncherError: the launcher is gone, or no SIGTERM is pending any more.
            DeadlineError: it does not answer.
        """
        await self._ask(self._connection.hold_term, answers_term=True)

    async def pass_term(self) -> None:
        """Let a pending SIGTERM go on to the job; while that waits, it ends the launcher.

        Raises:
            LauncherError: the launcher is gone, or no SIGTERM is pending any more.
            DeadlineError: it does not answer.
        """
        await self._ask(self._connection.pass_term, answers_term=True)

    async def refresh(self) -> LauncherStatus:
        """Ask what the job is doing: a launcher does not tell of a start by itself.

        Raises:
            LauncherError: the launcher is gone.
            DeadlineError: it does not answer.
        """
        return await self._ask(self._connection.status)

    def terminate(self) -> None:
        """Send the launcher a SIGTERM, as kubelet does."""
        self._launcher.signal(signal.SIGTERM)

    async def listen(self) -> AsyncIterator[News]:
        """Yield what the launcher tells until it is gone; each SIGTERM once, until it is answered.

        Raises:
            LauncherError: it hung up without exiting, or said what no launcher says.
            DeadlineError: it stopped within a line, or did not stop talking.
        """
        ended = False
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            gone = await self._take_news()
            if self.term_pending and not self._term_told:
                self._term_told = True
                yield News.TERM
            if self.ended_status is not None and not ended:
                ended, self.phase = True, JobPhase.ENDED
                yield News.ENDED
            if gone:
                return

    async def close(self) -> None:
        """Hang up, once nobody speaks any more; nobody may be using `socket` either."""
        async with self._turn:
            self._ignore()
            self._closed = True
            self._launcher.close()

    async def _take_news(self) -> bool:
        """Read what has come; return whether the launcher is gone."""
        async with self._turn:
            self._ignore()
            try:
                await in_thread(self._executor, self._connection.read_news)
            except LauncherError:
                if await in_thread(self._executor, self._launcher.await_exit, Deadline.after(_EXIT_S)):
                    return True
                raise
            # Others may keep its connections open, in a container beside: they do not speak for it.
            if self._launcher.process.gone():
                return True
            for readable in (self._connection.fileno(), self.process):
                asyncio.get_running_loop().add_reader(readable, self._stir)
            return False

    async def _ask(
        self, request: Callable[[Deadline], LauncherStatus], *, answers_term: bool = False
    ) -> LauncherStatus:
        async with self._turn:
            if self._closed:
                raise LauncherError(f"the launcher of {self} is gone")
            self._ignore()
            self._term_told = self._term_told and not answers_term
            try:
                status = await in_thread(self._executor, request, Deadline.after(_ANSWER_S))
            finally:
                self._stirred.set()  # news may have come with the answer, or nobody be there any more
            self.phase = status.phase
            return status

    def _stir(self) -> None:
        self._ignore()
        self._stirred.set()

    def _ignore(self) -> None:
        if not self._closed:
            for readable in (self._connection.fileno(), self.process):
                asyncio.get_running_loop().remove_reader(readable)
