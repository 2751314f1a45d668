"""What jobs have on GPUs counts as memory to be saved, and nobody waits long for the answer."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from crikpy.agent.device_sizes import DeviceSizes
from crikpy.settings import GpuSettings, Settings

MIB = 1024 * 1024


def _sizes(folder: Path, script: str) -> DeviceSizes:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)
    gpu = GpuSettings(nvidia_smi=str(folder / "nvidia-smi"), driver_proc=folder)
    return DeviceSizes(replace(Settings(), gpu=gpu))


async def test_the_processes_of_a_capsule_are_added_up_and_asked_for_once(tmp_path: Path) -> None:
    (tmp_path / "version").touch()
    script = f"echo x >> {tmp_path}/asked; printf '{os.getpid()}, 100\\n{os.getppid()}, 20\\n1234567890, 7\\n'"
    sizes = _sizes(tmp_path, script)
    assert await sizes.of([os.getpid()]) == 120 * MIB
    assert await sizes.of([os.getpid()]) == 120 * MIB
    assert await sizes.of([]) == 0
    assert (tmp_path / "asked").read_text() == "x\n"


async def test_a_node_without_a_driver_is_not_asked(tmp_path: Path) -> None:
    sizes = _sizes(tmp_path, f"touch {tmp_path}/asked")
    assert await sizes.of([os.getpid()]) == 0
    assert not (tmp_path / "asked").exists()


async def test_an_answer_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "version").touch()
    sizes = _sizes(
        tmp_path, f"while [ ! -e {tmp_path}/enough ]; do sleep 0.05; done; printf '{os.getpid()}, 1\\n'"
    )
    assert await sizes.of([os.getpid()]) == 0
    (tmp_path / "enough").touch()
    while not await sizes.of([os.getpid()]):
        pass
