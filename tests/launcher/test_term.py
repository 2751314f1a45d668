"""SIGTERM: the agents are asked first, and no silence keeps it from the job."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.launcher.capsule import Capsule, until
from tests.launcher.conftest import Start

ENDS_BY_TERM = ("sh", "-c", "trap 'exit 5' TERM; echo ready; sleep 1000 & wait")
OUTLIVES_TERM = ("sh", "-c", "trap 'echo term' TERM; echo ready; while :; do sleep 0.02; done")


@pytest.fixture
def capsule(start: Start) -> Capsule:
    """A running job that exits 5 at SIGTERM; its launcher waits for agents' answers for ever."""
    capsule = start(*ENDS_BY_TERM, agent_wait=0)
    capsule.prints("ready")
    return capsule


def test_without_an_agent_it_goes_on_at_once(capsule: Capsule) -> None:
    capsule.signal(signal.SIGTERM)
    assert capsule.wait() == 5


def test_an_agent_that_left_is_not_asked(capsule: Capsule) -> None:
    capsule.connect().close()
    capsule.signal(signal.SIGTERM)
    assert capsule.wait() == 5


def test_every_agent_is_told_and_any_may_let_it_pass(capsule: Capsule) -> None:
    first, second = capsule.connect(), capsule.connect()
    capsule.signal(signal.SIGTERM)
    assert [first.event(), second.event()] == ["event term"] * 2
    assert second.ask("status").startswith("ok running ")
    assert second.ask("term pass").startswith("ok running ")
    assert [first.event(), second.event()] == ["event ended 5"] * 2
    assert capsule.wait() == 5


def test_silence_lets_it_pass_after_the_wait(start: Start) -> None:
    capsule = start(*ENDS_BY_TERM, agent_wait=0, term_wait=1)
    capsule.prints("ready")
    peer = capsule.connect()
    capsule.signal(signal.SIGTERM)
    assert [peer.event(), peer.event()] == ["event term", "event ended 5"]
    assert capsule.wait() == 5


def test_no_wait_means_no_asking(start: Start) -> None:
    capsule = start(*ENDS_BY_TERM, agent_wait=0, term_wait=0)
    capsule.prints("ready")
    peer = capsule.connect()
    capsule.signal(signal.SIGTERM)
    assert [peer.event(), peer.event()] == ["event term", "event ended 5"]


def test_the_last_agents_death_lets_it_pass_at_once(capsule: Capsule) -> None:
    first, second = capsule.connect(), capsule.connect()
    capsule.signal(signal.SIGTERM)
    assert second.event() == "event term"
    first.close()
    assert second.ask("status").startswith("ok running ")
    second.close()
    assert capsule.wait() == 5


def test_an_agent_keeps_it_back_beyond_the_wait_until_it_lets_it_pass(start: Start) -> None:
    capsule = start(*OUTLIVES_TERM, agent_wait=0, term_wait=1)
    capsule.prints("ready")
    peer = capsule.connect()
    capsule.signal(signal.SIGTERM)
    assert peer.event() == "event term"
    assert peer.ask("term hold").startswith("ok running ")
    assert start("true", agent_wait=2, socket_path=capsule.socket_path.with_name("b")).wait() == 0
    assert capsule.stdout == "ready\n"
    assert peer.ask("term hold").startswith("ok running ")
    assert peer.ask("term pass").startswith("ok running ")
    capsule.prints("ready\nterm\n")


def test_only_its_keeper_decides(capsule: Capsule) -> None:
    keeper, other = capsule.connect(), capsule.connect()
    capsule.signal(signal.SIGTERM)
    assert keeper.event() == "event term"
    keeper.ask("term hold")
    assert other.ask("term hold") == other.ask("term pass") == "error held by another connection"
    keeper.close()
    assert capsule.wait() == 5


def test_a_second_one_is_told_and_kept_back_as_well(capsule: Capsule) -> None:
    peer = capsule.connect()
    for _ in range(2):
        capsule.signal(signal.SIGTERM)
        assert peer.event() == "event term"
        assert peer.ask("term hold").startswith("ok running ")
    peer.ask("term pass")
    assert peer.event() == "event ended 5"


def test_there_is_nothing_to_decide_without_one(start: Start) -> None:
    capsule = start(*OUTLIVES_TERM, agent_wait=0)
    capsule.prints("ready")
    peer = capsule.connect()
    assert peer.ask("term pass") == peer.ask("term hold") == "error state has no pending SIGTERM"
    capsule.signal(signal.SIGTERM)
    assert peer.event() == "event term"
    assert peer.ask("term pass").startswith("ok running ")
    assert peer.ask("term pass") == "error state has no pending SIGTERM"


def test_the_jobs_end_settles_it(capsule: Capsule) -> None:
    peer = capsule.connect()
    peer.ask("hold")
    capsule.signal(signal.SIGTERM)
    assert peer.event() == "event term"
    peer.ask("term hold")
    capsule.job.kill()
    assert peer.event() == "event ended 137"
    assert peer.ask("term pass") == "error state has no pending SIGTERM"
    peer.ask("release 75")
    assert capsule.wait() == 75


def test_after_the_jobs_end_the_holder_hears_of_it_and_nothing_else_happens(start: Start) -> None:
    capsule = start("sh", "-c", "exit 9")
    peer = capsule.connect()
    peer.ask("hold")
    peer.ask("start")
    assert peer.event() == "event ended 9"
    capsule.signal(signal.SIGTERM)
    assert peer.event() == "event term"
    assert peer.ask("term hold") == "error state has no pending SIGTERM"
    assert peer.ask("release").startswith("ok ended ")
    assert capsule.wait() == 9


def test_before_the_start_the_launcher_exits(start: Start) -> None:
    capsule = start("echo", "started")
    peer = capsule.connect()
    capsule.signal(signal.SIGTERM)
    assert peer.event() == "event term"
    assert capsule.wait() == 143
    assert capsule.stdout == ""


@pytest.mark.parametrize("last_word", ["term pass", "release", None])
def test_before_the_start_a_hold_delays_the_exit(start: Start, last_word: str | None) -> None:
    capsule = start("echo", "started")
    peer = capsule.connect()
    peer.ask("hold")
    capsule.signal(signal.SIGTERM)
    assert peer.event() == "event term"
    assert peer.ask("term hold") == "ok waiting 0 -1"
    if last_word is None:
        peer.close()
    else:
        peer.send(last_word.encode() + b"\n")
    assert capsule.wait() == 143
    assert capsule.stdout == ""


def test_before_the_start_a_silent_holder_delays_the_exit_by_the_wait(start: Start) -> None:
    capsule = start("echo", "started", term_wait=1)
    peer = capsule.connect()
    peer.ask("hold")
    capsule.signal(signal.SIGTERM)
    assert peer.event() == "event term"
    assert capsule.wait() == 143
    assert capsule.stdout == ""


def test_one_that_was_kept_back_during_a_restore_reaches_the_restored_job(start: Start, folder: Path) -> None:
    capsule = start("echo", "cold")
    peer = capsule.connect()
    peer.ask("hold")
    pid = capsule.spawn_child(f"trap 'exit 8' TERM; touch {folder}/ready; sleep 1000 & wait")
    until((folder / "ready").exists, "the restored job")
    capsule.signal(signal.SIGTERM)
    assert peer.event() == "event term"
    assert peer.ask("term hold") == "ok waiting 0 -1"
    assert peer.ask(f"adopt {pid}") == f"ok running {pid} -1"
    assert peer.ask("release") == peer.ask("term pass") == f"ok running {pid} -1"
    assert peer.event() == "event ended 8"
    assert capsule.wait() == 8
