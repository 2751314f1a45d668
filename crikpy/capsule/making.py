"""Make a capsule on a plain machine: own PID, mount and IPC namespace, our launcher as its init.

The launcher and the job outlive whoever made them: a killed `crikpy run` must not take the job along. So the
job's output goes through small pumps of their own instead of through this process.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crikpy import names
from crikpy.aio.children import Child
from crikpy.aio.clock import Deadline
from crikpy.capsule.launcher import LauncherConnection
from crikpy.errors import CapsuleError, NoLauncherError

_SET_UP = (
    "mount -t tmpfs -o mode=1777,nosuid,nodev shm /dev/shm || exit 125; "
    "mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5,nosuid,noexec devpts /dev/pts 2> /dev/null && "
    "mount --bind /dev/pts/ptmx /dev/ptmx; "
    'exec "$@" < /dev/null'
)
"""POSIX shared memory of the job's own, so that all of it travels and nothing foreign does; terminals of its own,
whose numbers nobody else has on the next machine; and a standard input that was opened inside, since CRIU cannot
name a file of another mount namespace."""

_APPEARS_S = 10.0
_LOOK_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class CapsulePlan:
    """What to make.

    Attributes:
        launcher: the static launcher.
        socket: where the launcher listens.
        temporary: private directory for the job's temporary files; it travels with the job.
        command: the job's command line.
        agent_wait_s: after this long without us the launcher starts the job by itself.
    """

    launcher: Path
    socket: Path
    temporary: Path
    command: tuple[str, ...]
    agent_wait_s: float

    @property
    def hooks(self) -> Path:
        """Where the job listens for its checkpoints (crikpy.job)."""
        return self.temporary / names.JOB_DIR


class PlainCapsule:
    """A capsule that this process made; its end is this process's to report.

    Attributes:
        child: `unshare`, which lives as long as the launcher and ends with its status.
    """

    def __init__(self, plan: CapsulePlan, environment: Mapping[str, str]) -> None:
        self._plan = plan
        plan.socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (plan.temporary, plan.hooks):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o1777)
        own = {"TMPDIR": str(plan.temporary), names.JOB_DIR_VARIABLE: str(plan.hooks)}
        if not os.access(plan.launcher, os.X_OK):
            raise CapsuleError(
                f"no launcher at {plan.launcher}",
                remedy="build it with `make -C daemonset/launcher`, or set CRIKPY_CRIU_LAUNCHER",
            )
        self._pumps: list[Child] = []
        out, err = self._pump(1), self._pump(2)
        try:
            self.child = Child(_words(plan), stdout=out, stderr=err, env={**environment, **own})
        finally:
            os.close(out)
            os.close(err)

    def await_launcher(self) -> None:
        """Wait until the launcher answers; its socket appears a moment before it listens there.

        Raises:
            CapsuleError: it never did.
        """
        deadline = Deadline.after(_APPEARS_S)
        while True:
            try:
                LauncherConnection(self._plan.socket, deadline).close()
            except NoLauncherError as absent:
                if self.child.poll() is not None or deadline.expired():
                    raise CapsuleError(
                        "the capsule could not be made", remedy="`crikpy check` says what this machine lacks"
                    ) from absent
                time.sleep(_LOOK_S)
            else:
                return

    def wait(self, deadline: Deadline) -> int:
        """Wait for the launcher's end and for the last of its output; return the exit status as a shell would.

        Raises:
            DeadlineError: it still runs.
        """
        while (status := self.child.poll()) is None:
            deadline.check("waiting for the launcher's end")
            time.sleep(0.01)
        for pump in self._pumps:
            pump.wait(Deadline.after(5.0))
        return status if status >= 0 else 128 - status

    def _pump(self, descriptor: int) -> int:
        """Return a pipe's write end whose other end flows into one of our own descriptors."""
        read_end, write_end = os.pipe()
        try:
            self._pumps.append(Child(("cat",), stdin=read_end, stdout=descriptor))
        finally:
            os.close(read_end)
        return write_end


def _words(plan: CapsulePlan) -> Sequence[str]:
    return (
        "unshare",
        "--pid",
        "--fork",
        "--mount-proc",
        "--mount",
        "--ipc",
        "--",
        "/bin/sh",
        "-c",
        _SET_UP,
        "crikpy-capsule",
        str(plan.launcher),
        "--socket",
        str(plan.socket),
        "--agent-wait",
        str(math.ceil(plan.agent_wait_s)),
        "--",
        *plan.command,
    )
