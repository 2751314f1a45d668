"""Capsules of two kinds with a job of the tests inside; the engine must not be able to tell them apart.

One is made as `crikpy run` makes it. The other is a container as a kubelet has containerd make it: no
capabilities, no_new_privs, a seccomp filter, namespaces and a cgroup of its own, the root an overlay, the output
pipes to somebody outside. Usable without pytest; whoever makes one ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from crikpy import names
from crikpy.aio.clock import Deadline
from crikpy.capsule import entering
from crikpy.capsule.changes import inherited_memory
from crikpy.capsule.launcher import LauncherConnection
from crikpy.errors import LauncherError, NoSuchJobError
from crikpy.model.capsule import Capsule, JobPhase
from tests.integration.containers import Container
from tests.jobs import proving

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0
"""Longest wait for anything; reached only when a test fails."""


def job_words(job: str, *arguments: object) -> tuple[str, ...]:
    """Return the command line of a program of tests/jobs."""
    return (sys.executable, "-m", f"tests.jobs.{job}", *map(str, arguments))


def until(condition: Callable[[], bool], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Wait until the condition holds; AssertionError when it never does."""
    deadline = Deadline.after(patience_s)
    while not condition():
        assert not deadline.expired(), f"never saw: {what}"
        time.sleep(0.01)


class Stream:
    """What comes out of a capsule by one pipe; read all the time, as a log collector does."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._data = bytearray()
        self._seen = 0
        self._news = threading.Condition()
        self._ended = False
        self._flowing = threading.Event()
        self._flowing.set()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def text(self) -> str:
        """Return everything so far."""
        with self._news:
            return self._data.decode(errors="replace")

    def whole(self) -> bytes:
        """Return everything there will ever be, once the capsule has ended."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "somebody still holds the capsule's output open"
        return bytes(self._data)

    def pause(self) -> None:
        """Read no more than what is under way, until `flow`."""
        self._flowing.clear()

    def flow(self) -> None:
        """Read again."""
        self._flowing.set()

    def next_line(self, start: str) -> str | None:
        """Return the next line that starts so, past those seen before; None when there never will be one."""
        deadline = Deadline.after(PATIENCE_S)
        with self._news:
            while (line := self._take(start)) is None:
                if self._ended or deadline.expired():
                    return None
                self._news.wait(deadline.remaining())
            return line

    def close(self) -> None:
        """Stop listening; the writers must be gone."""
        self.flow()
        self._thread.join(PATIENCE_S)
        self._pipe.close()

    def _take(self, start: str) -> str | None:
        while (end := self._data.find(b"\n", self._seen)) >= 0:
            line = self._data[self._seen : end].decode(errors="replace")
            self._seen = end + 1
            if line.startswith(start):
                return line
        return None

    def _read(self) -> None:
        while self._flowing.wait() and (part := os.read(self._pipe.fileno(), 65536)):
            with self._news:
                self._data += part
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


class JobCapsule(ABC):
    """A capsule with its launcher waiting; the job begins with `start`, or is restored into it.

    Attributes:
        stdout: the job's output.
        stderr: the job's complaints.
    """

    def __init__(self, shim: Sequence[str], environment: dict[str, str]) -> None:
        self._shim = subprocess.Popen(
            (sys.executable, "-m", "tests.integration.shim", *shim),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        assert self._shim.stdout is not None
        assert self._shim.stderr is not None
        self.stdout, self.stderr = Stream(self._shim.stdout), Stream(self._shim.stderr)

    @property
    @abstractmethod
    def socket(self) -> Path:
        """Where the launcher listens, as seen from outside."""

    @property
    @abstractmethod
    def capsule(self) -> Capsule:
        """The capsule as the engine takes it."""

    @property
    def launcher_pid(self) -> int:
        """The launcher's PID on the node."""
        return self._launcher_pid

    def await_launcher(self) -> None:
        """Wait until the launcher answers."""

        def answers() -> bool:
            if self._shim.poll() is not None:
                raise AssertionError(f"the capsule was not made:\n{self.stderr.text()}")
            with contextlib.suppress(LauncherError), self.connect() as launcher:
                self._launcher_pid = launcher.launcher_pid
                return True
            return False

        until(answers, "the launcher")

    def connect(self) -> LauncherConnection:
        """Connect to the launcher as an agent does."""
        return LauncherConnection(self.socket, Deadline.after(PATIENCE_S))

    @contextlib.contextmanager
    def held(self) -> Iterator[LauncherConnection]:
        """Lend a connection that keeps the launcher from beginning or ending by itself."""
        with self.connect() as launcher:
            launcher.hold(Deadline.after(PATIENCE_S))
            yield launcher
            launcher.release(Deadline.after(PATIENCE_S))

    def start(self, launcher: LauncherConnection | None = None) -> None:
        """Have the job begin, as an agent does."""
        entering.raise_last_pid(self.launcher_pid, names.PID_FLOOR, Deadline.after(PATIENCE_S))
        if launcher is not None:
            launcher.start(Deadline.after(PATIENCE_S))
            return
        with self.connect() as own:
            own.start(Deadline.after(PATIENCE_S))

    def phase(self) -> JobPhase:
        """Return what the launcher says of its job."""
        with self.connect() as launcher:
            return launcher.greeting.phase

    def members(self) -> dict[int, int]:
        """Return the job's processes, PID on the node → PID inside."""
        found = entering.members(self.launcher_pid)
        del found[self.launcher_pid]
        return found

    def signal(self, number: int) -> None:
        """Send a signal to the job, by way of its launcher."""
        os.kill(self.launcher_pid, number)

    def expect(self, start: str) -> str:
        """Wait for a line of output that starts so and return it."""
        line = self.stdout.next_line(start)
        assert line is not None, f"no line {start!r}:\n{self.stdout.text()[-2000:]}\n{self.stderr.text()[-4000:]}"
        return line

    def prove(self) -> str:
        """Have the job prove its state; return the line that says so."""
        self.signal(proving.ASK)
        return self.expect("proved ")

    def finish(self) -> int:
        """Have the job finish, and return its exit status."""
        self.signal(proving.FINISH)
        return self.wait()

    def wait(self, *, patience_s: float = PATIENCE_S) -> int:
        """Wait for the capsule's end and return its exit status, as a shell shows it."""
        return self._shim.wait(patience_s)

    def ended(self) -> bool:
        """Say whether the capsule has ended."""
        return self._shim.poll() is not None

    def end(self) -> None:
        """Kill whatever is left of it."""
        assert self._shim.stdin is not None
        self._shim.stdin.close()
        try:
            self._shim.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._shim.send_signal(signal.SIGKILL)
            raise
        finally:
            self.stdout.close()
            self.stderr.close()


class PlainJob(JobCapsule):
    """A capsule on a plain machine."""

    def __init__(self, folder: Path, temporary: Path, launcher: Path, words: Sequence[str]) -> None:
        self._socket = folder / "run" / names.LAUNCHER_SOCKET
        self._temporary = temporary
        super().__init__(
            ("plain", str(launcher), str(self._socket), str(temporary), *words),
            {**os.environ, "PYTHONPATH": str(ROOT)},
        )

    @property
    def socket(self) -> Path:
        """Where the launcher listens."""
        return self._socket

    @property
    def capsule(self) -> Capsule:
        """The capsule; its temporary directory travels."""
        inherited: tuple[str, ...] = ()
        with contextlib.suppress(NoSuchJobError):  # a test has killed it
            inherited = inherited_memory(self.launcher_pid)
        return Capsule(
            launcher_pid=self.launcher_pid,
            socket=self._socket,
            carried=(str(self._temporary),),
            inherited=inherited,
            hooks=str(self._temporary / names.JOB_DIR),
        )


class ContainerJob(JobCapsule):
    """A capsule that is a container of runc's."""

    def __init__(self, container: Container) -> None:
        self.container = container
        container.prepare()
        super().__init__(
            ("container", str(container.runc_root), str(container.bundle), container.name),
            {**os.environ, "PYTHONPATH": str(ROOT)},
        )

    @property
    def socket(self) -> Path:
        """Where the launcher listens."""
        return self.container.shared / names.LAUNCHER_SOCKET

    @property
    def capsule(self) -> Capsule:
        """The capsule; what travels of a container is found from its mounts."""
        return Capsule(launcher_pid=self.launcher_pid, socket=self.socket)

    def end(self) -> None:
        """Kill what is left, then remove what was mounted."""
        try:
            super().end()
        finally:
            self.container.remove()
