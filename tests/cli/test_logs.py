"""What `crikpy run` logs while a job is saved and resumed: JSON or text, by option or setting, about this job."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from crikpy import names
from crikpy.errors import CheckpointNotFoundError, SettingsError
from tests.cli.machines import NAME, Machine
from tests.integration.capsules import job_words

pytestmark = pytest.mark.criu

_WORKLOAD = "/".join((*names.PLAIN_GROUP, NAME))


def _lines(text: str) -> list[dict[str, Any]]:
    """Return what standard error holds, every line of it JSON."""
    return [json.loads(line) for line in text.splitlines()]


def _event(lines: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(line for line in lines if line.get("event") == name)


def test_a_whole_rescue_is_json_lines_that_say_whose_they_are(machine: Machine, other: Machine) -> None:
    run = machine.run(*_job(), options=("--log-format", "json"))
    run.expect("ready")
    saved = run.terminate()
    assert saved.status == names.EXIT_CHECKPOINTED, saved.err
    resumed = other.run("false", changes={"CRIKPY_LOG_FORMAT": "json"})
    resumed.hear('"resumed"')
    ended = resumed.finish()
    assert ended.status == 0, ended.err
    here, there = _lines(saved.err), _lines(ended.err)
    for line in [*here, *there]:
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
        assert line["level"] == "info"
        assert line["logger"].startswith("crikpy")
        assert line["message"]
        assert (line["component"], line["workload"]) == ("run", _WORKLOAD)
    checkpoint = machine.newest()
    frozen, committed = _event(here, "frozen"), _event(here, "committed")
    assert (frozen["checkpoint"], committed["checkpoint"]) == (checkpoint, checkpoint)
    assert frozen["trigger"] == "NodeShutdown"
    assert "checkpoint" not in _event(here, "started")
    assert [_event(there, name)["checkpoint"] for name in ("claimed", "resumed")] == [checkpoint, checkpoint]


def test_text_is_as_ever_and_records_name_the_workload(machine: Machine) -> None:
    run = machine.run(*_job(), options=("--log-format", "text"), changes={"CRIKPY_LOG_FORMAT": "json"})
    run.expect("ready")
    ended = run.terminate()
    assert "crikpy: the job stands still\n" in ended.err
    assert not [line for line in ended.err.splitlines() if line.startswith("{")]


def test_an_error_at_the_end_is_a_line_of_the_log_with_class_status_and_remedy(machine: Machine) -> None:
    ended = machine.crikpy("--log-format", "json", "restore", NAME, "--store", machine.store)
    (line,) = [line for line in _lines(ended.err) if "error" in line]
    assert ended.status == line["exit_code"] == CheckpointNotFoundError.exit_code
    assert (line["level"], line["error"]) == ("error", CheckpointNotFoundError.reason)
    assert line["remedy"]
    datetime.fromisoformat(line["time"])


@pytest.mark.parametrize(("name", "value"), [("CRIKPY_LOG_FORMAT", "xml"), ("CRIKPY_LOG_LEVEL", "loud")])
def test_a_setting_that_names_no_format_or_level_is_refused(machine: Machine, name: str, value: str) -> None:
    ended = machine.crikpy("list", "--store", machine.store, changes={name: value})
    ended.require(SettingsError, f"{name}='{value}'")


def _job() -> tuple[str, ...]:
    return job_words("memory", 8, 1)
