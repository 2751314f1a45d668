"""A moved job hears signals and ends as it would have ended without the move."""

from __future__ import annotations

import signal

import pytest

from tests.integration.moving import Bench

pytestmark = pytest.mark.criu


@pytest.mark.parametrize(
    ("ending", "status"),
    [("0", 0), ("3", 3), ("SIGKILL", 137), ("SIGABRT", 134)],
)
def test_the_capsule_ends_with_the_status_of_the_moved_job(bench: Bench, ending: str, status: int) -> None:
    moved = bench.move(bench.begin("ending", ending))
    assert moved.finish() == status


def test_a_moved_job_catches_and_ignores_signals_as_before(bench: Bench) -> None:
    moved = bench.move(bench.begin("ending", 0))
    moved.signal(signal.SIGHUP)
    moved.signal(signal.SIGWINCH)
    moved.prove()
    assert "caught 1\n" in moved.stdout.text()
    moved.signal(signal.SIGTERM)
    assert moved.wait() == 128 + signal.SIGTERM
