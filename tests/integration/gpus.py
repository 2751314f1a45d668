"""A node with GPUs that there are not: made-up files of the driver, the stand-in of cuda-checkpoint, a job for
both.

Only what is NVIDIA's is false. Device nodes are those of the kernel's null device under NVIDIA's names.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import psutil

from crikpy.settings import GpuSettings, Settings
from tests.fakes import cuda_checkpoint
from tests.integration.moving import Bench

UUID = "GPU-00000000-0000-0000-0000-00000000000{}"
NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm")


class GpuNode:
    """What lies on such a node.

    Attributes:
        folder: all of it.
        memory: where the memory of its GPUs is.
    """

    def __init__(self, folder: Path, *, driver: str = "580.65.06", gpus: int = 1, first_uuid: int = 1) -> None:
        self.folder = folder
        self.memory = folder / "memory"
        self.memory.mkdir(parents=True)
        self.tell_driver(driver)
        for number in range(gpus):
            place = folder / f"driver/gpus/0000:0{number}:00.0"
            place.mkdir(parents=True)
            lines = ("Model: \t\t NVIDIA Test", f"GPU UUID: \t {UUID.format(first_uuid + number)}")
            (place / "information").write_text("\n".join((*lines, f"Device Minor: \t {number}\n")))
        tool = folder / "tool.py"
        shutil.copy(cuda_checkpoint.__file__, tool)
        self._program("cuda-checkpoint", f'exec {sys.executable} -ISE {shlex.quote(str(tool))} "$@"')
        self.tell_memory({})

    def tell_driver(self, version: str) -> None:
        """Have the driver say that it is of a version."""
        (self.folder / "driver").mkdir(exist_ok=True)
        line = f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build\n"
        (self.folder / "driver/version").write_text(line)

    def tell_memory(self, mebibytes: dict[int, int]) -> None:
        """Have nvidia-smi say how much processes have on GPUs."""
        lines = "".join(f"{pid}, {amount}\n" for pid, amount in mebibytes.items())
        self._program("nvidia-smi", f"printf %s {shlex.quote(lines)}")

    def plan(self, *lines: str) -> None:
        """Have things go wrong; see the stand-in."""
        (self.folder / "plan").write_text("".join(f"{line}\n" for line in lines))

    def calls(self) -> list[str]:
        """Return the calls of cuda-checkpoint until now, and forget them."""
        found = self.folder / "calls"
        lines = found.read_text().splitlines() if found.exists() else []
        found.unlink(missing_ok=True)
        return lines

    def called(self, action: str) -> list[str]:
        """Return the calls of an action until now, without forgetting any."""
        found = self.folder / "calls"
        lines = found.read_text().splitlines() if found.exists() else []
        return [line for line in lines if line.startswith(f"{action} ")]

    def variables(self) -> dict[str, str]:
        """Return the settings of this node as variables, for a process of its own."""
        return {
            "CRIKPY_GPU_CUDA_CHECKPOINT": str(self.folder / "cuda-checkpoint"),
            "CRIKPY_GPU_NVIDIA_SMI": str(self.folder / "nvidia-smi"),
            "CRIKPY_GPU_DRIVER_PROC": str(self.folder / "driver"),
        }

    def guards(self) -> list[int]:
        """Return the processes that watch over this node's GPUs for somebody."""
        tool = str(self.folder / "cuda-checkpoint")
        return [
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if {"crikpy-gpu-guard", tool} <= set(process.info["cmdline"] or ())
        ]

    def settings(self, settings: Settings, **gpu: object) -> Settings:
        """Return the settings of this node."""
        given = {"lock_s": 5.0, "give_back_s": 20.0, **gpu}
        return replace(
            settings,
            gpu=GpuSettings(
                cuda_checkpoint=str(self.folder / "cuda-checkpoint"),
                nvidia_smi=str(self.folder / "nvidia-smi"),
                driver_proc=self.folder / "driver",
                **given,  # type: ignore[arg-type]
            ),
        )

    def equip(self, bench: Bench, *, minors: Collection[int] = (0,), **gpu: object) -> None:
        """Have a bench's containers run here from now on, with these GPUs."""
        bench.settings = self.settings(bench.settings, **gpu)
        bench.shared_directories = {"/gpu": self.memory}
        names = (*NODES, *(f"/dev/nvidia{minor}" for minor in minors))
        bench.devices = dict.fromkeys(names, (1, 3))

    def _program(self, name: str, line: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)


def actions(calls: list[str]) -> list[str]:
    """Return the actions of calls, in order, each once for all processes that it came for in a row."""
    found: list[str] = []
    for call in calls:
        action = call.split()[0]
        if not found or found[-1] != action:
            found.append(action)
    return found
