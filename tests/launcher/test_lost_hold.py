"""An agent that dies in the middle: the job runs on, or starts cold, or the launcher ends as the job did."""

from __future__ import annotations

import signal

import psutil

from tests.launcher.capsule import Capsule, names, until
from tests.launcher.conftest import Start


def stop_all(capsule: Capsule) -> None:
    """Stop the job's tree, as a dump does that is to leave it stopped."""
    tree = capsule.first.children(recursive=True)
    for process in tree:
        process.send_signal(signal.SIGSTOP)
    until(lambda: all(process.status() == psutil.STATUS_STOPPED for process in tree), "a stopped tree")


def runs(capsule: Capsule) -> bool:
    """Tell whether no process of the job is stopped."""
    return all(child.status() != psutil.STATUS_STOPPED for child in capsule.first.children(recursive=True))


def test_a_tree_that_the_dump_left_stopped_runs_on(start: Start) -> None:
    capsule = start("sh", "-c", "sleep 1000 & sleep 1001", agent_wait=0)
    # By name: a child that is stopped before it executes its program keeps its parent from being stopped.
    until(lambda: names(capsule.first) == ["sh", "sleep", "sleep"], "the job's tree")
    peer = capsule.connect()
    peer.ask("hold")
    stop_all(capsule)
    peer.close()
    until(lambda: runs(capsule), "a running tree")
    assert capsule.ask("status").startswith("ok running ")


def test_a_dump_that_stops_the_tree_after_its_agents_death_does_not_keep_it_stopped(start: Start) -> None:
    capsule = start("sleep", "1000", agent_wait=0)
    peer = capsule.connect()
    peer.ask("hold")
    stop_all(capsule)
    peer.close()
    until(lambda: runs(capsule), "a running tree")
    stop_all(capsule)
    until(lambda: runs(capsule), "a running tree again")


def test_a_new_hold_ends_the_waking_of_the_old_one(start: Start) -> None:
    capsule = start("sleep", "1000", agent_wait=0)
    peer = capsule.connect()
    peer.ask("hold")
    stop_all(capsule)
    peer.close()
    until(lambda: runs(capsule), "a running tree")
    heir = capsule.connect()
    heir.ask("hold")
    stop_all(capsule)
    # Another capsule of a wait of one second outlasts two intervals of waking.
    assert start("true", agent_wait=1, socket_path=capsule.socket_path.with_name("b")).wait() == 0
    assert not runs(capsule)


def test_an_orderly_release_wakes_nobody(start: Start) -> None:
    capsule = start("sleep", "1000", agent_wait=0)
    peer = capsule.connect()
    peer.ask("hold")
    stop_all(capsule)
    peer.ask("release")
    peer.close()
    assert start("true", agent_wait=1, socket_path=capsule.socket_path.with_name("b")).wait() == 0
    assert not runs(capsule)


def test_after_the_jobs_end_the_launcher_exits_as_the_job_did(start: Start) -> None:
    capsule = start("sh", "-c", "exit 9")
    peer = capsule.connect()
    peer.ask("hold")
    peer.ask("start")
    assert peer.event() == "event ended 9"
    peer.close()
    assert capsule.wait() == 9


def test_what_a_restore_left_half_done_is_gone_when_the_job_starts_cold(start: Start) -> None:
    capsule = start("sh", "-c", "echo cold; exec sleep 1000")
    peer = capsule.connect()
    peer.ask("hold")
    capsule.spawn_child("sleep 1001 & setsid sleep 1002 & wait")
    until(lambda: len(capsule.first.children(recursive=True)) == 3, "a half-restored tree")
    peer.close()
    capsule.prints("cold")
    until(lambda: names(capsule.first) == ["sleep"], "only the job")
    assert capsule.job.cmdline() == ["sleep", "1000"]


def test_a_mere_guest_in_a_namespace_kills_nobody(start: Start) -> None:
    as_guest = ["sh", "-c", 'sleep 1001 & "$@"; echo "status $?"; kill -0 $! && echo survived', "-"]
    capsule = start("sh", "-c", "echo cold; exit 3", before=as_guest)
    peer = capsule.connect()
    peer.ask("hold")
    peer.close()
    capsule.prints("survived")
    assert capsule.stdout == "cold\nstatus 3\nsurvived\n"


def test_the_loss_of_a_connection_that_does_not_hold_changes_nothing(start: Start) -> None:
    capsule = start("true")
    peer, watcher = capsule.connect(), capsule.connect()
    peer.ask("hold")
    capsule.spawn_child("exec sleep 1000")
    watcher.close()
    assert peer.ask("status") == "ok waiting 0 -1"
    assert len(capsule.first.children()) == 1


def test_a_peer_that_dies_in_mid_message_loses_its_hold_and_the_message(start: Start) -> None:
    capsule = start("sh", "-c", "exit 9")
    peer = capsule.connect()
    peer.ask("hold")
    peer.ask("start")
    assert peer.event() == "event ended 9"
    peer.send(b"release 75")
    peer.close()
    assert capsule.wait() == 9


def test_the_hold_can_be_taken_again_after_its_loss(start: Start) -> None:
    capsule = start("sleep", "1000", agent_wait=0)
    for _ in range(3):
        peer = capsule.connect()
        until(lambda: peer.ask("hold").startswith("ok running "), "the hold")  # noqa: B023 (called at once)
        peer.close()
    assert capsule.ask("status").startswith("ok running ")
