"""What `crikpy top` shows of the jobs of this machine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.machines import NAME, Machine

pytestmark = pytest.mark.criu


def top(machine: Machine, *words: str) -> list[dict[str, Any]]:
    done = machine.crikpy("top", *words, "--output", "json")
    assert done.status == 0, done.err
    found: list[dict[str, Any]] = json.loads(done.out)
    return found


def test_a_job_is_shown_with_what_saving_it_would_cost(machine: Machine) -> None:
    run = machine.start("ending", 7)
    (row,) = top(machine)
    assert (row["job"], row["able"], row["rates"], row["last_s"]) == (NAME, True, "assumed", None)
    assert row["memory_bytes"] > 0
    assert row["processes"] == 1
    assert (row["stored_bytes"], row["write_bytes"]) == (0, row["memory_bytes"])
    assert 0 < row["share"] < 1
    assert top(machine, "another") == []
    shown = machine.crikpy("top")
    assert NAME in shown.out
    assert "~ by an assumed throughput" in shown.out
    run.kill()


def test_what_the_store_has_already_of_a_job_need_not_be_written_again(machine: Machine) -> None:
    run = machine.start("memory", 16, 0)
    for _ in range(2):  # one does not tell how much changes between two
        assert machine.crikpy("checkpoint", NAME, "--leave-running").status == 0
    (row,) = top(machine)
    assert row["last_s"] >= 0
    assert row["stored_bytes"] > row["write_bytes"]
    run.kill()


def test_where_no_job_runs_it_says_where_else_to_look(machine: Machine) -> None:
    shown = machine.crikpy("top")
    assert (shown.status, shown.out) == (0, "")
    assert "crikpy top pods" in shown.err
