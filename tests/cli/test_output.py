"""What `crikpy run` writes: the job's output whole and in order, its own story beside it, JSON for programs."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest

from crikpy import names
from crikpy.errors import CheckpointNotFoundError, SettingsError
from tests.cli.conftest import Imds
from tests.cli.machines import NAME, Machine
from tests.integration.capsules import job_words, until

pytestmark = pytest.mark.criu


def test_the_jobs_output_is_complete_and_in_order_across_a_move(machine: Machine) -> None:
    first = machine.run(*job_words("lines"))
    until(lambda: first.stdout.text().count("\n") > 1000, "a thousand lines")
    before = first.terminate()
    assert before.status == names.EXIT_CHECKPOINTED
    second = machine.run("false")
    until(lambda: second.stdout.text().count("\n") > 1000, "a thousand more")
    after = second.finish()
    assert after.status == 0
    out = (before.out + after.out).splitlines()
    err = [line for line in (before.err + after.err).splitlines() if not line.startswith("crikpy: ")]
    for lines in (out, err):
        assert lines.pop() == "end"
        assert lines == [str(number) for number, _ in zip(count(), lines, strict=False)]


def test_output_into_a_file_is_complete_and_in_order_across_a_move(machine: Machine, tmp_path: Path) -> None:
    file, words = tmp_path / "out", ("run", "--name", NAME, "--store", machine.store, "--", *job_words("lines"))
    file.touch()

    def grows() -> None:
        before = file.read_bytes().count(b"\n")
        until(lambda: file.read_bytes().count(b"\n") > before + 1000, "a thousand lines")

    first = machine.begin_into(file, *words)
    grows()
    assert first.terminate().status == names.EXIT_CHECKPOINTED
    second = machine.begin_into(file, *words)
    grows()
    assert second.finish().status == 0
    *lines, end = file.read_text().splitlines()
    assert end == "end"
    assert lines == [str(number) for number in range(len(lines))]


def test_a_pipe_gets_no_progress_bars_and_only_lines_of_ours(machine: Machine) -> None:
    ended = machine.start("memory", 64, 0).terminate()
    resumed = machine.run("false")
    resumed.hear("the job goes on")
    ended_again = resumed.finish()
    for text in (ended.err, ended_again.err):
        assert "\x1b" not in text
        assert "\r" not in text
        assert all(line.startswith("crikpy: ") for line in text.splitlines())


def test_a_terminal_gets_progress_bars(machine: Machine) -> None:
    run = machine.start("memory", 64, 0)
    shown = machine.begin_on_terminal("checkpoint", NAME)
    ended = shown.wait()
    assert ended.status == 0
    assert "to the store" in ended.out
    assert run.wait().status == names.EXIT_CHECKPOINTED


def test_every_line_of_json_output_is_an_object_logged_ones_too(machine: Machine, imds: Imds) -> None:
    run = machine.start("ending", 0, options=("--output", "json"))
    imds.tell("rebalance")
    run.hear("running-on")
    imds.tell("trouble", kind="503")
    run.hear("no interruption notices for now")
    lines = [json.loads(line) for line in run.finish().err.splitlines()]
    events = [line["event"] for line in lines if "event" in line]
    assert events == ["started", "notice", "frozen", "thawed", "streamed", "committed", "running-on"]
    assert {line["level"] for line in lines if "event" not in line} == {"info", "warning"}
    assert all(line["message"] for line in lines)


def test_an_error_is_one_json_object_when_json_is_asked_for(machine: Machine) -> None:
    ended = machine.of_store("restore", NAME, "--output=json")
    assert ended.status == CheckpointNotFoundError.exit_code
    assert ended.out == ""
    facts = json.loads(ended.err)
    assert facts["error"] == CheckpointNotFoundError.reason
    assert facts["exit_code"] == CheckpointNotFoundError.exit_code
    assert NAME in facts["message"]
    assert facts["remedy"]


def test_the_words_of_the_job_do_not_decide_how_crikpy_speaks(machine: Machine) -> None:
    changes = {"CRIKPY_RUN_LEASE_S": "soon"}
    ended = machine.run("true", "--output", "json", changes=changes).wait()
    ended.require(SettingsError, "CRIKPY_RUN_LEASE_S='soon'")


def test_the_job_does_not_see_settings_of_ours_and_sees_its_own_temporary_directory(machine: Machine) -> None:
    ended = machine.run("env").wait()
    found = dict(line.split("=", 1) for line in ended.out.splitlines())
    assert found["TMPDIR"] == str(machine.lib_dir / NAME / "tmp")
    # By the one of ours, its own hooks listen there (docs/hooks.md).
    assert [name for name in found if name.startswith(names.ENV_PREFIX)] == [names.JOB_DIR_VARIABLE]
