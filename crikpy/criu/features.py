"""Whether this node can save jobs, and if not, why: the facts behind `crikpy check`.

Looks at everything even when the first thing is wrong, since people mend a list faster than a riddle. Changes
nothing on the node.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from crikpy import names
from crikpy.aio import children
from crikpy.aio.clock import Deadline
from crikpy.criu import argv, preloading, probes, tiles, verdicts, versions
from crikpy.errors import CrikpyError, CriuMissingError
from crikpy.model.health import Finding, Verdict
from crikpy.settings import MIB, CriuSettings, Settings

_PROGRAM_S = 20.0
"""Longest run of one program; `criu check` takes well below a second."""

_LIB_DIR_BYTES: Final = 1024 * MIB
_RUN_DIR_BYTES: Final = 16 * MIB

_NEW_KERNEL = "use a kernel of a current distribution, and no seccomp filter on crikpy"

_UNESSENTIAL = frozenset(
    {"soft-dirty", "userfaultfd", "socket-diag", "io_uring", "cgroup", "memory", "swap", "other-uids", "tiles"}
)

_Look = tuple[str, Callable[[], Finding]]


def check_node(settings: Settings, *, deadline: Deadline) -> tuple[Finding, ...]:
    """Return one finding for each thing that saving jobs depends on; the names are unique.

    Never raises for what it finds: what cannot be found out is a failed finding.
    """
    looks = (*_process_looks(), *_kernel_looks(deadline), *_node_looks(settings), *_criu_looks(settings, deadline))
    return tuple(_guarded(name, look, deadline) for name, look in looks)


def criu_version(bundle: Path, deadline: Deadline) -> str:
    """Return the version that the bundle's CRIU says it has, such as `4.2.1`.

    Raises:
        CriuMissingError: no bundle, one that does not run, or a version known not to work.
        DeadlineError: it did not answer in time.
    """
    version = _asked_version(bundle, deadline)
    finding = verdicts.bundle(version, version)
    if finding.verdict is Verdict.FAILED:
        raise CriuMissingError(f"CRIU {finding.fact}", remedy=finding.remedy)
    return version


def _asked_version(bundle: Path, deadline: Deadline) -> str:
    remedy = verdicts.BUILD_BUNDLE
    parts = (bundle / "criu", bundle / "lib" / names.BUNDLE_LOADER)
    missing = [str(part) for part in parts if not part.is_file()]
    if missing:
        raise CriuMissingError(f"no CRIU bundle: {' and '.join(missing)} missing", remedy=remedy)
    words = (*argv.check(str(bundle)), "--version")
    try:
        status, output = children.run(words, deadline=deadline.earlier(_PROGRAM_S))
        if status != 0:
            raise CriuMissingError(
                f"{bundle}/criu ended with status {status}", remedy=remedy, detail=output[-2000:]
            )
        version = versions.criu_version_line(output)
        versions.criu_version(version)
    except OSError as fault:
        raise CriuMissingError(f"{bundle}/criu cannot be run: {fault}", remedy=remedy) from fault
    except ValueError as fault:
        raise CriuMissingError(f"{bundle}/criu is not CRIU: {fault}", remedy=remedy) from fault
    return version


def _guarded(name: str, look: Callable[[], Finding], deadline: Deadline) -> Finding:
    try:
        deadline.check(f"looking at {name}")
        return look()
    except (OSError, ValueError, CrikpyError) as fault:
        return verdicts.unknown(name, fault, essential=name not in _UNESSENTIAL)


def _process_looks() -> Iterator[_Look]:
    def status() -> str:
        return Path("/proc/self/status").read_text()

    yield "root", lambda: verdicts.root(os.geteuid(), Path("/proc/self/uid_map").read_text())
    yield "capabilities", lambda: verdicts.capabilities(status())
    yield "seccomp", lambda: verdicts.seccomp(status())


def _kernel_looks(deadline: Deadline) -> Iterator[_Look]:
    yield "architecture", lambda: verdicts.architecture(os.uname().machine)
    yield "kernel", lambda: verdicts.kernel(os.uname().release)
    yield "namespaces", lambda: verdicts.namespaces(_namespace_names())
    yield (
        "set-tid",
        lambda: verdicts.feature(
            "set-tid", present=probes.clone3_set_tid(), what="processes with given PIDs", remedy=_NEW_KERNEL
        ),
    )
    yield (
        "pidfd",
        lambda: verdicts.feature(
            "pidfd", present=probes.pidfd(), what="descriptors of processes", remedy=_NEW_KERNEL
        ),
    )
    yield "ptrace", lambda: verdicts.ptrace(reads_rseq=probes.ptrace_reads_rseq(deadline))
    yield (
        "soft-dirty",
        lambda: verdicts.informative(
            "soft-dirty", present=probes.soft_dirty(), what="tracking written pages for CRIU's own pre-dumps"
        ),
    )
    yield (
        "userfaultfd",
        lambda: verdicts.informative(
            "userfaultfd", present=probes.userfaultfd(), what="filling in pages after a restore"
        ),
    )
    yield "socket-diag", lambda: verdicts.socket_diag(probes.missing_diag_modules())


def _namespace_names() -> frozenset[str]:
    return frozenset(entry.name for entry in Path("/proc/self/ns").iterdir())


def _node_looks(settings: Settings) -> Iterator[_Look]:
    def meminfo() -> str:
        return Path("/proc/meminfo").read_text()

    yield "last-pid", _last_pid
    yield "pid-range", lambda: verdicts.pid_range(Path("/proc/sys/kernel/pid_max").read_text())
    yield "yama", lambda: verdicts.yama(_optional("/proc/sys/kernel/yama/ptrace_scope"), os.geteuid())
    yield "io_uring", lambda: verdicts.io_uring(_optional("/proc/sys/kernel/io_uring_disabled"))
    yield "cgroup", lambda: verdicts.cgroup(Path("/proc/self/mountinfo").read_text())
    yield "memory", lambda: verdicts.memory(meminfo(), settings.store.memory_bytes)
    yield "swap", lambda: verdicts.swap(meminfo())
    yield "run-dir", lambda: _space("run-dir", settings.run.run_dir, _RUN_DIR_BYTES)
    yield "lib-dir", lambda: _space("lib-dir", settings.run.lib_dir, _LIB_DIR_BYTES)


def _last_pid() -> Finding:
    """See whether the PID cursor could be set; opening it for writing changes nothing yet."""
    try:
        os.close(os.open("/proc/sys/kernel/ns_last_pid", os.O_WRONLY | os.O_CLOEXEC))
    except OSError as fault:
        remedy = "use a kernel with CONFIG_CHECKPOINT_RESTORE, and a /proc that is mounted for writing"
        return verdicts.failed("last-pid", f"ns_last_pid: {fault.strerror}", remedy)
    return verdicts.ok("last-pid", "ns_last_pid can be written")


def _optional(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return None


def _space(name: str, directory: Path, needed_bytes: int) -> Finding:
    """Look at the nearest directory that exists: the missing rest is made when it is needed."""
    where = next(parent for parent in (directory, *directory.parents) if parent.is_dir())
    room = os.statvfs(where)
    return verdicts.space(
        name,
        str(where),
        free_bytes=room.f_bavail * room.f_frsize,
        read_only=bool(room.f_flag & os.ST_RDONLY),
        needed_bytes=needed_bytes,
    )


def _criu_looks(settings: Settings, deadline: Deadline) -> Iterator[_Look]:
    yield "criu", lambda: _bundle(settings.criu, deadline)
    yield "criu-check", lambda: _criu_check(settings.criu, deadline)
    yield "launcher", lambda: _launcher(settings.criu, deadline)
    yield "other-uids", lambda: _other_uids(settings.criu)
    yield "tiles", lambda: _tiles(settings.criu)


def _bundle(settings: CriuSettings, deadline: Deadline) -> Finding:
    try:
        version = _asked_version(settings.bundle, deadline)
    except CriuMissingError as fault:
        return verdicts.no_bundle(fault.message)
    return verdicts.bundle(version, _optional(str(settings.bundle / "VERSION")) or "nothing")


def _criu_check(settings: CriuSettings, deadline: Deadline) -> Finding:
    words = argv.check(str(settings.bundle))
    try:
        status, output = children.run(words, deadline=deadline.earlier(_PROGRAM_S))
    except OSError as fault:
        return verdicts.failed("criu-check", f"not run: {fault.strerror}", "see the finding on criu")
    return verdicts.criu_check(status, output)


def _launcher(settings: CriuSettings, deadline: Deadline) -> Finding:
    path = str(settings.launcher)
    try:
        program = settings.launcher.read_bytes()
        status, output = children.run((path, "version"), deadline=deadline.earlier(_PROGRAM_S))
    except OSError as fault:
        return verdicts.no_launcher(f"{path}: {fault.strerror}")
    return verdicts.launcher(program, status, output)


def _other_uids(settings: CriuSettings) -> Finding:
    library = settings.launcher.parent / names.LIMITS_LIBRARY
    hidden = preloading.hides_limits(Path("/proc/self/status").read_text())
    return verdicts.other_uids(hides_limits=hidden, library=str(library), present=library.is_file())


def _tiles(settings: CriuSettings) -> Finding:
    library = settings.launcher.parent / names.TILES_LIBRARY
    has_amx = tiles.needed_stack_bytes() is not None
    return verdicts.tiles(has_amx=has_amx, library=str(library), present=library.is_file())
