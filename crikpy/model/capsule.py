"""The capsule as everything above sees it: a PID namespace whose init is our launcher."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from crikpy import names


class JobPhase(StrEnum):
    """What the launcher says of its job."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherStatus:
    """The launcher's answer.

    Attributes:
        phase: what the job is doing.
        job_pid: PID of the job's root inside the capsule, 0 while it waits.
        exit_status: the job's exit status, None unless it ended.
    """

    phase: JobPhase
    job_pid: int
    exit_status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capsule:
    """A running capsule, found by its launcher's socket.

    Attributes:
        launcher_pid: the launcher's PID as this process sees it.
        socket: path of the launcher's socket on the node.
        carried: directories inside the capsule that travel whole (besides overlay changes and tmpfs).
        excluded: paths inside the capsule that never travel.
        inherited: devices (`major:minor`) of memory filesystems that a plain machine's capsule had from its node.
        launcher: a pidfd of the launcher, open as long as whoever made this lets `socket` be used; None where its
            PID is enough, since nobody hostile could have given that to another.
        hooks: directory inside the capsule where processes of the job listen for its checkpoints (crikpy.job).
    """

    launcher_pid: int
    socket: Path
    carried: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    inherited: tuple[str, ...] = ()
    launcher: int | None = None
    hooks: str = names.LAUNCHER_DIR
