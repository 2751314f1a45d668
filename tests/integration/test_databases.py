"""What SQLite makes of a database that has travelled with the connection to it."""

from __future__ import annotations

import pytest

from crikpy.capsule.databases import cautions
from tests.integration.moving import Bench

pytestmark = pytest.mark.criu


def test_a_database_in_wal_mode_is_written_on_after_a_move(container_bench: Bench) -> None:
    job = container_bench.begin("databases", "wal")
    job.prove()
    assert cautions(list(job.members())) == ()
    moved = container_bench.move(job)
    moved.prove()
    assert moved.stdout.text().splitlines()[0] == "rows [1, 2]"


def test_one_with_a_rollback_journal_is_not_and_that_was_told_before(container_bench: Bench) -> None:
    job = container_bench.begin("databases", "delete")
    job.prove()
    (caution,) = cautions(list(job.members()))
    assert "/tmp/numbers.db" in caution
    moved = container_bench.move(job)
    moved.prove()
    assert moved.stdout.text().splitlines()[:2] == ["fault attempt to write a readonly database", "rows [1]"]
