"""What is told of a job that `crikpy run` saves and resumes: JSON lines about it, one trace over both machines."""

from __future__ import annotations

import json
import signal
import socket
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from crikpy import names
from crikpy.errors import CheckpointNotFoundError, NoSuchBucketError, SettingsError
from tests.cli.machines import NAME, Machine
from tests.cli.shelf import Typist
from tests.fakes.collector import Told, collecting
from tests.integration.capsules import job_words

pytestmark = pytest.mark.criu

_WORKLOAD = "/".join((*names.PLAIN_GROUP, NAME))
_SAVE = ["prepare", "announce", "freeze", "dump", "store", "commit"]
_RESUME = ["compare", "claim", "restore", "adopt", "go on"]
_BESIDE = ("upload", "download", "files")
"""What goes on beside the steps of an act."""


def test_a_job_that_moves_is_told_of_by_json_lines_and_one_trace(
    machine: Machine, other: Machine, folder: Path
) -> None:
    with collecting(folder) as collector:
        asked = {**collector.environment, "CRIKPY_LOG_FORMAT": "json"}
        run = machine.run(
            *job_words("memory", 8, 1), options=("--log-format", "json"), changes=collector.environment
        )
        run.expect("ready")
        saved = run.terminate()
        assert saved.status == names.EXIT_CHECKPOINTED, saved.err
        resumed = other.run("false", changes=asked)
        resumed.hear('"resumed"')
        ended = resumed.finish()
        assert ended.status == 0, ended.err
        spans = collector.spans()
    checkpoint = machine.newest()
    _require_one_trace(spans, checkpoint)
    _require_lines(saved.err, ended.err, checkpoint, spans[0].trace)


def _require_one_trace(spans: list[Told], checkpoint: str) -> None:
    found = {told.name: told for told in spans}
    rescue, save, resume = (found[name] for name in ("rescue", "save", "resume"))
    assert {told.trace for told in spans} == {rescue.trace}
    assert rescue.parent == ""
    assert save.parent == resume.parent == rescue.span
    assert (_steps(spans, save), _steps(spans, resume)) == (_SAVE, _RESUME)
    assert (found["upload"].parent, found["download"].parent) == (save.span, resume.span)
    assert rescue.start <= save.start <= save.end <= rescue.end <= resume.start <= resume.end
    assert (rescue.service, found["hold"].service) == ("crikpy-run", "crikpy-launcher")
    for told in (save, resume, found["freeze"], found["claim"]):
        assert told.attributes["crikpy.checkpoint"] == checkpoint
        assert told.attributes["crikpy.workload"] == _WORKLOAD
    assert save.attributes["crikpy.trigger"] == "NodeShutdown"
    assert 0 < save.attributes["crikpy.stored_bytes"] <= save.attributes["crikpy.image_bytes"]
    assert found["upload"].attributes["crikpy.chunks"] > 0
    assert found["download"].attributes["crikpy.wire_bytes"] > 0


def _steps(spans: list[Told], act: Told) -> list[str]:
    """Return the names of an act's own steps in the order in which they began."""
    ours = (told for told in spans if told.parent == act.span and told.service == act.service)
    return [told.name for told in ours if told.name not in _BESIDE]


def _require_lines(saved: str, ended: str, checkpoint: str, trace: str) -> None:
    here, there = _lines(saved), _lines(ended)
    for line in [*here, *there]:
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
        assert (line["level"], line["component"], line["workload"]) == ("info", "run", _WORKLOAD)
        assert line["logger"].startswith("crikpy")
        assert line["message"]
    told = [_event(here, name) for name in ("frozen", "streamed", "committed")]
    told += [_event(there, name) for name in ("claimed", "resumed")]
    assert [(line["checkpoint"], line["trace_id"]) for line in told] == [(checkpoint, trace)] * len(told)
    assert told[0]["trigger"] == "NodeShutdown"
    assert "checkpoint" not in _event(here, "started")


def _lines(text: str) -> list[dict[str, Any]]:
    """Return what standard error holds, every line of it JSON."""
    return [json.loads(line) for line in text.splitlines()]


def _event(lines: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(line for line in lines if line.get("event") == name)


def test_a_job_that_is_not_saved_is_a_rescue_that_failed(machine: Machine, folder: Path) -> None:
    with collecting(folder) as collector:
        run = machine.run(*job_words("memory", 8, 1), changes=collector.environment)
        run.expect("ready")
        store = Path(machine.store)
        store.rename(store.with_name("away"))
        store.touch()
        run.signal(signal.SIGTERM)
        run.hear("the job was not saved and runs on")
        store.unlink()
        store.with_name("away").rename(store)
        run.terminate()
        found = {told.name: told for told in collector.spans()}
    assert "is not a directory" in found["rescue"].error
    assert found["rescue"].attributes["error.type"] == NoSuchBucketError.reason
    assert found["rescue"].attributes["crikpy.remedy"]
    assert "commit" not in found


def test_a_collector_that_never_answers_concerns_no_rescue(machine: Machine, other: Machine) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{deaf.getsockname()[1]}"}
        text = {**asked, "CRIKPY_LOG_FORMAT": "json"}
        run = machine.run(*job_words("memory", 8, 1), options=("--log-format", "text"), changes=text)
        run.expect("ready")
        saved = run.terminate()
        assert saved.status == names.EXIT_CHECKPOINTED, saved.err
        assert "crikpy: the job stands still\n" in saved.err
        resumed = other.run("false", changes=asked)
        resumed.hear("the job goes on")
        resumed.prove()
        ended = resumed.finish()
        assert ended.status == 0, ended.err
    assert "Traceback" not in saved.err + ended.err


def test_an_error_at_the_end_is_a_line_of_the_log_with_class_status_and_remedy(machine: Machine) -> None:
    ended = machine.crikpy("--log-format", "json", "restore", NAME, "--store", machine.store)
    (line,) = [line for line in _lines(ended.err) if "error" in line]
    assert ended.status == line["exit_code"] == CheckpointNotFoundError.exit_code
    assert (line["level"], line["error"]) == ("error", CheckpointNotFoundError.reason)
    assert line["remedy"]
    datetime.fromisoformat(line["time"])


@pytest.mark.parametrize(("name", "value"), [("CRIKPY_LOG_FORMAT", "xml"), ("CRIKPY_LOG_LEVEL", "loud")])
def test_a_setting_that_names_no_format_or_level_is_refused(typed: Typist, name: str, value: str) -> None:
    typed.environment.setenv(name, value)
    typed("list", "--store", "/nowhere").require(SettingsError, f"{name}='{value}'")
