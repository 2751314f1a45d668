"""Whether a node can save jobs on GPUs, and which checkpoints fit it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.gpu.driver import Driver, Gpu
from crikpy.gpu.support import device_map, differences, finding, node_differences, obstacles, obstacles_of
from crikpy.gpu.tool import Abilities
from crikpy.model.health import Verdict
from crikpy.model.manifest import GpuFacts

UUID = "GPU-00000000-0000-0000-0000-{:012}"
TOOL = Abilities(version="580.65.06", actions=True, maps=True)
OLD_TOOL = replace(TOOL, version="570.86.10", maps=False)


def _driver(version: str = "580.65.06", *models: str) -> Driver:
    gpus = [Gpu(bus=f"0000:0{n}:00.0", minor=n, model=model) for n, model in enumerate(models or ("NVIDIA L4",))]
    return Driver(version=version, gpus=tuple(gpus))


def _facts(count: int = 1, first: int = 0, on_node: int = 0, driver: str = "580.65.06") -> GpuFacts:
    uuids = tuple(UUID.format(first + number) for number in range(count))
    return GpuFacts(driver=driver, models=("NVIDIA L4",) * count, uuids=uuids, on_node=on_node or count)


def test_a_node_with_everything_has_no_obstacles() -> None:
    assert obstacles(_driver(), TOOL, installed=True, architecture="x86_64") == ()


@pytest.mark.parametrize(
    ("driver", "tool", "installed", "architecture", "words"),
    [
        (None, TOOL, True, "x86_64", "no NVIDIA driver"),
        (_driver("565.57.01"), TOOL, True, "x86_64", "565.57.01: install 570 or newer"),
        (_driver(), Abilities(), False, "x86_64", "no cuda-checkpoint on this node: put NVIDIA's"),
        (_driver(), Abilities(version="550.54.09"), True, "x86_64", "is 550.54.09: install that of driver 570"),
        (_driver(), TOOL, True, "aarch64", "x86-64, this machine is aarch64"),
    ],
)
def test_each_obstacle_is_told_with_a_remedy(
    driver: Driver | None, tool: Abilities, installed: bool, architecture: str, words: str
) -> None:
    (reason,) = obstacles(driver, tool, installed=installed, architecture=architecture)
    assert words in reason
    assert ": " in reason


def test_a_container_with_some_of_the_gpus_needs_a_driver_that_can_tell_them_apart() -> None:
    (reason,) = obstacles_of(_facts(1, on_node=4, driver="575.51.03"))
    assert "1 of its node's 4 GPUs" in reason
    assert "575.57.08" in reason
    assert obstacles_of(_facts(1, on_node=4, driver="575.57.08")) == ()
    assert obstacles_of(_facts(4, driver="570.86.10")) == ()


def test_the_same_kind_of_machine_fits_and_a_job_without_gpus_fits_everywhere() -> None:
    assert differences(_facts(2), _facts(2, first=5), TOOL) == ()
    assert differences(GpuFacts(), GpuFacts(), Abilities()) == ()
    assert node_differences(GpuFacts(), None) == ()


@pytest.mark.parametrize(
    ("here", "tool", "words"),
    [
        (GpuFacts(), TOOL, "this machine has no NVIDIA driver"),
        (_facts(2, driver="580.95.05"), TOOL, "dumped with 580.65.06"),
        (_facts(1), TOOL, "dumped with 2 of NVIDIA L4, here are 1 of NVIDIA L4"),
        (replace(_facts(2), models=("NVIDIA L4", "NVIDIA T4")), TOOL, "1 of NVIDIA L4 and 1 of NVIDIA T4"),
        (_facts(2), Abilities(), "no cuda-checkpoint"),
        (_facts(2, first=5, on_node=8), OLD_TOOL, "needs the driver 580"),
    ],
)
def test_each_difference_is_told(here: GpuFacts, tool: Abilities, words: str) -> None:
    (difference,) = differences(_facts(2), here, tool)
    assert words in difference


def test_what_another_machine_could_make_good_is_a_difference_of_the_machine() -> None:
    dumped = _facts(2)
    assert node_differences(dumped, _driver("580.65.06", *["NVIDIA L4"] * 8)) == ()
    assert len(node_differences(dumped, _driver("580.95.05", "NVIDIA L4"))) == 2
    assert len(node_differences(dumped, None)) == 1


def test_gpus_are_paired_in_order_where_they_are_others() -> None:
    assert device_map(_facts(2), _facts(2)) == ""
    assert device_map(_facts(2), _facts(2, first=5)) == (
        f"{UUID.format(0)}={UUID.format(5)},{UUID.format(1)}={UUID.format(6)}"
    )
    assert device_map(_facts(2), replace(_facts(2), uuids=("", ""))) == ""


@pytest.mark.parametrize(
    "uuids", [("--pid=1", "x"), (UUID.format(1) + "=x", UUID.format(2)), (UUID.format(1),), ()]
)
def test_what_a_checkpoint_says_of_itself_becomes_no_words_of_the_tool_but_uuids(uuids: tuple[str, ...]) -> None:
    assert device_map(replace(_facts(2), uuids=uuids), _facts(2, first=5)) == ""


def test_a_sentence_about_a_strange_checkpoint_has_an_end() -> None:
    strange = replace(_facts(1), models=tuple(f"{number}" * 100 for number in range(20_000)))
    assert all(len(found) < 2000 for found in differences(strange, _facts(1), TOOL))
    assert all(len(found) < 2000 for found in node_differences(strange, _driver()))


@given(st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_what_fits_can_always_be_paired(there: int, here: int, untold: bool) -> None:
    dumped, found = _facts(there), _facts(here, first=5)
    found = replace(found, uuids=("",) * here) if untold else found
    if not differences(dumped, found, TOOL):
        assert device_map(dumped, found).count("=") in {0, there}


def test_check_says_what_there_is_and_never_fails_for_it() -> None:
    assert finding(None, Abilities(), ["x"]).verdict is Verdict.OK
    able = finding(_driver(), TOOL, [])
    assert (able.verdict, able.fact) == (
        Verdict.OK,
        "driver 580.65.06, 1 of NVIDIA L4, cuda-checkpoint 580.65.06",
    )
    unable = finding(_driver(), Abilities(), ["there is no cuda-checkpoint: put it there"])
    assert unable.verdict is Verdict.WARNING
    assert unable.remedy == "put it there"
