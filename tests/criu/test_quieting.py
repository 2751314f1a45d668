"""A tree stands still as long as it must, and afterwards is as if nobody had looked."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from crikpy.aio.clock import Deadline
from crikpy.criu.quieting import stop_tree
from crikpy.errors import DeadlineError, DumpError

PATIENCE_S = 20.0

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="other machines have no such registers")

JOB = """\
import os, signal, sys, threading, time
heard = 0
def hear(number, frame):
    global heard
    heard += 1
signal.signal(signal.SIGUSR1, hear)
for _ in range(6):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
def spin():
    while True:
        pass
threading.Thread(target=spin, daemon=True).start()
if sys.argv[1] == "root":
    import subprocess
    for _ in range(2):
        subprocess.Popen([sys.executable, "-c", os.environ["JOB"], "leaf"])
os.write(1, b"ready\\n")
while sys.argv[1] == "leaf":
    signal.pause()
while True:
    sys.stdin.readline()
    os.write(1, b"heard %d\\n" % heard)
"""

SPAWNER = """\
import os, sys
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])
os.write(1, b"spawned\\n")
sys.stdin.read()
"""
"""Sleeps uninterruptibly until somebody opens the FIFO: its child does not get as far as to its exec before."""


class Tree:
    """A process with threads, and two children like it."""

    def __init__(self) -> None:
        words = [sys.executable, "-c", JOB, "root"]
        self._root = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "JOB": JOB}
        )
        self.root = self._root.pid
        for _ in range(3):
            assert self._line() == "ready\n"
        self.children = [child.pid for child in psutil.Process(self.root).children()]

    def states(self) -> set[str]:
        """Letters of all threads."""
        return {
            (task / "stat").read_text().rpartition(")")[2].split()[0]
            for pid in (self.root, *self.children)
            for task in Path(f"/proc/{pid}/task").iterdir()
        }

    def tracers(self) -> set[str]:
        """Who traces any of them; only `0` when nobody does."""
        return {
            line.split()[1]
            for pid in (self.root, *self.children)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for line in (task / "status").read_text().splitlines()
            if line.startswith("TracerPid:")
        }

    def heard(self) -> int:
        """Ask the root how many signals have come to it."""
        assert self._root.stdin is not None
        self._root.stdin.write("\n")
        self._root.stdin.flush()
        return int(self._line().split()[1])

    def _line(self) -> str:
        assert self._root.stdout is not None
        return self._root.stdout.readline()

    def end(self) -> None:
        for pid in (*self.children, self.root):
            os.kill(pid, signal.SIGKILL)
        self._root.communicate(timeout=PATIENCE_S)


@pytest.fixture
def tree() -> Iterator[Tree]:
    made = Tree()
    yield made
    made.end()


def await_states(tree: Tree, unwanted: str) -> None:
    deadline = Deadline.after(PATIENCE_S)
    while unwanted in tree.states():
        assert not deadline.expired(), f"still {unwanted}"
        time.sleep(0.01)


def test_every_thread_of_the_tree_stands_still_and_nobody_traces_it(tree: Tree) -> None:
    before = time.monotonic()
    stopped = stop_tree(tree.root, Deadline.after(PATIENCE_S))
    assert before <= stopped.at <= time.monotonic()
    assert stopped.stopped_before == frozenset()
    assert tree.states() == {"T"}
    assert tree.tracers() == {"0"}


def test_what_was_stopped_is_let_go(tree: Tree) -> None:
    stop_tree(tree.root, Deadline.after(PATIENCE_S)).undo()
    await_states(tree, "T")


def test_a_process_that_was_stopped_before_stays_stopped(tree: Tree) -> None:
    os.kill(tree.children[0], signal.SIGSTOP)
    deadline = Deadline.after(PATIENCE_S)
    while psutil.Process(tree.children[0]).status() != psutil.STATUS_STOPPED:
        assert not deadline.expired(), "it never stopped"
    stopped = stop_tree(tree.root, Deadline.after(PATIENCE_S))
    assert stopped.stopped_before == {tree.children[0]}
    stopped.undo()
    assert psutil.Process(tree.children[0]).status() == psutil.STATUS_STOPPED
    assert psutil.Process(tree.root).status() != psutil.STATUS_STOPPED


def test_signals_that_arrive_while_it_is_being_stopped_are_not_lost(tree: Tree) -> None:
    sent = 0
    stop = threading.Event()

    def disturb() -> None:
        nonlocal sent
        while not stop.is_set():
            before = tree.heard()
            os.kill(tree.root, signal.SIGUSR1)
            sent += 1
            while tree.heard() == before:
                time.sleep(0.001)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    for _ in range(50):
        stop_tree(tree.root, Deadline.after(PATIENCE_S)).undo()
    stop.set()
    disturber.join(PATIENCE_S)
    assert not disturber.is_alive(), "a signal was lost"
    assert tree.heard() == sent > 0


def test_nothing_is_begun_when_no_time_is_left(tree: Tree) -> None:
    with pytest.raises(DeadlineError):
        stop_tree(tree.root, Deadline.after(0))
    assert "T" not in tree.states()
    assert tree.tracers() == {"0"}


def test_a_process_that_cannot_be_stopped_in_time_is_let_go(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    words = [sys.executable, "-c", SPAWNER, str(fifo)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as spawner:
        patience, process = Deadline.after(PATIENCE_S), psutil.Process(spawner.pid)
        while not process.children() or process.status() != psutil.STATUS_DISK_SLEEP:
            assert not patience.expired(), "it never slept"
        with pytest.raises(DeadlineError):
            stop_tree(spawner.pid, Deadline.after(0.2))
        with fifo.open("w"):
            assert spawner.stdout is not None
            assert spawner.stdout.readline() == b"spawned\n"


def test_a_tree_that_is_traced_already_is_refused_and_runs_on(tree: Tree) -> None:
    trace = (
        "import ctypes, sys, time; libc = ctypes.CDLL(None);"
        "assert libc.ptrace(0x4206, int(sys.argv[1]), None, None) == 0; print(flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", trace, str(tree.children[1])]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as tracer:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == b"\n"
        try:
            with pytest.raises(DumpError, match="not permitted"):
                stop_tree(tree.root, Deadline.after(PATIENCE_S))
            await_states(tree, "T")
        finally:
            tracer.kill()


DAEMONS = """\
import ctypes, os, signal
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
def go_on():
    while True:
        if os.fork():
            os._exit(0)
for _ in range(6):
    if not os.fork():
        go_on()
os.write(1, b"ready\\n")
while True:
    signal.pause()
"""
"""A first process that keeps orphans, below which every process ends as soon as it has a child."""


def _stopped_family(root: int) -> tuple[set[int], set[str]]:
    family = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    return {process.pid for process in family}, {process.status() for process in family}


@contextlib.contextmanager
def _storm(source: str) -> Iterator[int]:
    """Lend the root of a tree in which processes come and go; at the end none of them is left."""
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, start_new_session=True) as job:
        try:
            assert job.stdout is not None
            job.stdout.readline()
            yield job.pid
        finally:
            # All of the session at one moment: one by one they would escape, and fork on for ever.
            os.killpg(job.pid, signal.SIGKILL)


def _stop_all(root: int) -> None:
    stopped = stop_tree(root, Deadline.after(PATIENCE_S))
    before = _stopped_family(root)
    time.sleep(0.01)
    assert before == _stopped_family(root), "somebody was not stopped"
    assert before[1] <= {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
    stopped.undo()


def test_processes_that_change_parents_all_the_time_are_all_stopped() -> None:
    with _storm(DAEMONS) as root:
        for _ in range(30):
            _stop_all(root)


STARTERS = """\
import os, subprocess, threading
def go_on():
    while True:
        subprocess.run(["/bin/true"])
for _ in range(2):
    threading.Thread(target=go_on).start()
if os.fork() and os.fork():
    os.write(1, b"ready\\n")
go_on()
"""
"""Whose threads nearly always wait for the exec of a child of vfork(2), in a sleep in which nothing stops them."""


def test_processes_that_start_programs_all_the_time_are_all_stopped() -> None:
    with _storm(STARTERS) as root:
        for _ in range(60):
            time.sleep(0.01)
            _stop_all(root)
