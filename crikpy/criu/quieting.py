"""Stop a tree at a moment when none of its threads has anything in AMX's tile registers.

CRIU 4.2 takes these registers from a thread that it dumps: not only are they missing in the image, but the code
that it runs inside the job gives back the registers that it knows of, and no others. A thread that is dumped
between LDTILECFG and TILERELEASE dies of SIGILL, even when the dump fails and the job is let go. So the tree is
stopped before CRIU comes, and threads that use tiles are let on by themselves until they have released them.

The stop is that of SIGSTOP, the only one that outlasts the tracer that CRIU has to replace. Registers are read,
never written, and if this process dies while it looks, the kernel lets the job run on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from crikpy.aio.clock import Deadline
from crikpy.errors import DumpError, TilesInUseError

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long

_PTRACE_CONT: Final = 7
_PTRACE_DETACH: Final = 17
_PTRACE_GETREGSET: Final = 0x4204
_PTRACE_SEIZE: Final = 0x4206
_PTRACE_INTERRUPT: Final = 0x4207
_PTRACE_EVENT_STOP: Final = 128
_WALL: Final = 0x40000000

_NT_X86_XSTATE: Final = 0x202
_XSTATE_BV: Final = 512
_XSTATE_HEAD_BYTES: Final = 576
"""The legacy area and the header, whose first field tells the components in use (Intel SDM volume 1, 13.4)."""

TILES: Final = 1 << 17 | 1 << 18
"""XTILECFG and XTILEDATA in that field."""

_PATIENCE_S: Final = 2.0
"""How long threads get to release their tiles, the others waiting for them; libraries need milliseconds."""

_POLL_S: Final = 0.0002


@contextlib.contextmanager
def stopped_without_tiles(root: int, deadline: Deadline) -> Iterator[None]:
    """Keep a tree stopped, its tile registers empty; it is continued when the body fails.

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
        try:
            hold.await_release()
            hold.stop()
        finally:
            hold.let_go()
        yield
    except BaseException:
        hold.undo_stop()
        raise


class _Hold:
    """Every thread of a tree in the hands of ptrace; all calls for one must come from the same thread of ours."""

    def __init__(self, root: int, deadline: Deadline) -> None:
        self._root = root
        self._deadline = deadline
        self._threads: dict[int, int] = {}
        """Thread → its process."""
        self._stopped_before: set[int] = set()
        self._stopped: list[int] = []

    def await_release(self) -> None:
        """Hold every thread; let those that use tiles go on for a moment, as often as it takes."""
        patience = Deadline.after(_PATIENCE_S)
        with _as_dump_error():
            while using := self._seize_and_look():
                if patience.expired():
                    raise TilesInUseError(
                        f"{len(using)} threads of the job keep AMX's tile registers, which CRIU cannot save",
                        remedy="set ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 for a job of oneDNN's, such as PyTorch",
                    )
                for thread in using:
                    _ptrace(_PTRACE_CONT, thread)
                time.sleep(_POLL_S)
                self._interrupt(using)

    def stop(self) -> None:
        """Send SIGSTOP; it is pending for all threads of a process before any is let go, so none gets past it."""
        with _as_dump_error():
            for pid in sorted(set(self._threads.values()) - self._stopped_before):
                os.kill(pid, signal.SIGSTOP)
                self._stopped.append(pid)

    def let_go(self) -> None:
        """End the tracing; a thread whose process was stopped stays so."""
        for thread in self._threads:
            with contextlib.suppress(OSError):  # it has ended
                _ptrace(_PTRACE_DETACH, thread)

    def undo_stop(self) -> None:
        """Continue what was stopped here."""
        for pid in self._stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _seize_and_look(self) -> list[int]:
        """Hold the tree's threads until a look finds no further one; return those that use tiles."""
        while fresh := {thread: pid for thread, pid in _threads_of(self._root) if thread not in self._threads}:
            for thread, pid in fresh.items():
                with contextlib.suppress(ProcessLookupError):
                    _ptrace(_PTRACE_SEIZE, thread)
                    self._threads[thread] = pid
            self._interrupt(fresh.keys() & self._threads.keys())
        return [thread for thread in self._threads if _uses_tiles(thread)]

    def _interrupt(self, threads: Iterable[int]) -> None:
        for thread in threads:
            with contextlib.suppress(ProcessLookupError):
                _ptrace(_PTRACE_INTERRUPT, thread)
        for thread in threads:
            reason = _await_stop(thread, self._deadline)
            if reason is None:
                del self._threads[thread]
            elif reason != signal.SIGTRAP:
                self._stopped_before.add(self._threads[thread])


def _await_stop(thread: int, deadline: Deadline) -> int | None:
    """Wait until a thread stands still, and hand on to it the signals that come before.

    Returns:
        SIGTRAP, or the signal by which its process had been stopped already; None when the thread has ended.
    """
    while True:
        try:
            found, status = os.waitpid(thread, _WALL | os.WNOHANG)
        except ChildProcessError:
            return None
        if not found:
            deadline.check("stopping the job")
            time.sleep(_POLL_S)
        elif not os.WIFSTOPPED(status):
            return None
        elif status >> 16 == _PTRACE_EVENT_STOP:
            return os.WSTOPSIG(status)
        else:
            _ptrace(_PTRACE_CONT, thread, os.WSTOPSIG(status))


@contextlib.contextmanager
def _as_dump_error() -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise DumpError(f"the job could not be stopped: {fault.strerror}") from fault


def _uses_tiles(thread: int) -> bool:
    room = ctypes.create_string_buffer(_XSTATE_HEAD_BYTES)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(room), _XSTATE_HEAD_BYTES)
    _ptrace(_PTRACE_GETREGSET, thread, ctypes.addressof(vector), _NT_X86_XSTATE)
    (in_use,) = struct.unpack_from("=Q", room, _XSTATE_BV)
    return bool(in_use & TILES)


def _threads_of(root: int) -> Iterator[tuple[int, int]]:
    """Yield thread and process of a tree, leaving out what has ended."""
    remaining = [root]
    while remaining:
        pid = remaining.pop()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                remaining += map(int, (task / "children").read_text().split())
                if _state(task) not in "ZX":
                    yield int(task.name), pid


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


def _ptrace(request: int, thread: int, data: int = 0, address: int = 0) -> None:
    if _libc.ptrace(request, thread, ctypes.c_void_p(address), ctypes.c_void_p(data)) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
