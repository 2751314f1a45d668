"""A job hears an alarm that went off while it was saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from crikpy.settings import MIB
from tests.integration.capsules import until
from tests.integration.moving import Bench
from tests.integration.stores import WatchedStore

pytestmark = pytest.mark.criu

_ALARM = 1 << 13


def _rings(pid: int) -> bool:
    """Say whether an alarm has gone off of which a process has not been told."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return any(int(line.split()[1], 16) & _ALARM for line in lines if line.startswith("ShdPnd:"))


def test_an_alarm_that_goes_off_while_the_memory_is_read_rings_after_the_move(container_bench: Bench) -> None:
    bench = container_bench
    bench.settings = replace(bench.settings, store=replace(bench.settings.store, memory_bytes=224 * MIB))
    job = bench.begin("alarm", 160, 3)
    (pid,) = job.members()
    store = WatchedStore(bench.store, before_chunk=lambda: until(lambda: _rings(pid), "the alarm"))
    manifest = bench.save(job, store=store)
    moved = bench.resume(manifest)
    assert moved.expect("rang") == "rang 1 160"
    assert moved.wait() == 0
