"""The clock on the agent's wall jumps by hours: no deadline comes early, none never, and no name is lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crikpy.errors import DeadlineError
from tests.chaos.clocks import WallClock
from tests.chaos.recording import Record
from tests.chaos.subject import RESUMED, SAVED, Subject
from tests.integration.moving import Bench
from tests.integration.processes import Agent

pytestmark = [pytest.mark.criu, pytest.mark.chaos]

_SHORT_S = 2.0


@pytest.fixture
def clock(folder: Path) -> WallClock:
    """A clock that is right so far."""
    return WallClock(folder)


def words(hours: int) -> str:
    """Describe a jump."""
    return f"the wall clock jumps {abs(hours)} hours {'forwards' if hours > 0 else 'back'}"


@pytest.mark.parametrize(("moment", "hours"), [("frozen", 5), ("chunk", 5), ("chunk", -5)])
def test_when_the_clock_jumps_while_a_job_is_saved(
    plain_bench: Bench, local: Subject, clock: WallClock, record: Record, moment: str, hours: int
) -> None:
    job = plain_bench.begin("memory", 24, 1)
    with Agent(plain_bench, job, "save", pause=moment, before=clock.followed()) as agent:
        agent.await_pause()
        clock.jump(hours)
        agent.go_on()
        agent.result()
    newest = plain_bench.checkpoints.newest_resumable()
    assert newest is not None
    wrong_by = datetime.fromisoformat(newest.created) - datetime.now(UTC)
    assert abs(wrong_by / timedelta(hours=1) - hours) < 1, "its clock never jumped"
    local.check_saved(job, SAVED)
    record("save", f"{words(hours)} ({moment})", SAVED)


@pytest.mark.parametrize("hours", [5, -5])
def test_when_the_clock_jumps_while_a_job_is_resumed(
    plain_bench: Bench, local: Subject, clock: WallClock, record: Record, hours: int
) -> None:
    job = plain_bench.begin("memory", 24, 1)
    manifest = plain_bench.save(job)
    capsule = plain_bench.vacant()
    with Agent(
        plain_bench,
        capsule,
        "resume",
        checkpoint=manifest.checkpoint,
        pause="chunk",
        before=clock.followed(),
    ) as agent:
        agent.await_pause()
        clock.jump(hours)
        agent.go_on()
        agent.result()
    capsule.prove()
    local.check_used_up(manifest)
    assert capsule.finish() == 0
    record("restore", f"{words(hours)} (chunk)", RESUMED)


def test_when_the_clock_jumps_back_and_the_store_hangs_while_a_job_is_saved(
    plain_bench: Bench, local: Subject, clock: WallClock, record: Record
) -> None:
    job = plain_bench.begin("memory", 24, 1)
    with Agent(plain_bench, job, "save", pause="chunk", before=clock.followed(), within_s=_SHORT_S) as agent:
        agent.await_pause()
        clock.jump(-5)
        assert agent.wait() == DeadlineError.exit_code
    local.check_saved(job, DeadlineError.__name__)
    record("save", f"{words(-5)}, and the store hangs (chunk)", DeadlineError.__name__)


def test_when_the_clock_jumps_back_and_the_store_hangs_while_a_job_is_resumed(
    plain_bench: Bench, clock: WallClock, record: Record
) -> None:
    job = plain_bench.begin("memory", 24, 1)
    manifest = plain_bench.save(job)
    capsule = plain_bench.vacant()
    with Agent(
        plain_bench,
        capsule,
        "resume",
        checkpoint=manifest.checkpoint,
        pause="chunk",
        before=clock.followed(),
        within_s=_SHORT_S,
    ) as agent:
        agent.await_pause()
        clock.jump(-5)
        assert agent.wait() == DeadlineError.exit_code
    capsule.expect("ready")
    capsule.prove()
    assert plain_bench.checkpoints.newest_resumable() is None
    assert capsule.finish() == 0
    record("restore", f"{words(-5)}, and the store hangs (chunk)", DeadlineError.__name__)
