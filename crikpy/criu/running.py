"""Run CRIU for one dump or one restore, with its stream connected to a sink or a source.

CRIU is never left behind and never killed while it could still undo its work: past the deadline its stream is
cut first, which makes it release the job by itself, and only a CRIU that hangs even then is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crikpy import names
from crikpy.aio.children import Child
from crikpy.aio.clock import Deadline
from crikpy.criu import argv, learning, logs, openfiles, preloading, tiles
from crikpy.criu.capturing import CaptureServer
from crikpy.criu.serving import ServeServer
from crikpy.criu.streaming import StreamServer
from crikpy.errors import CrikpyError, CriuError, CriuMissingError, DumpError, RestoreError
from crikpy.model.network import InternetSocket
from crikpy.model.streams import ImageSink, ImageSource
from crikpy.settings import CriuSettings

_UNDO_S = 10.0
"""How long CRIU gets to release the job once its stream was cut."""

_POLL_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpOutcome:
    """A dump that succeeded; the tree is stopped.

    Attributes:
        tiles: the job may have the permission to use AMX's tile registers, which its restore has to know.
        sockets: its IPv4 and IPv6 sockets.
    """

    tiles: bool
    sockets: tuple[InternetSocket, ...] = ()


class Criu:
    """The bundle's CRIU."""

    def __init__(self, settings: CriuSettings, *, undo_s: float = _UNDO_S) -> None:
        self._settings = settings
        self._undo_s = undo_s

    def dump(
        self,
        entry: Sequence[str],
        root_pid: int,
        sink: ImageSink,
        deadline: Deadline,
        *,
        unix_ends: Sequence[int] = (),
        watched: Sequence[str] = (),
    ) -> DumpOutcome:
        """Dump a tree, stopped by crikpy.criu.quieting, into a sink; it stays stopped.

        On a failure CRIU has let go of it, so that it stands only where it was stopped before.

        Args:
            entry: the words that enter the capsule, put before CRIU's own.
            root_pid: the root process inside the capsule.
            sink: takes the images.
            deadline: when everything must have reached the sink.
            unix_ends: inodes of connected Unix sockets whose other ends may be somebody else's.
            watched: names of what the job watches by inotify, where CRIU does not find them by itself.

        Raises:
            DumpError: CRIU refused or failed, or there is no room for its working files.
            TilesInUseError: a thread has something in AMX's tile registers.
            CrikpyError: the sink failed; its own error is raised.
        """
        watch = tiles.CoreWatch(sink, tiles.needed_stack_bytes())
        files = openfiles.FilesWatch(watch)
        with (
            self._workspace(deadline, preloading.for_dump(), DumpError) as (descriptors, images_dir, log),
            CaptureServer(images_dir, files) as server,
        ):
            words = argv.dump(
                descriptors,
                root_pid=root_pid,
                ghost_limit_bytes=self._settings.ghost_limit_bytes,
                collect_timeout_s=self._settings.collect_timeout_s,
                unix_ends=unix_ends,
                watched=watched,
            )
            with _start((*entry, *words), descriptors) as child:
                _spare_when_memory_is_short(child)
                status = _wait(child, server, deadline, self._undo_s)
            if status != 0:
                _raise_failure(server, deadline, status, DumpError, "the dump failed", log)
            with _log_beside(log):
                server.finish(deadline)
            if server.first_image_at is None:
                raise DumpError("CRIU said that it was done but gave us no image")
            return DumpOutcome(tiles=watch.may_have_asked(), sockets=files.sockets())

    def restore(
        self,
        entry: Sequence[str],
        source: ImageSource,
        pipes: Sequence[argv.InheritedPipe],
        deadline: Deadline,
        *,
        may_use_tiles: bool,
        keeps_connections: bool = False,
        lost_sessions: bool = False,
        apparmor: str = "",
    ) -> None:
        """Restore a tree from a source and leave it stopped below the capsule's init.

        Args:
            entry: the words that enter the capsule, put before CRIU's own.
            source: gives the images.
            pipes: what replaces the job's standard streams; the descriptors must be open here.
            deadline: when the tree must stand.
            may_use_tiles: what the dump's outcome said of tiles.
            keeps_connections: the images say which TCP connections go on; else all are closed.
            lost_sessions: children of the root are in a session whose leader has ended.
            apparmor: the AppArmor profile that confines the job from now on, instead of its own; or empty.

        Raises:
            RestoreError: CRIU refused or failed, or there is no room for its working files; nothing of the tree is
                left.
            CrikpyError: the source failed; its own error is raised. Where CRIU took what had come for all, what it
                has made is left stopped, for whoever owns the capsule to kill.
        """
        libraries = preloading.for_restore(may_use_tiles=may_use_tiles, lost_sessions=lost_sessions)
        with (
            self._workspace(deadline, libraries, RestoreError) as (descriptors, images_dir, log),
            ServeServer(images_dir, source) as server,
        ):
            words = argv.restore(descriptors, pipes=pipes, keeps_connections=keeps_connections, apparmor=apparmor)
            with _start((*entry, *words), descriptors, *(pipe.descriptor for pipe in pipes)) as child:
                status = _wait(child, server, deadline, self._undo_s)
            # A record that ends with a piece looks like the last one to CRIU.
            if status != 0 or (server.failure is not None and server.cut_short):
                _raise_failure(server, deadline, status, RestoreError, "the restore failed", log)

    @contextlib.contextmanager
    def _workspace(
        self, deadline: Deadline, libraries: Sequence[str], failed: type[CriuError]
    ) -> Iterator[tuple[argv.Descriptors, Path, Path]]:
        """Open the bundle and make a private folder for the stream's socket and the log."""
        with contextlib.ExitStack() as stack:
            try:
                made = self._make_workspace(stack, deadline, libraries)
            except OSError as fault:
                raise failed(
                    f"CRIU's working files could not be made: {fault.strerror}: {fault.filename or ''}",
                    remedy="make room in the directory for temporary files, or name another by TMPDIR",
                ) from fault
            yield made

    def _make_workspace(
        self, stack: contextlib.ExitStack, deadline: Deadline, libraries: Sequence[str]
    ) -> tuple[argv.Descriptors, Path, Path]:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crikpy-")))
        log = folder / "criu.log"

        def keep(descriptor: int) -> int:
            stack.callback(os.close, descriptor)
            return descriptor

        bundle = self._settings.bundle
        try:
            of_bundle = [
                keep(os.open(bundle, os.O_PATH | os.O_DIRECTORY)),
                keep(os.open(bundle / "lib" / names.BUNDLE_LOADER, os.O_RDONLY)),
            ]
        except (FileNotFoundError, NotADirectoryError) as fault:
            raise CriuMissingError(
                f"no CRIU bundle at {bundle}",
                remedy="make one with hack/criu-bundle, or set CRIKPY_CRIU_BUNDLE",
            ) from fault
        own = [
            keep(os.open(folder, os.O_PATH | os.O_DIRECTORY)),
            keep(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)),
        ]
        learning.hand_over(bundle, folder, deadline)
        opened = (preloading.open_library(self._settings.launcher, library) for library in libraries)
        descriptors = argv.Descriptors(
            bundle=of_bundle[0],
            loader=of_bundle[1],
            images=own[0],
            log=own[1],
            preloaded=tuple(keep(library) for library in opened if library is not None),
        )
        return descriptors, folder, log


def _start(words: Sequence[str], descriptors: argv.Descriptors, *inherited: int) -> Child:
    """Start CRIU; what nsenter or the loader complain of goes into its log, where CRIU's own words follow."""
    passed = {*descriptors.all(), *inherited}
    try:
        return Child(words, pass_fds=tuple(passed), stderr=descriptors.log, env=argv.ENVIRONMENT)
    except OSError as fault:
        raise CriuError(f"CRIU could not be started: {fault}") from fault


def _spare_when_memory_is_short(child: Child) -> None:
    """Have the kernel kill anything but a dumping CRIU: its death can take a process of the job along.

    Source: proc_pid_oom_score_adj(5); lowering it needs CAP_SYS_RESOURCE, and without it nothing is lost.
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{child.pid}/oom_score_adj").write_text("-1000")


def _wait(child: Child, server: StreamServer, deadline: Deadline, undo_s: float) -> int | None:
    """Return CRIU's exit status, negative for a signal, or None when it had to be killed.

    A CRIU that failed is not reaped here: only as long as its number is its own can the child's context find, by
    its session, what it has left behind in the capsule, such as a process that it was trying ptrace on.
    """
    while (status := _status(child)) is None and not deadline.expired():
        time.sleep(_POLL_S)
    if status is None:
        server.abort()
        undone = Deadline.after(undo_s)
        while _status(child) is None and not undone.expired():
            time.sleep(_POLL_S)
    elif status == 0:
        child.poll()  # reaped: what a restore has made is nobody's to kill
    return status


def _status(child: Child) -> int | None:
    """Return the exit status of a child that has ended, without reaping it."""
    ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _raise_failure(
    server: StreamServer,
    deadline: Deadline,
    status: int | None,
    kind: type[CrikpyError],
    otherwise: str,
    log: Path,
) -> None:
    """Raise the error that came first: the store's, CRIU's death, the deadline, CRIU's own; with the log's end."""
    broken = server.failure
    with _log_beside(log):
        if status is not None and status < 0 and (broken is None or isinstance(broken, CriuError)):
            raise kind(f"CRIU was killed by {signal.Signals(-status).name}") from broken
        if broken is not None:
            raise broken
        deadline.check("CRIU worked")
    meaning, detail = logs.explain(log, otherwise=otherwise)
    raise kind(meaning, detail=detail)


@contextlib.contextmanager
def _log_beside(log: Path) -> Iterator[None]:
    """Add the end of CRIU's log to an error that is not CRIU's own, for whoever wonders how far CRIU had come."""
    try:
        yield
    except CrikpyError as fault:
        fault.detail = fault.detail or logs.explain(log, otherwise="")[1]
        raise
