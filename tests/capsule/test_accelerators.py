"""Who uses a GPU is seen by its devices, and what cannot be saved of that is told with a remedy."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.capsule.accelerators import GpuProcess, is_shared, managed_bytes, refusals, with_gpus
from crikpy.capsule.preflight import Descriptor, Inode, Mapping, ProcessView
from crikpy.model.manifest import ProcessFact

MIB = 1024 * 1024
CUDA = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-uvm")


def _view(*targets: str, state: str = "S", mappings: tuple[Mapping, ...] = ()) -> ProcessView:
    fact = ProcessFact(pid=9001, parent=1, command="train", threads=4, resident_bytes=4096)
    descriptors = tuple(
        Descriptor(fd=fd, target=target, inode=Inode.CHARACTER, device=(195, fd))
        for fd, target in enumerate(targets)
    )
    return ProcessView(fact=fact, descriptors=descriptors, state=state, mappings=mappings)


def test_a_process_of_cuda_is_not_refused() -> None:
    assert refusals([GpuProcess(view=_view(*CUDA), managed_bytes=2 * MIB)], 64 * MIB) == ()


def test_whoever_has_a_device_open_or_mapped_uses_a_gpu() -> None:
    opened, other = _view("/dev/nvidia3"), _view("/dev/null", "/dev/nvme0")
    mapped = _view(mappings=(Mapping(target="/dev/nvidiactl"),))
    assert with_gpus([opened, other, mapped]) == (opened, mapped)


@pytest.mark.parametrize(
    ("process", "words"),
    [
        (GpuProcess(view=_view(*CUDA, "/dev/nvidia-caps/nvidia-cap21")), "MIG"),
        (GpuProcess(view=_view(*CUDA, "/dev/nvidia-caps-imex-channels/channel0")), "IMEX"),
        (GpuProcess(view=_view(*CUDA), shared=True), "MPS"),
        (GpuProcess(view=_view(*CUDA, "/tmp/nvidia-mps/control")), "MPS"),
        (GpuProcess(view=_view(*CUDA), managed_bytes=65 * MIB), "65 MiB of managed GPU memory"),
        (GpuProcess(view=_view("/dev/nvidiactl", "/dev/nvidia0")), "NVML"),
        (GpuProcess(view=_view(*CUDA, state="T")), "SIGCONT"),
    ],
)
def test_each_thing_that_cannot_be_saved_is_told_once_with_its_process(process: GpuProcess, words: str) -> None:
    (reason,) = refusals([process, process], 64 * MIB)
    assert reason.startswith("train (PID 9001) ")
    assert words in reason
    assert ": " in reason, "a remedy follows"


def test_a_child_that_has_a_gpu_since_a_fork_is_told_from_a_process_of_cuda_by_its_threads() -> None:
    view = _view(*CUDA)
    alone = dataclasses.replace(view, fact=dataclasses.replace(view.fact, threads=1))
    (reason,) = refusals([GpuProcess(view=alone)], 64 * MIB)
    assert "fork" in reason


def test_a_server_that_shares_gpus_is_known_by_its_name() -> None:
    view = _view(*CUDA)
    server = dataclasses.replace(view, fact=dataclasses.replace(view.fact, command="nvidia-cuda-mps"))
    assert "MPS" in refusals([GpuProcess(view=server)], 64 * MIB)[0]


def test_managed_memory_is_what_is_mapped_of_its_device() -> None:
    maps = [
        "7f0000000000-7f0000200000 rw-s 7f0000000000 00:06 511                    /dev/nvidia-uvm",
        "7f0000200000-7f0000400000 rw-s 00000000 00:06 195                        /dev/nvidiactl",
        "7f0000400000-7f0000500000 rw-s 7f0000400000 00:06 511                    /dev/nvidia-uvm (deleted)",
        "7f0000600000-7f0000700000 rw-p 00000000 00:00 0",
    ]
    assert managed_bytes(maps) == 3 * MIB


@given(st.lists(st.text(max_size=200), max_size=20))
def test_no_line_of_maps_upsets_the_count(lines: list[str]) -> None:
    assert managed_bytes(lines) >= 0


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_an_environment_names_a_server_in_a_variable_of_its_own(before: bytes, after: bytes) -> None:
    assert is_shared(before + b"\0CUDA_MPS_PIPE_DIRECTORY=/tmp/mps\0" + after)
    assert not is_shared(b"X=CUDA_MPS_PIPE_DIRECTORY=" + before.replace(b"\0", b"").replace(b"C", b""))
