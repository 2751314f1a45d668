"""The node's tools are run as they want to be, bounded, and their words are understood or said to be not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.aio.clock import Deadline
from crikpy.errors import DeadlineError, GpuError
from crikpy.gpu.tool import Action, NodeTools, State, parse_help, parse_memory_used, parse_state
from crikpy.settings import GpuSettings
from tests.fakes.cuda_checkpoint import HELP


def _tools(folder: Path, script: str = "", smi: str = "", libraries: str = "") -> NodeTools:
    for name, text in (("cuda-checkpoint", script), ("nvidia-smi", smi)):
        if text:
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)
    given = GpuSettings(
        cuda_checkpoint=str(folder / "cuda-checkpoint"), nvidia_smi=str(folder / "nvidia-smi"), libraries=libraries
    )
    return NodeTools(given, Path("/"))


def _soon(seconds: float = 20.0) -> Deadline:
    return Deadline.after(seconds)


def test_an_action_names_the_process_and_what_it_needs(tmp_path: Path) -> None:
    tools = _tools(tmp_path, f'echo "$@" >> {tmp_path}/said')
    tools.act(Action.LOCK, 4711, _soon(), lock_s=2.5)
    tools.act(Action.RESTORE, 4711, _soon(), device_map="GPU-a=GPU-b")
    assert (tmp_path / "said").read_text().splitlines() == [
        "--action lock --pid 4711 --timeout 2500",
        "--action restore --pid 4711 --device-map GPU-a=GPU-b",
    ]


def test_what_the_tool_says_last_is_the_reason_and_cannot_act_on_a_terminal(tmp_path: Path) -> None:
    tools = _tools(tmp_path, r"""printf 'first\nCould not lock: "\033[2Jillegal state"\n' >&2; exit 1""")
    with pytest.raises(GpuError, match="cannot lock process 7: Could not lock") as caught:
        tools.act(Action.LOCK, 7, _soon())
    assert "\033" not in str(caught.value)


def test_a_tool_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    tools = _tools(tmp_path, f"sleep 600 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(DeadlineError):
        tools.act(Action.CHECKPOINT, 7, _soon(1.0))
    child = int((tmp_path / "child").read_text())
    assert not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes()


def test_the_tool_has_an_environment_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LD_PRELOAD", "")
    tools = _tools(tmp_path, f"env > {tmp_path}/env", libraries="/run/nvidia/driver/lib")
    tools.act(Action.LOCK, 7, _soon())
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert "AWS_SECRET_ACCESS_KEY" not in names
    assert "LD_PRELOAD" not in names
    assert "LD_LIBRARY_PATH=/run/nvidia/driver/lib" in (tmp_path / "env").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
def test_in_a_nodes_root_of_its_own_the_tool_is_that_nodes(tmp_path: Path) -> None:
    place = tmp_path / "usr/local/bin"
    place.mkdir(parents=True)
    (place / "cuda-checkpoint").touch()
    words = NodeTools(GpuSettings(), tmp_path, ("before",)).cuda_checkpoint()
    assert words == ("before", "/usr/sbin/chroot", str(tmp_path), "/usr/local/bin/cuda-checkpoint")


def test_a_node_without_the_tools_says_so(tmp_path: Path) -> None:
    tools = _tools(tmp_path)
    assert tools.cuda_checkpoint() == ()
    assert not tools.abilities(_soon()).actions
    assert tools.memory_used(_soon()) is None
    assert tools.state(7, _soon()) is State.UNKNOWN
    with pytest.raises(GpuError, match="no cuda-checkpoint") as caught:
        tools.act(Action.LOCK, 7, _soon())
    assert "CRIKPY_GPU_CUDA_CHECKPOINT" in caught.value.remedy


def test_what_the_tool_can_do_is_in_its_help(tmp_path: Path) -> None:
    found = parse_help(HELP)
    assert (found.version, found.actions, found.maps) == ("580.65.06", True, True)
    old = parse_help("Version 550.54.09. --toggle --pid <pid>")
    assert (old.version, old.actions, old.maps) == ("550.54.09", False, False)
    assert _tools(tmp_path, f"cat <<X\n{HELP}X").abilities(_soon()) == found


@pytest.mark.parametrize(
    ("said", "state"),
    [("running\n", State.RUNNING), ("checkpointed", State.CHECKPOINTED), ("failed\n", State.FAILED), ("", None)],
)
def test_states(tmp_path: Path, said: str, state: State | None) -> None:
    assert _tools(tmp_path, f"printf '{said}'").state(7, _soon()) is (state or State.UNKNOWN)
    assert _tools(tmp_path, f"printf '{said}'; exit 1").state(7, _soon()) is State.UNKNOWN


def test_memory_of_several_gpus_of_one_process_is_added_up(tmp_path: Path) -> None:
    tools = _tools(tmp_path, smi="printf '10, 1024\n11, 5\n10, 1\n12, [N/A]\n'")
    assert tools.memory_used(_soon()) == {10: 1025 << 20, 11: 5 << 20}


@given(st.text(max_size=300))
def test_no_answer_upsets_the_readers(text: str) -> None:
    parse_help(text)
    assert parse_state(text) in State
    assert all(pid >= 0 and used >= 0 for pid, used in parse_memory_used(text).items())
