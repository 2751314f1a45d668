"""Whether this node can save jobs on its GPUs, and whether what was saved on others can go on here. Pure.

Sources: README of cuda-checkpoint (functions by driver version, limits) and of CRIU's CUDA plug-in (limits),
release notes of the driver 575.57.08 (containers that see some of a node's GPUs). The libraries of the driver that
a job has mapped are part of its memory, and belong to one version of the driver: so another version never fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from crikpy.gpu.driver import Driver, is_uuid, numbers
from crikpy.gpu.tool import HOW_TO_INSTALL, Abilities
from crikpy.model.health import Finding, Verdict
from crikpy.model.manifest import GpuFacts

NO_GPUS: Final = "no NVIDIA driver"
"""What is found where there is nothing of NVIDIA's."""

_MOST_KINDS: Final = 8
_LONGEST_MODEL: Final = 64
"""Of what a checkpoint says of itself, in a sentence."""

LEAST_DRIVER: Final = (570,)
"""Locks that give up in time, and NVML in the process, without which PyTorch cannot be saved."""

LEAST_FOR_SOME: Final = (575, 57, 8)
"""Containers that see some GPUs of their node only."""

LEAST_FOR_MAPS: Final = (580,)
"""Going on with other GPUs than those of the same places."""


def obstacles(driver: Driver | None, tool: Abilities, *, installed: bool, architecture: str) -> tuple[str, ...]:
    """Return why no job on this node's GPUs can be saved, a sentence each with its remedy; none when some can.

    Args:
        driver: of the node, or None.
        tool: what its cuda-checkpoint can do.
        installed: there is one.
        architecture: of the machine, as `uname -m` says it.
    """
    if driver is None:
        return ("this node has no NVIDIA driver that tells of itself: see CRIKPY_GPU_DRIVER_PROC",)
    found = []
    if architecture != "x86_64":
        found.append(f"NVIDIA's cuda-checkpoint is for x86-64, this machine is {architecture}: use another one")
    if driver.numbers < LEAST_DRIVER:
        found.append(f"the NVIDIA driver is {driver.version}: install {_dotted(LEAST_DRIVER)} or newer")
    if not installed:
        found.append(f"there is no cuda-checkpoint on this node: {HOW_TO_INSTALL}")
    elif not tool.actions:
        what = tool.version or "not known to work"
        found.append(f"its cuda-checkpoint is {what}: install that of driver {_dotted(LEAST_DRIVER)} or newer")
    return tuple(found)


def obstacles_of(facts: GpuFacts) -> tuple[str, ...]:
    """Return why the GPUs that one capsule sees cannot be saved."""
    if 0 < len(facts.models) < facts.on_node and numbers(facts.driver) < LEAST_FOR_SOME:
        least = _dotted(LEAST_FOR_SOME)
        seen = f"sees {len(facts.models)} of its node's {facts.on_node} GPUs"
        return (f"{seen}, which the driver {facts.driver} cannot save: install {least} or newer",)
    return ()


def differences(dumped: GpuFacts, here: GpuFacts, tool: Abilities) -> tuple[str, ...]:
    """Return one message for each thing that keeps a job from going on with the GPUs of a capsule here."""
    if not dumped.driver:
        return ()
    return tuple(_differences(dumped, here, tool))


def node_differences(dumped: GpuFacts, driver: Driver | None) -> tuple[str, ...]:
    """Return the same of what another machine could make good."""
    if not dumped.driver:
        return ()
    if driver is None:
        return (_no_driver(dumped),)
    found = [_driver_differs(dumped, driver.version)] if dumped.driver != driver.version else []
    models = [gpu.model for gpu in driver.gpus]
    if Counter(dumped.models) - Counter(models):
        found.append(f"GPUs: dumped with {_listed(dumped.models)}, this machine has {_listed(models)}")
    return tuple(found)


def device_map(dumped: GpuFacts, here: GpuFacts) -> str:
    """Return how UUIDs there become UUIDs here, in the words of cuda-checkpoint; nothing where they are the same.

    GPUs are paired in the order of their bus addresses. Where the driver does not tell a UUID they are paired by
    the driver itself, by their places.
    """
    if dumped.uuids == here.uuids or len(dumped.uuids) != len(here.uuids):
        return ""
    if not all(map(is_uuid, (*dumped.uuids, *here.uuids))):
        return ""
    return ",".join(f"{old}={new}" for old, new in zip(dumped.uuids, here.uuids, strict=True))


def finding(driver: Driver | None, tool: Abilities, obstacles: Sequence[str]) -> Finding:
    """Return what `crikpy check` says; never a failure, for jobs without GPUs can be saved all the same."""
    if driver is None:
        return Finding(name="gpu", verdict=Verdict.OK, fact=NO_GPUS)
    what = f"driver {driver.version}, {_listed([gpu.model for gpu in driver.gpus])}"
    if obstacles:
        fact, _, remedy = obstacles[0].partition(": ")
        return Finding(name="gpu", verdict=Verdict.WARNING, fact=f"{what}; {fact}", remedy=remedy)
    fact = f"{what}, cuda-checkpoint {tool.version or 'without a version'}"
    return Finding(name="gpu", verdict=Verdict.OK, fact=fact)


def _differences(dumped: GpuFacts, here: GpuFacts, tool: Abilities) -> Iterator[str]:
    if not here.driver:
        yield _no_driver(dumped)
        return
    if here.driver != dumped.driver:
        yield _driver_differs(dumped, here.driver)
    if here.models != dumped.models:
        yield f"GPUs: dumped with {_listed(dumped.models)}, here are {_listed(here.models)}"
    if not tool.actions:
        yield f"GPUs: there is no cuda-checkpoint of driver {_dotted(LEAST_DRIVER)} or newer here"
    moves = dumped.uuids != here.uuids
    in_part = len(dumped.models) < dumped.on_node or len(here.models) < here.on_node
    if moves and in_part and not (tool.maps and numbers(here.driver) >= LEAST_FOR_MAPS):
        least = _dotted(LEAST_FOR_MAPS)
        yield f"GPUs: moving a job to some of a node's GPUs needs the driver {least} and its cuda-checkpoint"


def _no_driver(dumped: GpuFacts) -> str:
    return f"GPUs: dumped with {_listed(dumped.models)}, this machine has no NVIDIA driver"


def _driver_differs(dumped: GpuFacts, here: str) -> str:
    mapped = "whose libraries the job has in its memory"
    return f"NVIDIA driver: dumped with {dumped.driver}, {mapped}; this machine has {here}"


def _listed(models: Sequence[str]) -> str:
    """Return models with their numbers, such as `2 of NVIDIA L4`."""
    kinds = Counter(models).most_common(_MOST_KINDS)
    return " and ".join(f"{count} of {model[:_LONGEST_MODEL]}" for model, count in kinds) or "no GPU"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(f"{number:02}" for number in version)
