"""Which processes of a job use NVIDIA's GPUs, and which of them cannot be saved whatever the node has.

Sources: README of NVIDIA's cuda-checkpoint and of CRIU's plugins/cuda ("Known Limitations"): no managed memory, no
slices of GPUs (MIG), no shared server (MPS), no NVML without CUDA, no children that have a GPU only since a fork.
What a process does inside of CUDA is not shown anywhere; this goes by device nodes, mapped areas and the
environment. What is not known here to fail is left to cuda-checkpoint, which has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crikpy.capsule import procfs
from crikpy.capsule.preflight import ProcessView

_NVIDIA: Final = "/dev/nvidia"
_SLICES: Final = "/dev/nvidia-caps/"
_FABRIC: Final = "/dev/nvidia-caps-imex-channels/"
_MANAGED: Final = "/dev/nvidia-uvm"
_SERVER: Final = re.compile(r"nvidia-cuda-mps|(^|/)nvidia-mps(/|$)|(^|/)mps/(pipe|control)")
_AREA: Final = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{1,16}) .*/dev/nvidia-uvm(?: \(deleted\))?")
_LONGEST_ENVIRONMENT: Final = 1024 * 1024
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process with a GPU.

    Attributes:
        view: what a look at it showed.
        managed_bytes: areas of /dev/nvidia-uvm that it has mapped.
        shared: its environment sends CUDA to a server that shares a GPU (MPS).
    """

    view: ProcessView
    managed_bytes: int = 0
    shared: bool = False


def with_gpus(views: Sequence[ProcessView]) -> tuple[ProcessView, ...]:
    """Return the views of processes that have a device of NVIDIA's open or mapped."""
    return tuple(view for view in views if any(target.startswith(_NVIDIA) for target in _targets(view)))


def look(views: Sequence[ProcessView]) -> tuple[GpuProcess, ...]:
    """Look further at the processes with GPUs among these; one that ends meanwhile shows nothing more."""
    found = []
    for view in with_gpus(views):
        process = Path(f"/proc/{view.outer}")
        try:
            managed = managed_bytes(procfs.read_lines(process / "maps"))
            with (process / "environ").open("rb") as environment:
                shared = is_shared(environment.read(_LONGEST_ENVIRONMENT))
        except OSError:
            managed, shared = 0, False
        found.append(GpuProcess(view=view, managed_bytes=managed, shared=shared))
    return tuple(found)


def refusals(processes: Sequence[GpuProcess], managed_limit: int) -> tuple[str, ...]:
    """Return why these cannot be saved, a sentence each with its remedy.

    Args:
        processes: from `look`.
        managed_limit: bytes of mapped managed memory that the driver may need for itself.
    """
    found: dict[str, None] = {}
    for process in processes:
        who = f"{process.view.fact.command} (PID {process.view.fact.pid})"
        found.update((f"{who} {reason}", None) for reason in _refusals(process, managed_limit))
    return tuple(found)


def managed_bytes(maps: Sequence[str]) -> int:
    """Return how many bytes of managed memory the lines of /proc/PID/maps show."""
    areas = (_AREA.fullmatch(line) for line in maps)
    return sum(max(0, int(area[2], 16) - int(area[1], 16)) for area in areas if area)


def is_shared(environment: bytes) -> bool:
    """Say whether the text of /proc/PID/environ names a server that shares GPUs."""
    return any(word.startswith(b"CUDA_MPS_PIPE_DIRECTORY=") for word in environment.split(b"\0"))


def _targets(view: ProcessView) -> Iterator[str]:
    yield from (descriptor.target for descriptor in view.descriptors)
    yield from (mapping.target for mapping in view.mappings)


def _refusals(process: GpuProcess, managed_limit: int) -> Iterator[str]:
    view, targets = process.view, set(_targets(process.view))
    if any(target.startswith(_SLICES) for target in targets):
        yield "uses a slice of a GPU (MIG), which cuda-checkpoint cannot save: give it a whole GPU"
    if any(target.startswith(_FABRIC) for target in targets):
        yield "shares GPU memory with other nodes (IMEX), which cuda-checkpoint cannot save: run it without"
    if process.shared or _SERVER.search(view.fact.command) or any(map(_SERVER.search, targets)):
        yield "shares a GPU by way of MPS, which cuda-checkpoint cannot save: run it without MPS"
        return
    if process.managed_bytes > managed_limit:
        yield (
            f"has {process.managed_bytes // _MIB} MiB of managed GPU memory, which cuda-checkpoint cannot save:"
            " use cudaMalloc in place of cudaMallocManaged, or raise CRIKPY_GPU_MANAGED_BYTES if it uses none"
        )
    if _MANAGED not in targets:
        yield (
            "has a GPU open without CUDA (NVML, as monitors do), which cuda-checkpoint cannot save: have it"
            " close the GPU, or run it elsewhere"
        )
    elif view.fact.threads == 1:
        yield (
            "has its parent's GPU open since a fork, which cuda-checkpoint cannot save: start it by spawn or"
            " forkserver, or before CUDA is used"
        )
    if view.state == "T":
        yield "has a GPU and is stopped by a signal, so that CUDA cannot be halted in it: continue it (SIGCONT)"
