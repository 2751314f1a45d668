"""What the facts of a node mean for saving jobs. Pure: texts and numbers in, one Finding out.

A finding fails only when no job at all could be saved; what costs some jobs, or only comfort, is a warning, and
what merely explains the node's behaviour is a fact. Texts are those of proc(5) and cgroups(7).
"""

from __future__ import annotations

import re
import struct
from typing import Final

from crikpy import names
from crikpy.criu import versions
from crikpy.model.health import Finding, Verdict

_MIB = 1024 * 1024
_GIB = 1024 * _MIB

_CAPABILITIES: Final = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
}
"""Needed, by bit (include/uapi/linux/capability.h); CAP_SYS_ADMIN includes CAP_CHECKPOINT_RESTORE."""

_NAMESPACES = frozenset({"mnt", "pid", "net", "ipc", "uts", "cgroup"})

_PRIVILEGED = "run as root of the node: in Kubernetes privileged, on a plain machine by sudo"
BUILD_BUNDLE = "build it with hack/criu-bundle and point CRIKPY_CRIU_BUNDLE at it"
_BUILD_LAUNCHER = "build daemonset/launcher and point CRIKPY_CRIU_LAUNCHER at it"


def ok(name: str, fact: str) -> Finding:
    """Say that a fact is as it must be, or only informs."""
    return Finding(name=name, verdict=Verdict.OK, fact=fact)


def warning(name: str, fact: str, remedy: str) -> Finding:
    """Say that a fact costs some jobs."""
    return Finding(name=name, verdict=Verdict.WARNING, fact=fact, remedy=remedy)


def failed(name: str, fact: str, remedy: str) -> Finding:
    """Say that no job can be saved."""
    return Finding(name=name, verdict=Verdict.FAILED, fact=fact, remedy=remedy)


def unknown(name: str, fault: Exception, *, essential: bool) -> Finding:
    """Say that a fact could not be had, which is as bad as the worst that it could have been."""
    judge = failed if essential else warning
    return judge(name, f"could not be found out: {fault}", _PRIVILEGED)


def root(euid: int, uid_map: str) -> Finding:
    """Judge who we are: root inside a user namespace is nobody on the node."""
    if euid != 0:
        return failed("root", f"running as uid {euid}", _PRIVILEGED)
    if uid_map.split() != ["0", "0", "4294967295"]:
        return failed("root", "root of a user namespace only", _PRIVILEGED)
    return ok("root", "running as root")


def capabilities(status: str) -> Finding:
    """Judge CapEff of /proc/self/status."""
    effective = int(_field(status, "CapEff"), 16)
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        return failed("capabilities", f"without {', '.join(missing)}", _PRIVILEGED)
    return ok("capabilities", "all that a dump needs")


def other_uids(*, hides_limits: bool, library: str, present: bool) -> Finding:
    """Judge whether jobs of every user can be saved, for which CRIU must get to know their limits."""
    if not hides_limits:
        return ok("other-uids", "jobs of any uid can be saved")
    if present:
        return ok("other-uids", "jobs of any uid can be saved; without CAP_SYS_RESOURCE limits come from /proc")
    return warning(
        "other-uids",
        f"no CAP_SYS_RESOURCE and no {library}; jobs of another uid than root cannot be saved",
        f"{_BUILD_LAUNCHER}, or grant CAP_SYS_RESOURCE",
    )


def seccomp(status: str) -> Finding:
    """Judge the filter that we run under ourselves; CRIU inherits it."""
    mode = int(_field(status, "Seccomp"))
    if mode == 0:
        return ok("seccomp", "no filter on crikpy itself")
    return warning(
        "seccomp",
        "crikpy itself runs under a seccomp filter, which may forbid what CRIU needs",
        "run it unconfined: seccompProfile Unconfined",
    )


def architecture(machine: str) -> Finding:
    """Judge `uname -m`."""
    if machine == "x86_64":
        return ok("architecture", machine)
    return failed("architecture", machine, "use x86_64 machines; the CRIU bundle exists for no other")


def kernel(release: str) -> Finding:
    """Judge `uname -r`."""
    if versions.kernel_version(release) >= versions.OLDEST_KERNEL:
        return ok("kernel", release)
    oldest = versions.dotted(versions.OLDEST_KERNEL)
    return failed("kernel", f"{release} is too old", f"use a machine image with kernel {oldest} or later")


def namespaces(present: frozenset[str]) -> Finding:
    """Judge the names in /proc/self/ns."""
    missing = sorted(_NAMESPACES - present)
    if missing:
        return failed("namespaces", f"the kernel has no {', '.join(missing)}", "use a kernel that has them")
    if "time" not in present:
        fact = "the kernel has no time: a moved job's clocks leap to those of its new node"
        return warning("namespaces", fact, "use a kernel that has it (CONFIG_TIME_NS)")
    return ok("namespaces", " ".join(sorted(_NAMESPACES)))


def feature(name: str, *, present: bool, what: str, remedy: str) -> Finding:
    """Judge something without which no job can be saved."""
    return ok(name, what) if present else failed(name, f"not possible: {what}", remedy)


def ptrace(*, reads_rseq: bool) -> Finding:
    """Judge what can be read of a process that was stopped by ptrace (PTRACE_GET_RSEQ_CONFIGURATION)."""
    if reads_rseq:
        return ok("ptrace", "processes can be stopped and their rseq areas read")
    return warning(
        "ptrace",
        "rseq areas cannot be read; jobs built on glibc 2.35 or later cannot be saved",
        "use a machine image with kernel 5.13 or later",
    )


def informative(name: str, *, present: bool, what: str) -> Finding:
    """State something that changes only how a job is saved."""
    return ok(name, what if present else f"not possible: {what}; not needed")


def pid_range(pid_max: str) -> Finding:
    """Judge /proc/sys/kernel/pid_max: jobs get PIDs above the floor and need room there."""
    highest = int(pid_max)
    if highest >= 2 * names.PID_FLOOR:
        return ok("pid-range", f"up to {highest}")
    return failed(
        "pid-range",
        f"PIDs end at {highest}, jobs begin at {names.PID_FLOOR}",
        "set the sysctl kernel.pid_max to 32768 or more",
    )


def socket_diag(missing: tuple[str, ...]) -> Finding:
    """Judge which kinds of sockets CRIU can list."""
    if not missing:
        return ok("socket-diag", "sockets of all kinds can be listed")
    return warning(
        "socket-diag",
        f"without {', '.join(missing)}; jobs with such sockets cannot be saved",
        f"load them: modprobe -a {' '.join(missing)}",
    )


def yama(scope: str | None, euid: int) -> Finding:
    """Judge /proc/sys/kernel/yama/ptrace_scope; None where there is no Yama."""
    level = int(scope) if scope is not None else 0
    fact = "no Yama" if scope is None else f"ptrace_scope {level}"
    if level >= 3:
        return failed("yama", f"{fact}: nobody may stop a process", "boot with kernel.yama.ptrace_scope below 3")
    if level == 2 and euid != 0:
        return warning("yama", f"{fact}: only root may stop a process", _PRIVILEGED)
    return ok("yama", fact)


def io_uring(disabled: str | None) -> Finding:
    """State what kernel.io_uring_disabled means for jobs; None where the kernel has no such setting."""
    if disabled is not None and int(disabled) == 2:
        return ok("io_uring", "off: no job can use it")
    return ok("io_uring", "allowed; a job that uses it cannot be saved")


def cgroup(mountinfo: str) -> Finding:
    """Judge which cgroup hierarchies are mounted, and whether a restored job can be put into its own."""
    mounts = [
        (options, kind) for options, kind in map(_mount, mountinfo.splitlines()) if kind.startswith("cgroup")
    ]
    kinds = {kind for _, kind in mounts}
    if not mounts:
        return warning("cgroup", "none mounted; a restored job stays in crikpy's", "mount /sys/fs/cgroup")
    version = {1: "v2" if "cgroup2" in kinds else "v1", 2: "v1 and v2 (hybrid)"}[len(kinds)]
    if all("ro" in options for options, _ in mounts):
        return warning("cgroup", f"{version}, read-only", "mount the node's /sys/fs/cgroup for writing")
    return ok("cgroup", version)


def _mount(line: str) -> tuple[list[str], str]:
    """Split a line of mountinfo into the mount's own options and the kind of file system."""
    left, _, right = line.partition(" - ")
    return left.split()[5].split(","), right.split()[0]


def memory(meminfo: str, needed_bytes: int) -> Finding:
    """Judge MemAvailable against the bound that a transfer keeps to."""
    available = _kib(meminfo, "MemAvailable")
    fact = f"{_size(available)} available"
    if available >= needed_bytes:
        return ok("memory", fact)
    return warning(
        "memory",
        f"{fact}, a transfer may use {_size(needed_bytes)}",
        "leave more memory free or lower CRIKPY_STORE_MEMORY_BYTES",
    )


def swap(meminfo: str) -> Finding:
    """State whether pages of a job may lie on a disk, from where a dump must fetch them."""
    total = _kib(meminfo, "SwapTotal")
    return ok("swap", f"{_size(total)}; swapped pages slow a dump down" if total else "none")


def space(name: str, where: str, *, free_bytes: int, read_only: bool, needed_bytes: int) -> Finding:
    """Judge the room below a directory; without any, no job can start."""
    if read_only:
        return failed(name, f"{where} is read-only", f"make {where} writable")
    fact = f"{_size(free_bytes)} free in {where}"
    if free_bytes < _MIB:
        return failed(name, fact, f"free some space in {where}")
    if free_bytes < needed_bytes:
        return warning(name, fact, f"jobs may want {_size(needed_bytes)}; free some space in {where}")
    return ok(name, fact)


def bundle(version: str, recorded: str) -> Finding:
    """Judge the version that CRIU says it has, and the one that its bundle was made with."""
    if versions.criu_version(version) < versions.OLDEST_CRIU:
        return failed("criu", f"{version} cannot dump IP sockets on kernel 6.16 and later", BUILD_BUNDLE)
    if recorded.strip() != version:
        return warning("criu", f"{version}, in a bundle that says {recorded.strip()[:40]!r}", BUILD_BUNDLE)
    return ok("criu", version)


def no_bundle(fact: str) -> Finding:
    """Say that there is no CRIU to run."""
    return failed("criu", fact, BUILD_BUNDLE)


def criu_check(status: int, output: str) -> Finding:
    """Judge what `criu check` said."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if status == 0:
        return ok("criu-check", lines[-1] if lines else "no complaint")
    fact = "; ".join(lines[-5:]) or f"exit status {status}"
    return failed("criu-check", fact, "use another kernel, or grant what CRIU names")


def launcher(program: bytes, status: int, output: str) -> Finding:
    """Judge the launcher: it runs in images that have no libraries, and must speak our protocol."""
    expected = f"crikpy-launch {names.LAUNCHER_PROTOCOL}"
    if not is_static_elf(program):
        return failed("launcher", "not a static program; it would not start in most images", _BUILD_LAUNCHER)
    if status != 0 or output.strip() != expected:
        fact = f"speaks {output.strip()[:60]!r}, exit status {status}; expected {expected!r}"
        return failed("launcher", fact, _BUILD_LAUNCHER)
    return ok("launcher", expected)


def no_launcher(fact: str) -> Finding:
    """Say that there is no launcher."""
    return failed("launcher", fact, _BUILD_LAUNCHER)


def tiles(*, has_amx: bool, library: str, present: bool) -> Finding:
    """Judge whether jobs that use AMX survive a restore here, for which CRIU needs a library of ours."""
    if not has_amx:
        return ok("tiles", "this CPU has no AMX")
    if present:
        return ok("tiles", "jobs that use AMX can be moved")
    return warning("tiles", f"no {library}; jobs that use AMX die after a move", _BUILD_LAUNCHER)


_ELF64_LITTLE = b"\x7fELF\x02\x01"
_PT_INTERP = 3


def is_static_elf(program: bytes) -> bool:
    """Say whether a 64-bit ELF program, given from its first byte, asks for no interpreter (elf(5))."""
    if len(program) < 64 or not program.startswith(_ELF64_LITTLE):
        return False
    (table,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    if count == 0 or table + size * count > len(program):
        return False
    kinds = (struct.unpack_from("<I", program, table + size * index)[0] for index in range(count))
    return _PT_INTERP not in kinds


def _field(status: str, name: str) -> str:
    found = re.search(rf"^{name}:\s*(\S+)", status, re.MULTILINE)
    if found is None:
        raise ValueError(f"/proc/self/status has no {name}")
    return found[1]


def _kib(meminfo: str, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB", meminfo, re.MULTILINE)
    if found is None:
        raise ValueError(f"/proc/meminfo has no {name}")
    return int(found[1]) * 1024


def _size(count: int) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB else f"{count / _MIB:.0f} MiB"
