"""Who listens behind a launcher's socket: trusted only as the first process of a container of its own pod.

A pod can put a listener of its own, or a link to another pod's socket, in the launcher's place. What it does to
itself that way is its own affair; it must not reach another pod, or the node, through us.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from crikpy.capsule import procfs
from crikpy.errors import LauncherError

_POD = re.compile(r"(?:^|-)pod([0-9a-f_-]{32,36})(?:\.slice)?$")
"""A pod's cgroup: `pod<uid>` by the cgroupfs driver, `kubepods-…-pod<uid>.slice` with underscores by systemd's
(kubelet, pkg/kubelet/cm/pod_container_manager_linux.go)."""


def require_launcher(pid: int, pod_uid: str) -> None:
    """Make sure that a process is the first one of a container of a pod.

    Args:
        pid: the process as SO_PEERCRED shows it; its connection must answer afterwards, for only then it has not
            ended before we looked, and its PID is no other process's.
        pod_uid: the pod's UID.

    Raises:
        LauncherError: it is not, or is gone.
    """
    if pid == 0:
        raise LauncherError(
            "the launcher is in a PID namespace that the agent does not see", remedy="run the agent with hostPID"
        )
    try:
        status = os.fsdecode(Path(f"/proc/{pid}/status").read_bytes())
        membership = os.fsdecode(Path(f"/proc/{pid}/cgroup").read_bytes())
    except OSError as gone:
        raise LauncherError(f"process {pid}, which listens as a launcher, is gone") from gone
    if not is_first_process(status):
        raise LauncherError(
            f"process {pid}, which listens as a launcher, is not the first process of a container",
            remedy="neither hostPID nor shareProcessNamespace go together with checkpoints",
        )
    if pod_uid not in pods_of(membership):
        raise LauncherError(f"process {pid}, which listens as a launcher of pod {pod_uid}, belongs to another")


def is_first_process(status: str) -> bool:
    """Say whether /proc/<pid>/status is that of PID 1 of a PID namespace below this process's own."""
    numbers = procfs.fields(status.split("\n")).get("NSpid", "").split()
    return len(numbers) > 1 and numbers[-1] == "1"


def pods_of(membership: str) -> frozenset[str]:
    """Return the UIDs of the pods in whose cgroups a process is, by the text of its /proc/<pid>/cgroup.

    A process that is in the cgroups of two pods is in neither.
    """
    found = set()
    for line in membership.split("\n"):
        path = line.split(":", 2)[-1]
        below = [match[1].replace("_", "-") for part in path.split("/") if (match := _POD.search(part))]
        found.update(below[:1])
    return frozenset(found) if len(found) == 1 else frozenset()
