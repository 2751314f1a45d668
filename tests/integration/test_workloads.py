"""The matrix of workloads tries a program as it says it does: here one, on this machine's own root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crikpy.settings import Settings

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.criu


def _matrix(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, ROOT / "hack/bench.d/workloads.py", *words),
        capture_output=True,
        text=True,
        timeout=110,
        env=dict(os.environ),
    )


@pytest.mark.usefixtures("settings")
def test_a_shell_script_is_resumed_with_the_output_of_an_undisturbed_one(settings: Settings) -> None:
    kept = (ROOT / "docs/workloads.json").read_text()
    done = _matrix("--on-this-machine", "bash")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("bash: resumed bit-exactly ")
    assert (ROOT / "docs/workloads.json").read_text() == kept, "a run on this machine's root keeps nothing"


def test_a_name_that_is_none_is_told() -> None:
    done = _matrix("no-such-program")
    assert done.returncode == 2
    assert "no such workload: no-such-program" in done.stderr
