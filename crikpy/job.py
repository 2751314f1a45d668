"""What a job may say and hear of its own checkpoints: for jobs that want more than to be moved without noticing.

Jobs import this file, or carry a copy of it as `crikpy_job.py`: it needs Python 3.8 and the standard library, and
nothing else of crikpy. Where there is no crikpy, everything in it does nothing and costs nothing. It listens on a
socket of its own, at which only the root of the node is heard; what is said there is in docs/formats.md. It may
never keep the job from running: whatever goes wrong here, the job goes on as if it had not imported this.

    from crikpy import job

    job.on_checkpoint(lambda coming: logger.flush())
    job.on_restore(lambda resumed: logger.reconnect(resumed.environment))

    for batch in batches:
        with job.freeze_barrier():
            step(batch)
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Coming", "Resumed", "freeze_barrier", "on_checkpoint", "on_restore", "on_save"]

_PROTOCOL = ["crikpy-job", "1"]
_FOLDER = "/.crikpy"
_VARIABLE = "CRIKPY_JOB_DIR"
_OVERFLOW_UID = 65534
_LONGEST_LINE = 512
_LONGEST_REASON = 200
_REST_S = 0.5
_PENDING_S = 30.0
"""How long a section waits to begin when nobody says any more what has become of the checkpoint."""

_PEER = struct.Struct("=iII")
_DESCRIPTOR = struct.Struct("=i")


class Coming(NamedTuple):
    """A checkpoint that is about to be taken.

    Attributes:
        seconds: how long until it has to be complete; whoever takes it waits for a small part of that only.
    """

    seconds: float


class Resumed(NamedTuple):
    """A job that goes on.

    Attributes:
        outcome: `moved`: in another container, perhaps on another machine. `continued`: where it was, and the
            checkpoint was read. `failed`: where it was, and the checkpoint was not taken.
        environment: the variables of the container that it is in now, which os.environ of a moved job does not
            show; empty where they cannot be read.
        hostname: the host name now.
    """

    outcome: str
    environment: Mapping[str, str]
    hostname: str

    @property
    def moved(self) -> bool:
        """Whether whatever named the old container or machine has to be learnt anew."""
        return self.outcome == "moved"


def on_checkpoint(callback: Callable[[Coming], object]) -> None:
    """Have something called before each checkpoint, while the job still runs, in a thread of its own.

    The checkpoint waits for it, but not for long (`crikpy.io/hook-timeout`, 10 s). An exception is told to whoever
    takes the checkpoint, and keeps it from nothing.
    """
    _rounds.register("checkpoint", callback)


def on_restore(callback: Callable[[Resumed], object]) -> None:
    """Have something called once the job goes on after a checkpoint, in a thread of its own.

    It is told whether the job was moved, runs on where it was, or was not saved at all.
    """
    _rounds.register("after", callback)


def on_save(callback: Callable[[Coming], object]) -> None:
    """Have something called that saves the job into its application directory, in application mode.

    When it returns, what it has written is stored; the job is not to change it afterwards. It may end the job as
    well. An exception means that nothing was saved, and the job runs on.
    """
    _rounds.register("save", callback)


def freeze_barrier() -> _Barrier:
    """Return a section in which the job asks not to be stopped; for `with`, and as a decorator.

    Before a checkpoint it is waited for that every section ends, as long as for callbacks; then the job is stopped
    all the same. Entering one while a checkpoint is being taken waits for its end. Sections may be nested.
    """
    return _Barrier()


class _Barrier(contextlib.ContextDecorator):
    def __enter__(self) -> _Barrier:
        _rounds.enter()
        return self

    def __exit__(self, *error: object) -> None:
        _rounds.leave()


class _Rounds:
    """All that one process knows of its checkpoints."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.callbacks: dict[str, list[Callable[[Any], object]]] = {"checkpoint": [], "after": [], "save": []}
        self.held = 0
        self.pending_until = 0.0
        self.listener: socket.socket | None = None
        self.tried = False
        self.last: threading.Thread | None = None
        self.mask: set[Any] = set()
        self.here = threading.local()

    def register(self, kind: str, callback: Callable[[Any], object]) -> None:
        with self.changed:
            self.callbacks[kind].append(callback)
        self.listen()

    def enter(self) -> None:
        self.listen()
        depth = getattr(self.here, "depth", 0)
        if self.listener is not None and depth == 0:
            with self.changed:
                # Whoever works for a checkpoint would wait for himself.
                while not getattr(self.here, "works", False) and self.pending():
                    self.changed.wait(max(0.0, self.pending_until - time.monotonic()))
                self.held += 1
        self.here.depth = depth + 1

    def leave(self) -> None:
        depth = getattr(self.here, "depth", 0)
        self.here.depth = max(0, depth - 1)
        if self.listener is not None and depth == 1:
            with self.changed:
                self.held = max(0, self.held - 1)
                self.changed.notify_all()

    def pending(self) -> bool:
        return time.monotonic() < self.pending_until

    def settle(self) -> None:
        """Let sections begin again."""
        with self.changed:
            self.pending_until = 0.0
            self.changed.notify_all()

    def listen(self) -> None:
        """Listen, unless that was tried before."""
        if self.tried:
            return
        with self.changed:
            first, self.tried = not self.tried, True
            if not first:
                return
            folder = os.environ.get(_VARIABLE, "")
            if not folder and not os.path.isdir(_FOLDER):  # noqa: PTH112  # a job's start waits for this import
                return
            try:
                self.listener = _listen(folder or _FOLDER)
            except OSError as fault:
                _say(f"no socket in {folder or _FOLDER}, so the job hears nothing of its checkpoints: {fault}")
                return
            self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, set())
            threading.Thread(target=self.serve, args=(self.listener,), name="crikpy", daemon=True).start()

    def serve(self, listener: socket.socket) -> None:
        # The job's signals are for the job's own threads.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        room = socket.CMSG_SPACE(_PEER.size) + socket.CMSG_SPACE(_DESCRIPTOR.size)
        while True:
            try:
                request, notes, _, _ = listener.recvmsg(_LONGEST_LINE, room, socket.MSG_CMSG_CLOEXEC)
            except OSError:
                if listener.fileno() < 0:
                    return
                time.sleep(_REST_S)  # the job has no descriptors left
                continue
            answer, trusted = _accompanying(notes)
            if answer is not None and trusted:
                self.hear(request.decode("ascii", "replace").split(), answer)
            elif answer is not None:
                os.close(answer)

    def hear(self, words: list[str], answer: int) -> None:
        """Do what was asked for, and answer into a pipe."""
        if words[:2] != _PROTOCOL:
            _answer(answer, "error version")
        elif words[2:] == ["who"]:
            _answer(answer, "saves" if self.callbacks["save"] else "listens")
        elif len(words) == 4 and words[2] in ("checkpoint", "save"):
            coming = Coming(seconds=_seconds(words[3]))
            with self.changed:
                longest_s = _PENDING_S if words[2] == "checkpoint" else coming.seconds
                self.pending_until = time.monotonic() + min(coming.seconds, longest_s)
            self.begin(answer, words[2], coming)
        elif len(words) == 4 and words[2] == "after":
            self.settle()
            self.begin(answer, "after", words[3])
        else:
            _answer(answer, "error unknown")

    def begin(self, answer: int, kind: str, told: Any) -> None:
        """Call callbacks in a thread of their own, after those of before; this one must go on listening."""
        work = (self.last, answer, kind, told)
        self.last = threading.Thread(target=self.work, args=work, name=f"crikpy-{kind}", daemon=True)
        self.last.start()

    def work(self, before: threading.Thread | None, answer: int, kind: str, told: Any) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        self.here.works = True
        if before is not None:
            before.join()
        if kind == "after":
            told = Resumed(outcome=told, environment=_environment(), hostname=socket.gethostname())
        else:
            with self.changed:
                while self.held and self.pending():
                    self.changed.wait(max(0.0, self.pending_until - time.monotonic()))
        fault = _call(tuple(self.callbacks[kind]), told)
        if kind == "save" and fault:
            self.settle()
        _answer(answer, f"failed {fault}" if fault else "ready")

    def forget(self) -> None:
        """Begin anew in a process that was forked off: what it inherits is its parent's to hear."""
        inherited = self.listener
        self.__init__()  # type: ignore[misc]
        if inherited is not None:
            inherited.close()


def _listen(folder: str) -> socket.socket:
    path = f"{folder}/job-{os.getpid()}.sock"
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108
    # Datagrams, and pipes for the answers: CRIU saves neither a connection to the outside nor one that has broken.
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.bind(path)
        os.chmod(path, 0o600)  # noqa: PTH101
    except OSError:
        listener.close()
        raise
    return listener


def _accompanying(notes: Sequence[tuple[int, int, bytes]]) -> tuple[int | None, bool]:
    """Return the pipe that came with a request, and whether who sent it is to be heard."""
    answer, trusted = None, False
    for level, kind, data in notes:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(data) >= _DESCRIPTOR.size:
            answer = _DESCRIPTOR.unpack_from(data)[0]
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(data) >= _PEER.size:
            pid, uid, _ = _PEER.unpack_from(data)
            # So the kernel shows whoever comes from outside of this PID namespace; nothing inside can forge it.
            trusted = pid == 0 and uid in (0, _OVERFLOW_UID)
    return answer, trusted


def _answer(pipe: int, line: str) -> None:
    """Answer, whether or not anybody waits for it still."""
    # Of a pipe that nobody reads any more, a signal would tell the whole process; this thread alone loses it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    printable = "".join(char if " " <= char <= "~" else "?" for char in line)
    try:
        os.write(pipe, printable.encode() + b"\n")
    except OSError:
        if signal.SIGPIPE in signal.sigpending() and signal.SIGPIPE not in mask:
            signal.sigtimedwait({signal.SIGPIPE}, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(pipe)


def _seconds(word: str) -> float:
    try:
        return min(max(float(word), 0.0), 86400.0)
    except ValueError:
        return 0.0


def _call(callbacks: Sequence[Callable[[Any], object]], told: Any) -> str:
    """Call all, whatever becomes of each; return what went wrong, or nothing."""
    faults = []
    for callback in callbacks:
        try:
            callback(told)
        except BaseException as fault:  # noqa: BLE001  # sys.exit() in here ends this thread only, as everywhere
            traceback.print_exc()
            faults.append(f"{type(fault).__name__}: {fault}")
    return "; ".join(faults)[:_LONGEST_REASON]


def _environment() -> Mapping[str, str]:
    """Return the variables of the container, which its first process was given."""
    try:
        with open("/proc/1/environ", "rb") as file:  # noqa: PTH123
            words = file.read().split(b"\0")
    except OSError:
        return {}
    pairs = (word.partition(b"=") for word in words if b"=" in word)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"crikpy: {text}\n")


_rounds = _Rounds()
os.register_at_fork(after_in_child=_rounds.forget)
