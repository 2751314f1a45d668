"""What an agent may ask for: status, start, hold, release, adopt, and what each is refused for."""

from __future__ import annotations

import pytest

from tests.launcher.capsule import Capsule, Peer, until
from tests.launcher.conftest import Start


def job_pid(capsule: Capsule) -> int:
    """Wait for the PID that the job prints first."""
    until(lambda: "\n" in capsule.stdout, "the job's PID")
    return int(capsule.stdout.split()[0])


def end_job(capsule: Capsule, peer: Peer, pid: int) -> None:
    """Kill the job, as an agent does once its checkpoint stands."""
    capsule.process(pid).kill()
    assert peer.event() == "event ended 137"


def test_the_greeting_names_protocol_and_state(start: Start) -> None:
    capsule = start("sh", "-c", "echo $$; exec sleep 1000")
    peer = capsule.connect()
    assert peer.greeting == "crikpy-launch 1 waiting 0 -1"
    peer.ask("start")
    pid = job_pid(capsule)
    assert capsule.greeting() == f"crikpy-launch 1 running {pid} -1"
    peer.ask("hold")
    end_job(capsule, peer, pid)
    assert capsule.greeting() == f"crikpy-launch 1 ended {pid} 137"


def test_start_starts_the_job_now_and_only_once(start: Start) -> None:
    capsule = start("sh", "-c", "echo $$; exec sleep 1000")
    peer = capsule.connect()
    answer = peer.ask("start")
    assert answer == f"ok running {job_pid(capsule)} -1"
    assert peer.ask("start") == "error state is not waiting"
    assert peer.ask("status") == answer


def test_all_connections_hear_of_the_end(start: Start) -> None:
    capsule = start("sh", "-c", "exit 4")
    first, second = capsule.connect(), capsule.connect()
    first.ask("start")
    assert [first.event(), second.event()] == ["event ended 4"] * 2
    assert capsule.wait() == 4
    assert first.read_line() == ""


def test_while_held_the_job_does_not_start_by_itself(start: Start) -> None:
    capsule = start("true", agent_wait=1)
    held, free = capsule.connect(), start("true", agent_wait=1, socket_path=capsule.socket_path.with_name("b"))
    assert held.ask("hold") == "ok waiting 0 -1"
    assert free.wait() == 0  # its wait began later, so the held one's is over too
    assert held.ask("status") == "ok waiting 0 -1"


def test_release_lets_the_wait_begin_anew(start: Start) -> None:
    capsule = start("true", agent_wait=1)
    peer = capsule.connect()
    peer.ask("hold")
    assert start("true", agent_wait=1, socket_path=capsule.socket_path.with_name("b")).wait() == 0
    assert peer.ask("release") == "ok waiting 0 -1"
    assert peer.ask("status") == "ok waiting 0 -1"
    assert peer.event() == "event ended 0"
    assert capsule.wait() == 0


def test_only_one_connection_holds(start: Start) -> None:
    capsule = start("sleep", "1000")
    first, second = capsule.connect(), capsule.connect()
    assert first.ask("hold") == first.ask("hold") == "ok waiting 0 -1"
    assert second.ask("hold") == "error held by another connection"
    assert second.ask("start") == "error held by another connection"
    assert second.ask("release") == "error unheld by this connection"
    assert second.ask("adopt 1") == "error unheld by this connection"
    assert first.ask("release") == "ok waiting 0 -1"
    assert first.ask("release") == "error unheld by this connection"
    assert second.ask("hold") == "ok waiting 0 -1"


def test_while_held_the_launcher_outlives_its_job_and_then_exits_as_told(start: Start) -> None:
    capsule = start("sh", "-c", "echo $$; exec sleep 1000", agent_wait=0)
    pid, peer = job_pid(capsule), capsule.connect()
    peer.ask("hold")
    end_job(capsule, peer, pid)
    assert capsule.alive()
    assert peer.ask("status") == f"ok ended {pid} 137"
    assert peer.ask("release 75") == f"ok ended {pid} 137"
    assert peer.read_line() == ""
    assert capsule.wait() == 75


@pytest.mark.parametrize(("request_line", "status"), [("release", 9), ("release 0", 0), ("release 255", 255)])
def test_release_after_the_end_exits_with_the_status(start: Start, request_line: str, status: int) -> None:
    capsule = start("sh", "-c", "exit 9")
    peer = capsule.connect()
    peer.ask("hold")
    peer.ask("start")
    assert peer.event() == "event ended 9"
    assert peer.ask(request_line).startswith("ok ended ")
    assert capsule.wait() == status


def test_a_status_while_the_job_runs_is_refused_and_the_hold_stays(start: Start) -> None:
    capsule = start("sleep", "1000", agent_wait=0)
    peer = capsule.connect()
    peer.ask("hold")
    assert peer.ask("release 75") == "error state is not ended"
    assert capsule.ask("hold") == "error held by another connection"
    assert peer.ask("release").startswith("ok running ")


@pytest.mark.parametrize("argument", ["256", "-1", "+1", "x", "1x", "", " 1", "1 2", "99999999999999999999"])
def test_release_refuses_what_is_no_exit_status(start: Start, argument: str) -> None:
    capsule = start("true")
    peer = capsule.connect()
    peer.ask("hold")
    assert peer.ask(f"release {argument}") == "error argument is out of range"
    assert capsule.ask("hold") == "error held by another connection"


@pytest.mark.parametrize(
    "request_line",
    [
        "",
        "stat",
        "statuses",
        "status ",
        " status",
        "STATUS",
        "start 1",
        "hold on",
        "adopt",
        "term",
        "term  pass",
        "%n",
    ],
)
def test_an_unknown_request_is_refused_and_the_connection_stays(start: Start, request_line: str) -> None:
    peer = start("true").connect()
    assert peer.ask(request_line) == "error unknown request"
    assert peer.ask("status") == "ok waiting 0 -1"


def test_a_restored_child_becomes_the_job(start: Start) -> None:
    capsule = start("echo", "cold")
    peer = capsule.connect()
    peer.ask("hold")
    pid = capsule.spawn_child("trap 'exit 21' USR1; sleep 1000 & wait")
    assert peer.ask(f"adopt {pid}") == f"ok running {pid} -1"
    assert peer.ask(f"adopt {pid}") == peer.ask("start") == "error state is not waiting"
    assert peer.ask("release") == f"ok running {pid} -1"
    until(lambda: len(capsule.process(pid).children()) == 1, "the restored job's child")
    capsule.signal(10)
    assert peer.event() == "event ended 21"
    assert capsule.wait() == 21
    assert capsule.stdout == ""


def test_the_job_is_its_root_alone_whatever_other_children_end(start: Start) -> None:
    capsule = start("echo", "cold")
    peer = capsule.connect()
    peer.ask("hold")
    job, other = capsule.spawn_child("exec sleep 1000"), capsule.spawn_child("exec sleep 1000")
    peer.ask(f"adopt {job}")
    capsule.process(other).kill()
    until(lambda: len(capsule.first.children()) == 1, "the other child reaped")
    assert peer.ask("status") == f"ok running {job} -1"


def spawn_child_that_ended(capsule: Capsule) -> int:
    """Leave a child behind that exits 7 once it is the launcher's own; return its PID inside when it is gone."""
    sign = capsule.socket_path.with_name("end")
    pid = capsule.spawn_child(f"until [ -e {sign} ]; do sleep 0.01; done; exit 7")
    sign.touch()
    until(lambda: not capsule.first.children(), "the child reaped")
    return pid


def test_a_restored_child_that_ended_at_once_is_adopted_with_its_status(start: Start) -> None:
    capsule = start("echo", "started a second time")
    peer = capsule.connect()
    peer.ask("hold")
    pid = spawn_child_that_ended(capsule)
    assert peer.ask(f"adopt {pid}") == f"ok ended {pid} 7"
    assert peer.event() == "event ended 7"
    peer.ask("release")
    assert capsule.wait() == 7
    assert capsule.stdout == ""


def test_a_child_of_an_earlier_hold_is_not_adopted(start: Start) -> None:
    capsule = start("true")
    peer = capsule.connect()
    peer.ask("hold")
    pid = spawn_child_that_ended(capsule)
    peer.ask("release")
    peer.ask("hold")
    assert peer.ask(f"adopt {pid}") == "error child with this PID does not exist"


@pytest.mark.parametrize("argument", ["0", "-1", "x", "", "2147483648", "99999999999999999999", "2 3"])
def test_adopt_refuses_what_is_no_pid(start: Start, argument: str) -> None:
    peer = start("true").connect()
    peer.ask("hold")
    assert peer.ask(f"adopt {argument}") == "error argument is out of range"


@pytest.mark.parametrize("pid", [1, 1024, 4242, 2147483647])
def test_adopt_refuses_what_is_no_child(start: Start, pid: int) -> None:
    peer = start("true").connect()
    peer.ask("hold")
    assert peer.ask(f"adopt {pid}") == "error child with this PID does not exist"
    assert peer.ask("status") == "ok waiting 0 -1"


def test_adopt_refuses_a_process_that_is_not_the_launchers_own_child(start: Start) -> None:
    capsule = start("true")
    peer = capsule.connect()
    peer.ask("hold")
    child = capsule.spawn_child("sleep 1000 & wait")
    until(lambda: len(capsule.process(child).children()) == 1, "a grandchild")
    assert peer.ask(f"adopt {child + 1}") == "error child with this PID does not exist"
