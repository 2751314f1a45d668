"""Jobs of `crikpy run` that hear of their checkpoints, or save themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crikpy import names
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


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--mode", "application"), "directory"),
        (("--signal-before", "SIGKILL"), "SIGKILL"),
        (("--signal-after", "SIGTERM"), "SIGTERM"),
    ],
)
def test_what_cannot_be_is_refused(machine: Machine, options: tuple[str, ...], word: str) -> None:
    words = ("run", "--name", NAME, "--store", machine.store, *options, "--", "true")
    machine.crikpy(*words).require(UsageError, word)
