"""Build CRIU's argument lists; pure, and the only place that knows CRIU's options.

CRIU runs inside the job's namespaces but from the node's bundle, and nothing is mounted for it: the loader, the
program and the images directory are reached through inherited descriptors, since a path below /proc/self/fd
leads into the node's file system from any mount namespace. Options are those of CRIU 4.2 (criu(8)).

The job's image is not trusted: CRIU runs there with every capability. So nothing of the image may be run or read
by it: no plug-ins but those of an empty directory, no configuration files, no search path (CRIU tries `sh` and
`iptables` at its start), no network lock by programs, no action scripts. docs/security.md has the whole list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crikpy import names

_COMMON = (
    "--stream",
    "--network-lock=skip",
    "--manage-cgroups=ignore",
    "--file-locks",
    "--link-remap",
    "--ext-unix-sk",
    "--file-validation=filesize",
    "--no-default-config",
    "-v3",
)


ENVIRONMENT = {"PATH": "/proc/version", "LC_ALL": "C"}
"""The whole environment of CRIU; the search path names a file, so that no program is ever found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptors:
    """Numbers of the descriptors that CRIU inherits.

    Attributes:
        bundle: the bundle's directory.
        loader: the bundle's dynamic loader.
        images: the images directory, which holds only the stream's socket.
        log: the log file, open for writing.
        preloaded: libraries of ours, where CRIU needs them (crikpy.criu.preloading).
    """

    bundle: int
    loader: int
    images: int
    log: int
    preloaded: tuple[int, ...] = ()

    def all(self) -> tuple[int, ...]:
        """Return every number, to pass them on."""
        return (self.bundle, self.loader, self.images, self.log, *self.preloaded)


@dataclass(frozen=True, slots=True, kw_only=True)
class InheritedPipe:
    """A pipe of the dumped job that is replaced by a descriptor of the new capsule.

    Attributes:
        descriptor: number that CRIU inherits it under.
        identity: the pipe as the dump knew it, `pipe:[4711]`.
    """

    descriptor: int
    identity: str


def program(descriptors: Descriptors) -> tuple[str, ...]:
    """Return the words that start the bundle's CRIU by its own loader."""
    bundle = f"/proc/self/fd/{descriptors.bundle}"
    libraries = ":".join(f"/proc/self/fd/{library}" for library in descriptors.preloaded)
    preload = ("--preload", libraries) if libraries else ()
    return (
        f"/proc/self/fd/{descriptors.loader}",
        "--inhibit-cache",
        *preload,
        "--library-path",
        f"{bundle}/lib",
        f"{bundle}/criu",
    )


def dump(
    descriptors: Descriptors,
    *,
    root_pid: int,
    ghost_limit_bytes: int,
    collect_timeout_s: int,
    unix_ends: Sequence[int] = (),
    watched: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return the words of a dump that leaves the tree stopped, to be thawed or killed by us.

    Args:
        descriptors: what CRIU inherits.
        root_pid: the root process inside the capsule.
        unix_ends: inodes of connected Unix sockets whose other ends need not be dumped.
        ghost_limit_bytes: what a file may take up that was deleted while open.
        collect_timeout_s: how long CRIU tries to stop the tree.
        watched: absolute names inside of what is watched by inotify, where the kernel does not give them.
    """
    return (
        *program(descriptors),
        "dump",
        f"--tree={root_pid}",
        *_directories(descriptors),
        "--leave-stopped",
        "--tcp-close",
        "--skip-in-flight",  # connections that a listener has not accepted yet: they are cut like all others
        f"--ghost-limit={ghost_limit_bytes}",
        f"--timeout={collect_timeout_s}",
        *([f"--ext-unix-sk={','.join(map(str, unix_ends))}"] if unix_ends else []),
        *(f"--irmap-scan-path={name}" for name in watched),
        *_COMMON,
    )


def restore(
    descriptors: Descriptors,
    *,
    pipes: Sequence[InheritedPipe],
    keeps_connections: bool = False,
    apparmor: str = "",
) -> tuple[str, ...]:
    """Return the words of a restore whose root becomes a stopped child of the capsule's init.

    Args:
        descriptors: what CRIU inherits.
        pipes: what replaces the job's standard streams.
        keeps_connections: the images say which TCP connections go on (crikpy.criu.tcpstreams); else none does.
        apparmor: the profile that confines all of the job, instead of those that it was dumped under; or empty.
    """
    inherited = [f"--inherit-fd=fd[{pipe.descriptor}]:{pipe.identity}" for pipe in pipes]
    confined = [f"--lsm-profile=apparmor:{apparmor}"] if apparmor else []
    return (
        *program(descriptors),
        "restore",
        *_directories(descriptors),
        "--restore-detached",
        "--leave-stopped",
        "--tcp-established" if keeps_connections else "--tcp-close",
        *inherited,
        *confined,
        *_COMMON,
    )


def _directories(descriptors: Descriptors) -> tuple[str, ...]:
    return (
        f"--images-dir=/proc/self/fd/{descriptors.images}",
        f"--log-file=/proc/self/fd/{descriptors.log}",
        f"--libdir=/proc/self/fd/{descriptors.bundle}/plugins",
    )


def check(bundle: str, work_dir: str | None = None) -> tuple[str, ...]:
    """Return the words of CRIU's own check of this kernel, outside of any capsule.

    Args:
        bundle: the bundle's directory.
        work_dir: where CRIU leaves what it learnt of the kernel, if that is on a tmpfs; else the empty folder.
    """
    return (
        f"{bundle}/lib/{names.BUNDLE_LOADER}",
        "--library-path",
        f"{bundle}/lib",
        f"{bundle}/criu",
        "--no-default-config",
        "check",
        f"--work-dir={work_dir or f'{bundle}/plugins'}",
        f"--libdir={bundle}/plugins",
    )
