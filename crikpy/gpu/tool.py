"""Run the node's own NVIDIA tools, by the node's PIDs: cuda-checkpoint, and nvidia-smi to ask for figures.

cuda-checkpoint (github.com/NVIDIA/cuda-checkpoint, README) brings one process from `running` to `locked` (no call
of CUDA returns any more, what was submitted is done), to `checkpointed` (device memory is in the process's own,
the GPU is let go of), and back by `restore` and `unlock`. A thread of the process itself does the work, so the
process must not be stopped meanwhile. Each call costs some seconds of the driver's own start.

Nothing of a container is run: the tool is the node's, started in the node's root with an environment of its own.
Which processes, in which order and what a failure means is crikpy.flows.devices' business.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from crikpy.aio import children
from crikpy.aio.clock import Deadline
from crikpy.errors import DeadlineError, GpuError
from crikpy.settings import GpuSettings

_CHROOT: Final = "/usr/sbin/chroot"
_PLACES: Final = {
    "cuda-checkpoint": ("/usr/local/bin", "/usr/bin", "/opt/crikpy"),
    "nvidia-smi": ("/usr/bin", "/usr/local/bin"),
}
_ASK_S: Final = 15.0
"""Longest answer to a question; the driver's start is the most of it."""

_LONGEST_WORDS: Final = 200
_VERSION: Final = re.compile(r"\bVersion (\d{1,6}(?:\.\d{1,6}){1,3})")
_USAGE: Final = re.compile(r"^\s*(\d{1,10})\s*,\s*(\d{1,10})\s*$")
_MIB: Final = 1024 * 1024


class Action(StrEnum):
    """What cuda-checkpoint does to a process, by its own words."""

    LOCK = "lock"
    CHECKPOINT = "checkpoint"
    RESTORE = "restore"
    UNLOCK = "unlock"


class State(StrEnum):
    """What it says of one; UNKNOWN is what it does not say."""

    RUNNING = "running"
    LOCKED = "locked"
    CHECKPOINTED = "checkpointed"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What the node's cuda-checkpoint can do.

    Attributes:
        version: its own, or empty.
        actions: it has the four actions (since 555).
        maps: a process can go on with GPUs of other UUIDs than before (since 580).
    """

    version: str = ""
    actions: bool = False
    maps: bool = False


class NodeTools:
    """NVIDIA's programs of this node."""

    def __init__(self, settings: GpuSettings, node_root: Path, before: Sequence[str] = ()) -> None:
        """Know where they are.

        Args:
            settings: names them.
            node_root: root of the node, as this process sees it.
            before: words that are put before theirs.
        """
        self._root = node_root
        self._before = tuple(before)
        self._cuda_checkpoint = settings.cuda_checkpoint
        self._nvidia_smi = settings.nvidia_smi
        libraries = {"LD_LIBRARY_PATH": settings.libraries} if settings.libraries else {}
        self.environment: dict[str, str] = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", **libraries}

    def cuda_checkpoint(self) -> tuple[str, ...]:
        """Return the words that start cuda-checkpoint; none where there is no such program."""
        return self._words("cuda-checkpoint", self._cuda_checkpoint)

    def abilities(self, deadline: Deadline) -> Abilities:
        """Ask cuda-checkpoint what it can do; nothing where it is not there or does not answer."""
        words = self.cuda_checkpoint()
        if not words:
            return Abilities()
        try:
            _, text = self._run((*words, "--help"), deadline.earlier(_ASK_S))
        except (GpuError, DeadlineError):
            return Abilities()
        return parse_help(text)

    def act(
        self, action: Action, pid: int, deadline: Deadline, *, lock_s: float = 0.0, device_map: str = ""
    ) -> None:
        """Bring a process to its next state.

        Args:
            action: what to do.
            pid: the process as the node sees it; the caller keeps hold of it.
            deadline: past it the tool is killed, and nobody knows the process's state.
            lock_s: after so many seconds a lock is given up in order.
            device_map: `old=new,…`, UUIDs of the GPUs that a restore goes to.

        Raises:
            GpuError: the tool refused, with its own words.
            DeadlineError: it did not end in time.
        """
        more = ["--timeout", str(max(1, int(lock_s * 1000)))] if lock_s else []
        more += ["--device-map", device_map] if device_map else []
        status, text = self._run((*self._needed(), "--action", action, "--pid", str(pid), *more), deadline)
        if status != 0:
            raise GpuError(f"cuda-checkpoint cannot {action} process {pid}: {_said(text, status)}")

    def state(self, pid: int, deadline: Deadline) -> State:
        """Return the state of a process; UNKNOWN where the tool does not say, or not in time."""
        try:
            words = (*self._needed(), "--get-state", "--pid", str(pid))
            status, text = self._run(words, deadline.earlier(_ASK_S))
        except (GpuError, DeadlineError):
            return State.UNKNOWN
        return parse_state(text) if status == 0 else State.UNKNOWN

    def memory_used(self, deadline: Deadline) -> dict[int, int] | None:
        """Return by PID how many bytes of the GPUs' memory processes have; None where nobody says."""
        words = self._words("nvidia-smi", self._nvidia_smi)
        if not words:
            return None
        question = ("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")
        try:
            status, text = self._run((*words, *question), deadline.earlier(_ASK_S))
        except (GpuError, DeadlineError):
            return None
        return parse_memory_used(text) if status == 0 else None

    def _words(self, name: str, given: str) -> tuple[str, ...]:
        for path in [given] if given else [f"{place}/{name}" for place in _PLACES[name]]:
            if os.path.lexists(self._root / path.lstrip("/")):
                inside = () if self._root == Path("/") else (_CHROOT, str(self._root))
                return (*self._before, *inside, path)
        return ()

    def _needed(self) -> tuple[str, ...]:
        words = self.cuda_checkpoint()
        if not words:
            raise GpuError("there is no cuda-checkpoint on this node", remedy=HOW_TO_INSTALL)
        return words

    def _run(self, words: Sequence[str], deadline: Deadline) -> tuple[int, str]:
        try:
            return children.run(words, deadline=deadline, env=self.environment)
        except OSError as fault:
            raise GpuError(f"{words[0]} cannot be run: {fault.strerror}") from fault


HOW_TO_INSTALL: Final = (
    "put NVIDIA's cuda-checkpoint at /usr/local/bin/cuda-checkpoint of the node, or name it in"
    " CRIKPY_GPU_CUDA_CHECKPOINT; see docs/gpu.md"
)


def parse_help(text: str) -> Abilities:
    """Return what the tool's own help says that it can do."""
    found = _VERSION.search(text)
    return Abilities(
        version=found[1] if found else "",
        actions="--action" in text and "--timeout" in text,
        maps="--device-map" in text,
    )


def parse_state(text: str) -> State:
    """Return the state that the tool has printed; UNKNOWN for one that is not known here."""
    word = text.strip().split("\n")[0].strip().lower()
    return State(word) if word in {state.value for state in State} else State.UNKNOWN


def parse_memory_used(text: str) -> dict[int, int]:
    """Return bytes by PID out of nvidia-smi's lines `PID, MEBIBYTES`; of several GPUs of one process the sum."""
    used: dict[int, int] = {}
    for line in text.split("\n"):
        if found := _USAGE.fullmatch(line):
            used[int(found[1])] = used.get(int(found[1]), 0) + int(found[2]) * _MIB
    return used


def _said(text: str, status: int) -> str:
    """Return what a program has said last, as it may be shown."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    last = lines[-1] if lines else f"exit status {status}"
    return "".join(char if char.isprintable() else "\ufffd" for char in last)[:_LONGEST_WORDS]
