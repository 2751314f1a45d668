"""Find and end single processes around a capsule: its CRIU, and agents that tests run as programs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from crikpy.aio.clock import Deadline
from tests.integration.agent import Order
from tests.integration.capsules import PATIENCE_S, ROOT, JobCapsule
from tests.integration.moving import Bench


def criu_of(job: JobCapsule, *, patience_s: float = PATIENCE_S) -> int:
    """Return the PID of the CRIU that works on a capsule, or 0 when there is none all the time."""
    deadline = Deadline.after(patience_s)
    while True:
        for pid in job.members():
            with contextlib.suppress(psutil.Error):
                words = psutil.Process(pid).cmdline()
                if any(word.endswith("/criu") for word in words[:8]):
                    return pid
        if deadline.expired():
            return 0


def signal_criu(job: JobCapsule, number: signal.Signals) -> None:
    """Send a signal to the CRIU that works on a capsule; without one fail, for PID 0 would be all of us."""
    pid = criu_of(job)
    assert pid, "no CRIU works on the job"
    os.kill(pid, number)


def ghost_of(job: JobCapsule) -> Path:
    """Return a file of a job that has no name any more, by which it can be made too large to be dumped."""
    links = (link for pid in job.members() for link in Path(f"/proc/{pid}/fd").iterdir())
    return next(link for link in links if str(link.readlink()).endswith(" (deleted)"))


class Agent:
    """An agent that works on a capsule; it ends with its context."""

    def __init__(
        self,
        bench: Bench,
        job: JobCapsule,
        act: str,
        *,
        checkpoint: str = "",
        pause: str = "",
        memory: str = "",
        before: Sequence[str] = (),
        hungry: bool = False,
        within_s: float = 100.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        workload = bench.workload
        order = Order(
            store=bench.store.url,
            workload=(workload.cluster, workload.namespace, workload.name),
            launcher_pid=job.launcher_pid,
            socket=str(job.socket),
            carried=job.capsule.carried,
            checkpoint=checkpoint,
            pause=pause,
            hungry=hungry,
            within_s=within_s,
        )
        self._words = (*before, *order.words(act))
        # A killed agent leaves CRIU's log in its temporary directory.
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(bench.folder)}
        self._environment.update(environment or {})
        if memory:
            self._environment["CRIKPY_STORE_MEMORY_BYTES"] = memory

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=self._environment,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._process.communicate()

    def await_pause(self) -> None:
        """Wait until it has come to the moment that it was told."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == "paused\n", self._process.communicate()[1]

    def go_on(self) -> None:
        """Have it go on from where it paused."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.stdin = None

    def wait(self) -> int:
        """Wait for its end, and return its exit status, negative for a signal."""
        return self._process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Kill it alone, as the kernel does when memory is short."""
        self._process.kill()
        self._process.wait()

    def result(self) -> str:
        """Wait for its end and return what it said."""
        out, err = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, err
        return out
