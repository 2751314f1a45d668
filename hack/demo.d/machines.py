"""Machines of the demo: namespaces of their own, which end with one process and leave nothing behind.

A machine has its own processes, network, host name, mounts and IPC, and a root of its own: a folder in which
everything lies that it writes. It sees the real machine's programs and can change none of them. Neither names
in /run/netns nor mounts of the real machine are used, so there is nothing to forget when the demo is cut short.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
_PATIENCE_S = 30.0
_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid")


class DemoError(Exception):
    """The demo cannot go on."""


class Machine:
    """One machine; a context, at whose end it is gone.

    Attributes:
        name: its host name.
        root: its root as the real machine sees it.
        pid: its first process as the real machine sees it.
    """

    def __init__(self, name: str, root: Path, visible: Sequence[Path]) -> None:
        """Take a folder that becomes the root, and what of the real machine to show beside the system."""
        self.name = name
        self.root = root
        self.pid = 0
        self._visible = visible
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Machine:
        self.root.mkdir(parents=True, exist_ok=True)
        init: tuple[str | Path, ...] = (HERE / "machine-init", self.name, self.root, *self._visible)
        first = subprocess.Popen(
            ["unshare", *_NAMESPACES, "--fork", "--kill-child", "--", *init],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._children.append(first)
        try:
            self.pid = int(first_line(first, f"machine {self.name}"))
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, words: Sequence[str | Path], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a program here, in /srv/job, with pipes for all that it reads and writes."""
        process = subprocess.Popen(
            [*_enter(self.pid, *_NAMESPACES), "env", "--chdir=/srv/job", *words],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._children.append(process)
        return process

    def ip(self, *words: str) -> None:
        """Change the machine's network."""
        _call(*_enter(self.pid, "--net"), "ip", *words)

    def link(self, other: Machine, ours: str, theirs: str) -> None:
        """Lay a cable to another machine, with an address at each end."""
        end = f"to-{other.name}"
        self.ip("link", "add", end, "type", "veth", "peer", "name", "net0", "netns", str(other.pid))
        self.ip("address", "add", ours, "peer", f"{theirs}/32", "dev", end)
        self.ip("link", "set", end, "up")
        other.ip("address", "add", theirs, "peer", f"{ours}/32", "dev", "net0")
        other.ip("link", "set", "net0", "up")

    def kill(self) -> None:
        """Take the power away: every process ends at once. Harmless when it is gone."""
        if self.pid and self._children and self._children[0].poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        for process in self._children:
            # nsenter waits for its program, and that is gone; unshare takes its own along.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5.0)
            process.kill()
            process.wait()
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()


def first_line(process: subprocess.Popen[bytes], what: str) -> bytes:
    """Return the line by which a program says that it is ready.

    Raises:
        DemoError: it ended, or said nothing for too long.
    """
    assert process.stdout is not None
    end = time.monotonic() + _PATIENCE_S
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, end - time.monotonic())):
                raise DemoError(f"{what} was not ready after {_PATIENCE_S:.0f} s")
            part = os.read(process.stdout.fileno(), 4096)
            if not part:
                raise DemoError(f"{what} did not start{_last_words(process.stderr)}")
            line += part
    return line


def _last_words(stream: IO[bytes] | None) -> str:
    return "" if stream is None else ": " + stream.read().decode(errors="replace").strip()


def _enter(pid: int, *namespaces: str) -> tuple[str, ...]:
    return ("nsenter", f"--target={pid}", *namespaces, "--")


def _call(*words: str) -> None:
    done = subprocess.run(
        words, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE_S
    )
    if done.returncode != 0:
        raise DemoError(f"`{' '.join(words)}` failed: {done.stderr.strip()}")
