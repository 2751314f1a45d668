"""Stop a tree before CRIU comes, at a moment when none of its threads has anything in AMX's tile registers.

Trees that are saved together must all stand still before the first is dumped, and CRIU stops only one. Besides,
CRIU 4.2 takes the tile registers from a thread that it dumps: not only are they missing in the image, but the code
that it runs inside the job gives back the registers that it knows of, and no others. A thread that is dumped
between LDTILECFG and TILERELEASE dies of SIGILL, even when the dump fails and the job is let go. So threads that
use tiles are let on by themselves until they have released them.

The stop is that of SIGSTOP, the only one that outlasts the tracer that CRIU has to replace. Registers are read,
never written, and if this process dies while it looks, the kernel lets the job run on.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from crikpy.aio.clock import Deadline
from crikpy.aio.threads import Pool
from crikpy.errors import DumpError, TilesInUseError

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long

_PTRACE_CONT: Final = 7
_PTRACE_DETACH: Final = 17
_PTRACE_GETREGSET: Final = 0x4204
_PTRACE_SEIZE: Final = 0x4206
_PTRACE_INTERRUPT: Final = 0x4207
_PTRACE_O_TRACEFORK: Final = 1 << 1
_PTRACE_O_TRACECLONE: Final = 1 << 3
_PTRACE_EVENT_FORK: Final = 1
_PTRACE_EVENT_CLONE: Final = 3
_PTRACE_EVENT_STOP: Final = 128
_WALL: Final = 0x40000000

_HOLD_CHILDREN: Final = _PTRACE_O_TRACEFORK | _PTRACE_O_TRACECLONE
"""Whom a held thread brings forth before it stops is held from its birth on, or those that fork and end all the
time would escape for ever. Not children of vfork(2), for whose exec their parent waits before it can stop.
"""

_NT_X86_XSTATE: Final = 0x202
_XSTATE_BV: Final = 512
_XSTATE_HEAD_BYTES: Final = 576
"""The legacy area and the header, whose first field tells the components in use (Intel SDM volume 1, 13.4)."""

TILES: Final = 1 << 17 | 1 << 18
"""XTILECFG and XTILEDATA in that field."""

_PATIENCE_S: Final = 2.0
"""How long threads get to release their tiles, the others waiting for them; libraries need milliseconds."""

_POLL_S: Final = 0.0002

_ENDED: Final = frozenset("ZX")

_HAS_TILES: Final = os.uname().machine == "x86_64"


class StoppedTree:
    """A tree whose processes the kernel keeps stopped.

    Attributes:
        at: monotonic time by which every thread stood still.
        stopped_before: processes that a signal had stopped before and that must stay so, by their PIDs here.
    """

    def __init__(self, stopped: Iterable[int], stopped_before: Iterable[int]) -> None:
        self.at = time.monotonic()
        self.stopped_before = frozenset(stopped_before)
        self._stopped = tuple(stopped)

    def undo(self) -> None:
        """Continue what was stopped, children before their parents, who could take them for stopped by others."""
        _continue(self._stopped)


def stop_tree(root: int, deadline: Deadline) -> StoppedTree:
    """Stop a tree, its tile registers empty.

    Args:
        root: the tree's root process, as this process sees it.
        deadline: when it must stand still.

    Raises:
        TilesInUseError: threads did not release their tiles; the tree runs on.
        DumpError: the tree could not be stopped; it runs on.
        DeadlineError: likewise, in time.
    """
    hold = _Hold(root, deadline)
    try:
        # In a thread of its own: at its end the kernel lets go of whatever it may still hold.
        with Pool(1, thread_name_prefix="crikpy-quieting") as tracer:
            tracer.submit(hold.stop).result()
        hold.await_stop()
    except BaseException:
        _continue(hold.stopped)
        raise
    return StoppedTree(hold.stopped, hold.stopped_before)


class _Hold:
    """Every thread of a tree in the hands of ptrace, which obeys only the thread of ours that took them.

    Attributes:
        stopped: processes that have been sent a SIGSTOP here.
        stopped_before: processes that a signal had stopped before.
    """

    def __init__(self, root: int, deadline: Deadline) -> None:
        self._root = root
        self._deadline = deadline
        self._threads: dict[int, int] = {}
        """Thread → its process."""
        self._still: set[int] = set()
        self._let_on: set[int] = set()
        """Held, but to be stopped only after their parents."""
        self.stopped_before: set[int] = set()
        self.stopped: list[int] = []

    def stop(self) -> None:
        """Hold every thread until none uses tiles, then have the kernel keep them all stopped."""
        self._deadline.check("stopping the job")
        try:
            self._await_release()
            # Pending for all threads of a process before any of them is let go, so that none gets past it.
            for pid in sorted(set(self._threads.values()) - self.stopped_before):
                with contextlib.suppress(ProcessLookupError):  # killed, which not even a tracer can keep off
                    os.kill(pid, signal.SIGSTOP)
                    self.stopped.append(pid)
        except OSError as fault:
            raise DumpError(f"the job could not be stopped: {fault.strerror}") from fault
        finally:
            # The others have a signal on its way to them, which only the end of this thread does not lose.
            for thread in self._still:
                _order(_PTRACE_DETACH, thread)

    def await_stop(self) -> None:
        """Wait until the kernel has every thread stopped, so that CRIU finds none on its way."""
        for thread in self._threads:
            while _state(thread) not in {"T", *_ENDED}:
                self._deadline.check("stopping the job")
                time.sleep(_POLL_S)

    def _await_release(self) -> None:
        """Let threads that use tiles go on for a moment, as often as it takes."""
        patience = Deadline.after(_PATIENCE_S)
        while using := self._seize_and_look():
            if patience.expired():
                raise TilesInUseError(
                    f"{len(using)} threads of the job keep AMX's tile registers, which CRIU cannot save",
                    remedy="set ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 for a job of oneDNN's, such as PyTorch",
                )
            for thread in using:
                self._still.discard(thread)
                _order(_PTRACE_CONT, thread)
            time.sleep(_POLL_S)
            self._interrupt(using)

    def _seize_and_look(self) -> list[int]:
        """Hold the tree's threads until two looks find the same and nobody new; return those that use tiles.

        A process whose parent ends may be passed by: it is not below its new parent yet when that is looked at,
        and its old one is gone, or has lost it, when it would be its turn. The next look finds it. A look that
        finds somebody new is none of the two: who was new may have had a child since its children were read.
        """
        before: frozenset[_Task] = frozenset()
        while True:
            seen, fresh = self._seize_unheld()
            if not fresh and seen == before:
                break
            self._deadline.check("stopping the job")  # it may bring forth others faster than we look
            self._await_stops(fresh)
            before = frozenset() if fresh else seen
        return [thread for thread in self._threads if _HAS_TILES and _uses_tiles(thread)]

    def _seize_unheld(self) -> tuple[frozenset[_Task], list[int]]:
        """Look at the tree once, and take each thread as soon as it is seen, for it may be gone a moment later.

        Returns:
            What was seen, and those who were taken.
        """
        seen, fresh = set(), []
        for task in _tasks_below(self._root):
            seen.add(task)
            if task.alive and task.thread not in self._threads and _take(task.thread):
                self._threads[task.thread] = task.process
                fresh.append(task.thread)
        return frozenset(seen), fresh

    def _interrupt(self, threads: Iterable[int]) -> None:
        for thread in threads:
            _order(_PTRACE_INTERRUPT, thread)
        self._await_stops(threads)

    def _await_stops(self, threads: Iterable[int]) -> None:
        waiting = list(threads)
        while waiting:
            if (thread := waiting.pop(0)) not in self._still:
                self._await_stop(thread)
            for child in self._let_on:
                _order(_PTRACE_INTERRUPT, child)
            waiting += self._let_on.difference(waiting)
            self._let_on.clear()

    def _await_stop(self, thread: int) -> None:
        """Wait until a thread stands still or has ended, and hand on to it the signals that come before."""
        while True:
            try:
                found, status = os.waitpid(thread, _WALL | os.WNOHANG)
            except ChildProcessError:
                break
            event = status >> 16
            if not found:
                self._deadline.check("stopping the job")
                if _state(thread) == "D":
                    self._let_on_children(thread)
                time.sleep(_POLL_S)
            elif not os.WIFSTOPPED(status):
                break
            elif event == _PTRACE_EVENT_STOP:
                self._still.add(thread)
                if os.WSTOPSIG(status) != signal.SIGTRAP:
                    self.stopped_before.add(self._threads[thread])
                return
            else:
                born = event in {_PTRACE_EVENT_FORK, _PTRACE_EVENT_CLONE}
                _order(_PTRACE_CONT, thread, 0 if born else os.WSTOPSIG(status))
        self._threads.pop(thread, None)

    def _let_on_children(self, thread: int) -> None:
        """Let go of children until a thread stands still: before the exec of one of vfork(2)'s it cannot."""
        for child in _children_of(Path(f"/proc/{self._threads[thread]}/task/{thread}")):
            if child not in self._threads or child in self._let_on:
                continue
            if child not in self._still:
                self._await_stop(child)
            if child in self._still and child not in self.stopped_before:
                self._still.discard(child)
                self._let_on.add(child)
                _order(_PTRACE_CONT, child)


def _continue(pids: Sequence[int]) -> None:
    for pid in reversed(pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _take(thread: int) -> bool:
    """Take a thread and have it stop, as one held from its birth on does; return False when it has ended."""
    try:
        _ptrace(_PTRACE_SEIZE, thread, _HOLD_CHILDREN)
    except ProcessLookupError:
        return False
    except PermissionError:  # held already, or ended, which the kernel calls so for a while
        if _held_by_us(thread):
            return True
        if _alive(thread):
            raise
        return False
    _order(_PTRACE_INTERRUPT, thread)
    return True


def _held_by_us(thread: int) -> bool:
    """Say whether a living thread is in the hands of the calling one."""
    try:
        lines = Path(f"/proc/{thread}/status").read_text(errors="surrogateescape").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return False
    tracer = next(line.split()[1] for line in lines if line.startswith("TracerPid:"))
    return int(tracer) == threading.get_native_id() and _alive(thread)


def _uses_tiles(thread: int) -> bool:
    room = ctypes.create_string_buffer(_XSTATE_HEAD_BYTES)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(room), _XSTATE_HEAD_BYTES)
    try:
        _ptrace(_PTRACE_GETREGSET, thread, ctypes.addressof(vector), _NT_X86_XSTATE)
    except OSError as fault:
        if fault.errno in {errno.ENODEV, errno.ESRCH}:  # a CPU, or a virtual machine's, without XSAVE; or killed
            return False
        raise
    (in_use,) = struct.unpack_from("=Q", room, _XSTATE_BV)
    return bool(in_use & TILES)


class _Task(NamedTuple):
    """A thread of a process, or a process that is not there any more."""

    thread: int
    process: int
    alive: bool


def _tasks_below(root: int) -> Iterator[_Task]:
    """Yield the threads of a tree, also of what has ended since it was listed."""
    remaining = [root]
    while remaining:
        pid = remaining.pop()
        tasks = _tasks_of(pid)
        if not tasks:
            yield _Task(pid, pid, alive=False)
        for task in tasks:
            remaining += _children_of(task)
            yield _Task(int(task.name), pid, _alive(int(task.name)))


def _children_of(task: Path) -> list[int]:
    """Return the processes that a thread has brought forth; none when it is gone."""
    try:
        return [int(pid) for pid in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _tasks_of(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):  # the latter when it ends between the opening and the reading
        return []


def _alive(thread: int) -> bool:
    return _state(thread) not in _ENDED


def _state(thread: int) -> str:
    """Return the letter of /proc/<id>/stat; a thread that is gone counts as dead."""
    try:
        return Path(f"/proc/{thread}/stat").read_text(errors="surrogateescape").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def _order(request: int, thread: int, data: int = 0) -> None:
    """Have a thread that we hold do something, unless it has been killed: no tracer can keep that off."""
    with contextlib.suppress(ProcessLookupError):
        _ptrace(request, thread, data)


def _ptrace(request: int, thread: int, data: int = 0, address: int = 0) -> None:
    if _libc.ptrace(request, thread, ctypes.c_void_p(address), ctypes.c_void_p(data)) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
