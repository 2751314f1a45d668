"""What the driver tells of itself is read as it is told, and nothing else upsets the reader."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.gpu.driver import Gpu, numbers, parse_information, parse_version, read_driver
from crikpy.model.manifest import GpuFacts

INFORMATION = """Model: \t\t NVIDIA A100-SXM4-40GB
IRQ:   \t\t 185
GPU UUID: \t {uuid}
Video BIOS: \t 92.00.19.00.01
Bus Type: \t PCIe
DMA Size: \t 47 bits
Bus Location: \t {bus}
Device Minor: \t {minor}
GPU Excluded:\t No
"""
UUID = "GPU-eaf23aa1-4d3d-596c-da66-b86b0e5db58{}"


@pytest.mark.parametrize(
    ("line", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\n",
            "535.129.03",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n", "580.65.06"),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  390.48  Thu\nGCC version:  gcc 5.4.0\n", "390.48"),
        ("GCC version:  gcc version 12.2.0 (GCC)\n", ""),
        ("", ""),
    ],
)
def test_the_version_of_either_kind_of_driver(line: str, version: str) -> None:
    assert parse_version(line) == version


def _node(folder: Path, *minors: int) -> Path:
    (folder / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Tue\n")
    for number, minor in enumerate(minors):
        place = folder / f"gpus/0000:{number:02x}:00.0"
        place.mkdir(parents=True)
        text = INFORMATION.format(uuid=UUID.format(number), bus=place.name, minor=minor)
        (place / "information").write_text(text)
    return folder


def test_gpus_are_listed_by_their_bus_and_seen_by_their_device_nodes(tmp_path: Path) -> None:
    driver = read_driver(_node(tmp_path, 2, 0, 1))
    assert driver is not None
    assert [gpu.minor for gpu in driver.gpus] == [2, 0, 1]
    assert driver.seen_with({0, 2, 7}) == GpuFacts(
        driver="580.65.06",
        models=("NVIDIA A100-SXM4-40GB",) * 2,
        uuids=(UUID.format(0), UUID.format(1)),
        on_node=3,
    )


def test_a_machine_without_the_driver_has_none(tmp_path: Path) -> None:
    assert read_driver(tmp_path / "nowhere") is None
    assert read_driver(tmp_path) is None


def test_strange_entries_among_the_gpus_are_left_out(tmp_path: Path) -> None:
    _node(tmp_path, 0)
    (tmp_path / "gpus/strange").mkdir()
    (tmp_path / "gpus/0000:09:00.0").mkdir()
    driver = read_driver(tmp_path)
    assert driver is not None
    assert len(driver.gpus) == 1


def test_a_uuid_that_the_driver_does_not_tell_yet_is_empty() -> None:
    text = INFORMATION.format(uuid="GPU-????????-????-????-????-????????????", bus="x", minor=0)
    assert parse_information("x", text) == Gpu(bus="x", minor=0, model="NVIDIA A100-SXM4-40GB")


@given(st.text(max_size=400))
def test_no_text_upsets_the_readers(text: str) -> None:
    assert numbers(parse_version(text)) is not None
    found = parse_information("x", f"Device Minor: 3\n{text}")
    assert found is None or found.uuid == "" or found.uuid.startswith("GPU-")
    parse_information("x", text)
    numbers(text)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=4))
def test_a_version_is_compared_by_its_numbers(parts: list[int]) -> None:
    version = ".".join(map(str, parts))
    assert numbers(parse_version(f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Tue")) in {
        tuple(parts),
        (),
    }
