"""What is known of GPUs before anything is done: whether a node, a job and a checkpoint go together.

Questions only; the answers are sentences for people. Nothing here touches a job.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from crikpy.aio.clock import Deadline
from crikpy.capsule import accelerators, cgroups, entering
from crikpy.capsule.beneath import stat_inside
from crikpy.capsule.preflight import ProcessView
from crikpy.flows import room
from crikpy.gpu import support
from crikpy.gpu.driver import read_driver
from crikpy.gpu.support import NO_GPUS
from crikpy.gpu.tool import NodeTools
from crikpy.model.health import Finding
from crikpy.model.manifest import GpuFacts, Manifest
from crikpy.settings import MIB, Settings

__all__ = [
    "NO_GPUS",
    "differences",
    "facts_of",
    "node_differences",
    "node_finding",
    "node_tools",
    "refusals",
    "used_bytes",
]


def node_tools(settings: Settings) -> NodeTools:
    """Return NVIDIA's tools of this node; a tool that was begun outlives our container."""
    return NodeTools(settings.gpu, settings.criu.node_root, entering.outside())


def node_finding(settings: Settings, deadline: Deadline) -> Finding:
    """Say whether this node can save jobs on its GPUs."""
    driver = read_driver(settings.gpu.driver_proc)
    tools = node_tools(settings)
    abilities = tools.abilities(deadline)
    installed = bool(tools.cuda_checkpoint())
    reasons = support.obstacles(driver, abilities, installed=installed, architecture=os.uname().machine)
    return support.finding(driver, abilities, reasons)


def facts_of(folder: Path, settings: Settings) -> GpuFacts:
    """Return the GPUs that a capsule sees, by its launcher's folder below /proc."""
    driver = read_driver(settings.gpu.driver_proc)
    if driver is None:
        return GpuFacts()
    return driver.seen_with([gpu.minor for gpu in driver.gpus if _has_node(folder, gpu.minor)])


def refusals(
    views: Sequence[ProcessView], folder: Path, settings: Settings, deadline: Deadline, *, used: int | None = None
) -> tuple[str, ...]:
    """Return why a job could not be saved for its GPUs' sake, a sentence each; none where it uses none, or may.

    Args:
        views: every process of the job.
        folder: its launcher's, below /proc.
        settings: of this node.
        deadline: when an answer is of no use any more.
        used: bytes that they have on GPUs, where that is known.
    """
    found = accelerators.look(views)
    if not found:
        return ()
    tools = node_tools(settings)
    reasons = support.obstacles(
        read_driver(settings.gpu.driver_proc),
        tools.abilities(deadline),
        installed=bool(tools.cuda_checkpoint()),
        architecture=os.uname().machine,
    )
    users = ", ".join(sorted({process.view.fact.command for process in found}))
    return (
        *(f"{users} uses a GPU, and {reason}" for reason in reasons),
        *(f"{users} {reason}" for reason in support.obstacles_of(facts_of(folder, settings))),
        *accelerators.refusals(found, settings.gpu.managed_bytes),
        *_no_room(
            used_bytes([process.view.outer for process in found], tools, deadline) if used is None else used,
            folder,
        ),
    )


def differences(manifest: Manifest, folder: Path, settings: Settings, deadline: Deadline) -> tuple[str, ...]:
    """Return what keeps a checkpoint's job from going on with the GPUs of a capsule here."""
    dumped = manifest.compatibility.gpus
    if not dumped.driver:
        return ()
    return support.differences(dumped, facts_of(folder, settings), node_tools(settings).abilities(deadline))


def node_differences(manifest: Manifest, settings: Settings) -> tuple[str, ...]:
    """Return the same of what another machine could make good."""
    dumped = manifest.compatibility.gpus
    return support.node_differences(dumped, read_driver(settings.gpu.driver_proc)) if dumped.driver else ()


def _has_node(folder: Path, minor: int) -> bool:
    try:
        stat_inside(folder / "root", f"/dev/nvidia{minor}")
    except OSError:
        return False
    return True


def used_bytes(pids: Collection[int], tools: NodeTools, deadline: Deadline) -> int:
    """Return how many bytes processes have on GPUs, as far as anybody says."""
    used = tools.memory_used(deadline) or {}
    return sum(used.get(pid, 0) for pid in pids)


def _no_room(needed: int, folder: Path) -> Iterator[str]:
    """Yield why what a job has on GPUs does not fit into memory, where it goes before it is stored."""
    free = room.spare_bytes()
    allowed = cgroups.memory_room(folder)
    what = f"the job has {needed // MIB} MiB on its GPUs, which go into its memory while it is saved"
    if needed > free:
        yield f"{what}, and the node has {free // MIB} MiB to spare: use a node with more memory"
    if allowed is not None and needed > allowed:
        yield f"{what}, and its memory limit leaves {allowed // MIB} MiB: raise the container's limit by that much"
