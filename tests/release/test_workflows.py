"""GitHub's workflows run what people run, take nobody's actions by a tag, and have no more rights than needed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").iterdir())

Json = dict[str, Any]


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request: pytest.FixtureRequest) -> Json:
    """One workflow."""
    found: Json = yaml.safe_load(request.param.read_text())
    return found


def steps(workflow: Json) -> list[Json]:
    return [step for job in workflow["jobs"].values() for step in job.get("steps", ())]


def test_actions_of_others_are_pinned_by_commit(workflow: Json) -> None:
    used = [each["uses"] for each in (*steps(workflow), *workflow["jobs"].values()) if "uses" in each]
    for action in used:
        assert action.startswith("./.github/workflows/") or re.search(r"@[0-9a-f]{40}$", action), action


def test_nothing_but_a_job_that_says_so_may_write(workflow: Json) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert "write" not in job.get("permissions", {}).values() or job.get("environment") == "release", name


def test_what_is_run_is_there_and_passes_shellcheck(workflow: Json) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    if not shellcheck.exists():
        pytest.skip("needs shellcheck: hack/setup lint installs it")
    for step in steps(workflow):
        script = re.sub(r"\$\{\{.*?\}\}", "x", step["run"])
        assert script == step["run"], f"{step['name']}: give it by `env`, so that nothing is pasted into a script"
        done = subprocess.run(
            [shellcheck, "--shell=bash", "-"], input=script, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stdout
        for program in re.findall(r"^(?:hack/|\.ci/)\S+", script, re.MULTILINE):
            assert (ROOT / program).exists(), program


def test_ci_runs_what_ci_elsewhere_runs() -> None:
    assert [step["run"] for step in steps(yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text()))][
        -1
    ] == ".ci/run"
