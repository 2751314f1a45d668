"""Launchers that are kept from starting their jobs while it is found out what these are to begin from.

Whoever holds owes the job its beginning: a hold that ends in whatever way leaves a launcher that starts the job by
itself, at once when the hold breaks, after its own wait for an agent when it is released.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection
from concurrent.futures import Executor
from functools import partial

from crikpy import names
from crikpy.agent.sessions import CapsuleSession, PodSession
from crikpy.agent.threads import in_thread, made_in_thread
from crikpy.aio.clock import Deadline
from crikpy.capsule import entering
from crikpy.capsule.holding import HeldProcess
from crikpy.capsule.launcher import LauncherConnection
from crikpy.errors import CrikpyError, LauncherError
from crikpy.model.capsule import JobPhase

_log = logging.getLogger(__name__)

_ANSWER_S = 5.0
_LOOK_EVERY_S = 1.0


class Hold:
    """One launcher that waits for us.

    Attributes:
        capsule: whose launcher it is.
        connection: holds it; only for whoever has `in_use`.
        in_use: had by whoever speaks with the launcher: it is not let go of before.
        settled: the job has begun, or will never.
    """

    def __init__(self, capsule: CapsuleSession, connection: LauncherConnection, executor: Executor) -> None:
        self.capsule = capsule
        self.connection = connection
        self.in_use = asyncio.Lock()
        self.settled = False
        self._executor = executor

    @classmethod
    async def take(cls, capsule: CapsuleSession, executor: Executor) -> Hold | None:
        """Hold a launcher; None when its job has begun already.

        Raises:
            LauncherError: it is gone, or held by another.
            DeadlineError: it does not answer.
        """
        connection = await made_in_thread(executor, partial(_connect, capsule), _let_go)
        if connection is None:
            await capsule.refresh()
            return None
        return cls(capsule, connection, executor)

    async def start(self, *, floored: bool) -> None:
        """Have the job begin from its command.

        Args:
            floored: let it begin with a PID that it can have again elsewhere; where the node does not allow that,
                it begins all the same.

        Raises:
            LauncherError: the launcher is gone.
            DeadlineError: it does not answer.
        """
        async with self.in_use:
            await in_thread(self._executor, self._start, floored)
            self.settled = True
        await self.capsule.refresh()

    async def release(self) -> None:
        """Let go of the launcher: of a running job for good, of a waiting one so that an agent may come again.

        Raises:
            LauncherError: it is gone.
            DeadlineError: it does not answer.
        """
        async with self.in_use:
            await in_thread(self._executor, self.connection.release, Deadline.after(_ANSWER_S))

    async def refuse(self) -> None:
        """Have the launcher exit, with status 143, and the job never begin.

        Raises:
            LauncherError: it is gone.
            DeadlineError: it does not answer.
        """
        self.settled = True
        self.capsule.terminate()
        await self.release()  # one that waits and is not held obeys a SIGTERM at once

    async def close(self) -> None:
        """End it; a job that has not begun begins after the launcher's own wait, unless an agent comes before."""
        with contextlib.suppress(CrikpyError):
            if not self.settled:
                await self.release()
        async with self.in_use:
            self.connection.close()

    def _start(self, floored: bool) -> None:
        if floored:
            try:
                with HeldProcess(self.capsule.launcher_pid, self.capsule.process) as launcher:
                    entering.raise_last_pid(launcher.folder, names.PID_FLOOR, Deadline.after(_ANSWER_S))
            except CrikpyError as fault:
                _log.warning("a job starts with low PIDs: %s", fault, extra={"capsule": str(self.capsule)})
        self.connection.start(Deadline.after(_ANSWER_S))


def _connect(capsule: CapsuleSession) -> LauncherConnection | None:
    deadline = Deadline.after(_ANSWER_S)
    connection = LauncherConnection(capsule.socket, deadline)
    try:
        if connection.launcher_pid != capsule.launcher_pid:
            raise LauncherError(f"another process than the launcher of {capsule} listens at its socket")
        if connection.hold(deadline).phase is JobPhase.WAITING:
            return connection
    except BaseException:
        connection.close()
        raise
    with connection:
        connection.release(deadline)
    return None


def _let_go(connection: LauncherConnection | None) -> None:
    """Give back a hold that nobody takes: the next agent may come before the launcher's own wait is over."""
    if connection is None:
        return
    with connection, contextlib.suppress(CrikpyError):
        connection.release(Deadline.after(_ANSWER_S))


class Gathering:
    """The launchers of one pod that are held.

    Attributes:
        turn: one at a time decides for all.
    """

    def __init__(self, session: PodSession) -> None:
        self.turn = asyncio.Lock()
        self._session = session
        self._holds: list[Hold] = []
        self._news = asyncio.Event()

    def join(self, hold: Hold) -> None:
        """Add a launcher that is held."""
        self._holds.append(hold)
        self._news.set()

    def leave(self, hold: Hold) -> None:
        """Take one out whose hold ends."""
        self._holds.remove(hold)

    @property
    def empty(self) -> bool:
        """Whether nobody is held."""
        return not self._holds

    def waiting(self) -> dict[str, Hold]:
        """Return by container those whose job has not begun and whose launcher lives."""
        return {
            hold.capsule.container: hold
            for hold in self._holds
            if not hold.settled and self._session.capsules.get(hold.capsule.container) is hold.capsule
        }

    async def complete(self, containers: Collection[str], deadline: Deadline) -> bool:
        """Wait until the launchers of all containers are held; False when they are not in time, or none is."""
        while (waiting := self.waiting()) and not waiting.keys() >= set(containers):
            if deadline.expired():
                return False
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_LOOK_EVERY_S, deadline.remaining())):
                    await self._news.wait()
        return bool(waiting)
