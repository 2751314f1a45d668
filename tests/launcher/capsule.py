"""A launcher as the first process of a real PID namespace, and the connection that an agent has to it.

The launcher trusts only peers from outside its PID namespace, which is where the tests live.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import psutil

PATIENCE_S = 20.0
"""Longest wait for anything; reached only when a test fails."""


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds; AssertionError when it never does."""
    last = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < last, f"never saw: {what}"
        time.sleep(0.01)


def only_child(parent: psutil.Process) -> psutil.Process:
    """Wait until a process has exactly one child and return it."""
    until(lambda: len(parent.children()) == 1, f"one child of {parent}")
    return parent.children()[0]


def names(parent: psutil.Process) -> list[str]:
    """The names of all that descend from a process, in alphabetical order."""
    found = []
    for process in parent.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(process.name())
    return sorted(found)


class Peer:
    """A connection to the launcher; its greeting has been read."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE_S)
        self._buffer = b""
        self._events: list[str] = []
        folder = os.open(path.parent, os.O_PATH)
        try:
            # By way of its folder: the path of a socket in a pod is longer than a Unix address.
            self.socket.connect(f"/proc/self/fd/{folder}/{path.name}")
        except OSError:
            self.socket.close()
            raise
        finally:
            os.close(folder)
        self.greeting = self.read_line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Go away, as an agent that dies does."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def read_line(self) -> str:
        """Return the next line without its end, "" when the launcher has closed the connection."""
        while b"\n" not in self._buffer:
            try:
                fresh = self.socket.recv(4096)
            except (ConnectionResetError, BrokenPipeError):
                # A Unix socket that is closed before all was read resets, after what was sent before.
                fresh = b""
            if not fresh:
                return ""
            self._buffer += fresh
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode("ascii")

    def ask(self, request: str) -> str:
        """Send one request and return its answer; events that come before it are kept."""
        self.send(request.encode("ascii") + b"\n")
        return self.answer()

    def answer(self) -> str:
        """Return the next line that is not an event."""
        while (line := self.read_line()).startswith("event "):
            self._events.append(line)
        return line

    def event(self) -> str:
        """Return the next event."""
        return self._events.pop(0) if self._events else self.read_line()


class Capsule:
    """A launcher with its job in a PID namespace of their own."""

    def __init__(
        self,
        launcher: Path,
        command: Sequence[str],
        *,
        options: Sequence[str],
        before: Sequence[str],
        stdin: int,
        env: dict[str, str],
        socket_path: Path,
        output: Path,
    ) -> None:
        self.socket_path = socket_path
        self._stdout, self._stderr = output.with_suffix(".out"), output.with_suffix(".err")
        argv = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--", *before]
        argv += [os.fspath(launcher), "--socket", os.fspath(socket_path), *options, "--", *command]
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self._unshare = subprocess.Popen(argv, stdin=stdin, stdout=out, stderr=err, env=env)
        self._peers: list[Peer] = []

    @property
    def stdout(self) -> str:
        """What the job has printed so far."""
        return self._stdout.read_text()

    @property
    def stderr(self) -> str:
        """What launcher and job have complained of so far."""
        return self._stderr.read_text()

    @property
    def first(self) -> psutil.Process:
        """The first process of the namespace, as seen from outside."""
        return only_child(psutil.Process(self._unshare.pid))

    @property
    def job(self) -> psutil.Process:
        """The job's root, as seen from outside."""
        return only_child(self.first)

    def connect(self) -> Peer:
        """Connect as soon as the launcher listens; the connection stays until it is closed or the test ends."""
        until(self._try_to_connect, "a listening launcher")
        return self._peers[-1]

    def _try_to_connect(self) -> bool:
        # BlockingIOError: as many connections as the kernel lets wait are waiting already.
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            self._peers.append(Peer(self.socket_path))
            return True
        return False

    def greeting(self) -> str:
        """Return what a new connection is told first."""
        with self.connect() as peer:
            return peer.greeting

    def ask(self, request: str) -> str:
        """Ask over a connection of its own."""
        with self.connect() as peer:
            return peer.ask(request)

    def prints(self, text: str) -> None:
        """Wait until the job has printed the text."""
        until(lambda: text in self.stdout, f"{text!r} from the job")

    def signal(self, number: signal.Signals | int) -> None:
        """Send a signal to the launcher from outside."""
        self.first.send_signal(number)

    def process(self, pid: int) -> psutil.Process:
        """Find a process by its PID inside the namespace."""
        for process in self.first.children(recursive=True):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                inner = next(line for line in status.splitlines() if line.startswith("NSpid:"))
                if int(inner.split()[-1]) == pid:
                    return process
        raise AssertionError(f"no process {pid} inside")

    def enter(self, *command: str) -> str:
        """Run a command inside the PID namespace, as a restore does, and return what it printed."""
        argv = ["nsenter", "--target", str(self.first.pid), "--pid", "--", *command]
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=PATIENCE_S).stdout

    def spawn_child(self, script: str) -> int:
        """Leave a shell script behind as a child of the launcher; return its PID inside the namespace."""
        return int(self.enter("sh", "-c", 'sh -c "$0" >/dev/null 2>&1 & echo $!', script))

    def wait(self) -> int:
        """Wait for the end and return the launcher's exit status."""
        return self._unshare.wait(PATIENCE_S)

    def alive(self) -> bool:
        """Tell whether the launcher still runs."""
        return self._unshare.poll() is None

    def end(self) -> None:
        """Kill whatever is left."""
        for peer in self._peers:
            peer.close()
        if self.alive():
            with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                psutil.Process(self._unshare.pid).children()[0].kill()
        try:
            self._unshare.wait(PATIENCE_S)
        finally:
            self._unshare.kill()
