"""Jobs of `crikpy run` that hear of their checkpoints, or save themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crikpy import names
from crikpy.cli.saving import save_options
from crikpy.errors import UsageError
from tests.cli.machines import NAME, Machine
from tests.integration.capsules import job_words

pytestmark = pytest.mark.criu


def test_a_job_saves_itself_at_sigterm_and_the_next_run_begins_with_its_files(
    machine: Machine, other: Machine, folder: Path
) -> None:
    kept = folder / "kept"
    options = ("--mode", "application", "--carry", str(kept))
    words = job_words("selfsaving", kept)
    first = machine.run(*words, options=options)
    first.expect("ready at 0")
    first.prove()
    ended = first.terminate()
    assert ended.status == names.EXIT_CHECKPOINTED
    (kept / "count").write_text("spoilt")  # another machine does not have it
    shown = json.loads(machine.of_store("show", NAME, "--output=json").out)
    assert shown["mode"] == "application"
    second = other.run(*words, options=options)
    second.expect("ready at 1")
    assert second.finish().status == 0


def test_checkpoint_obeys_what_run_was_told(machine: Machine, folder: Path) -> None:
    kept = folder / "kept"
    options = ("--mode", "application", "--carry", str(kept), "--application-signal", "SIGHUP")
    run = machine.run(*job_words("selfsaving", kept), options=options)
    run.expect("ready at 0")
    refused = machine.crikpy("checkpoint", NAME)
    assert "neither handles SIGHUP nor" in refused.err
    assert run.finish().status == 0


def test_what_was_saved_before_of_a_job_that_fails_to_save_itself_is_left_to_be_resumed(
    machine: Machine, folder: Path
) -> None:
    kept = folder / "kept"
    options = ("--mode", "application", "--carry", str(kept))
    run = machine.run(*job_words("selfsaving", kept, "call", "once"), options=options)
    run.expect("ready at 0")
    assert machine.crikpy("checkpoint", NAME, "--leave-running").status == 0
    ended = run.terminate()
    assert ended.status == 3
    assert "the job has ended with status 3" in ended.err
    assert machine.states() == ["resumable"]


WISHES: dict[str, Any] = {
    "mode": "auto",
    "hook_timeout": 10.0,
    "signal_before": None,
    "signal_wait": 5.0,
    "signal_after": None,
    "signal_restored": None,
    "application_signal": None,
}


@pytest.mark.parametrize(
    ("wish", "word"),
    [
        ({"mode": "application"}, "directory"),
        ({"signal_before": "SIGKILL"}, "SIGKILL"),
        ({"signal_after": "SIGTERM"}, "SIGTERM"),
        ({"application_signal": "SIGSTOP"}, "SIGSTOP"),
    ],
)
def test_what_cannot_be_is_refused(wish: dict[str, str], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        save_options((), **{**WISHES, **wish})
