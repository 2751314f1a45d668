"""Child processes: whatever they do, nothing of them is left when somebody wants them gone."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from crikpy.aio import children
from crikpy.aio.children import Child
from crikpy.aio.clock import Deadline
from crikpy.errors import DeadlineError

LONG = Deadline.after(86_400)
PATIENCE_S = 20.0
"""Longest wait for anything; reached only when a test fails."""

SOON_S = 0.3
"""A deadline that a test wants to pass."""

FORKS_ON_AND_ON = "n=0; while [ $n -lt 5000 ]; do (sleep 30 &); n=$((n + 1)); done"
"""Each sleeper's parent ends at once, so that it is nobody's descendant any more. Bounded, lest a failing test
take the machine along."""

_TRACES_ITS_PARENT = """
import ctypes, os, time
parent = os.getppid()
assert ctypes.CDLL(None).ptrace(0x4206, parent, None, None) == 0  # PTRACE_SEIZE
print("ready", flush=True)
time.sleep(1000)
"""


def _until(condition: Callable[[], bool], what: str) -> None:
    last = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < last, f"never saw: {what}"
        time.sleep(0.005)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _session(leader: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == leader and _lives(pid):
                found.append(pid)
        except ProcessLookupError:
            continue
    return found


@contextmanager
def _shell(script: str) -> Iterator[tuple[Child, list[int]]]:
    """Lend a shell and the PIDs that it printed on its first line."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as output:
        try:
            child = Child(("/bin/sh", "-c", script), stdout=write_end)
        finally:
            os.close(write_end)
        with child:
            yield child, [int(word) for word in output.readline().split()]


@pytest.fixture(autouse=True)
def _leaves_nothing() -> Iterator[None]:
    """Fail a test after which this process has more descriptors or children than before."""

    def held() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), len(psutil.Process().children())

    gc.collect()  # what earlier tests have left open is not to be closed in the middle of this one
    before = held()
    yield
    assert all(now <= then for now, then in zip(held(), before, strict=True))


def test_the_exit_status_is_the_programs_own() -> None:
    with Child(("/bin/sh", "-c", "exit 7")) as child:
        assert child.wait(LONG) == 7
        assert child.poll() == 7


def test_a_status_of_a_signal_is_negative() -> None:
    with Child(("/bin/sh", "-c", "kill -KILL $$")) as child:
        assert child.wait(LONG) == -signal.SIGKILL


def test_one_that_runs_has_no_status_yet() -> None:
    with Child(("sleep", "1000")) as child:
        assert child.poll() is None


def test_a_child_leads_a_session_of_its_own() -> None:
    with Child(("sleep", "1000")) as child:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_a_child_inherits_only_what_it_is_given() -> None:
    given, kept = os.pipe()
    os.set_inheritable(kept, True)
    try:
        _, text = children.run(("ls", "/proc/self/fd"), deadline=LONG, pass_fds=(given,))
        found = {int(word) for word in text.split()}
        assert given in found
        assert kept not in found
    finally:
        os.close(given)
        os.close(kept)


def test_a_program_that_does_not_exist_is_an_error_of_the_system() -> None:
    with pytest.raises(FileNotFoundError):
        Child(("/no/such/program",))
    with pytest.raises(FileNotFoundError):
        children.run(("/no/such/program",), deadline=LONG)


def test_one_that_is_asked_to_end_ends() -> None:
    with Child(("sleep", "1000")) as child:
        child.terminate()
        assert child.wait(LONG) == -signal.SIGTERM
        child.terminate()  # harmless afterwards


def test_one_that_hangs_past_the_deadline_goes_with_its_grandchildren() -> None:
    script = "sh -c 'sleep 1000 & echo $$ $!; wait' & wait"
    with _shell(script) as (child, pids):
        assert len(pids) == 2
        with pytest.raises(DeadlineError, match="/bin/sh did not end in time"):
            child.wait(Deadline.after(SOON_S))
        assert not any(_lives(pid) for pid in (child.pid, *pids))


def test_one_that_ignores_being_asked_is_killed() -> None:
    with _shell("trap '' TERM INT HUP; echo $$; while :; do sleep 1000; done") as (child, (pid,)):
        child.terminate()
        os.kill(pid, signal.SIGINT)
        with pytest.raises(DeadlineError):
            child.wait(Deadline.after(SOON_S))
        assert child.poll() == -signal.SIGKILL
    assert _session(pid) == []


def test_one_that_is_stopped_is_killed() -> None:
    with _shell("sleep 1000 & echo $! $$; wait") as (child, pids):
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        _until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED, "a stopped child")
    assert not any(_lives(pid) for pid in pids)


def test_a_descendant_in_a_session_of_its_own_is_killed() -> None:
    with _shell("setsid sh -c 'sleep 1000 & echo $$ $!; wait' & wait") as (child, pids):
        assert os.getsid(pids[0]) != child.pid
    assert not any(_lives(pid) for pid in pids)


def test_one_that_forks_on_and_on_is_killed_with_all_that_it_made() -> None:
    with Child(("/bin/sh", "-c", FORKS_ON_AND_ON)) as child:
        _until(lambda: len(_session(child.pid)) > 20, "many children")
        child.kill_tree()
        assert _session(child.pid) == []


def test_one_that_its_own_child_traces_is_killed() -> None:
    read_end, write_end = os.pipe()
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_TRACES_ITS_PARENT!r}])"
    with os.fdopen(read_end) as output:
        child = Child((sys.executable, "-c", script), stdout=write_end)
        os.close(write_end)
        with child:
            assert output.readline() == "ready\n"
        assert _session(child.pid) == []


def test_killing_is_harmless_when_it_has_ended() -> None:
    child = Child(("true",))
    child.wait(LONG)
    child.kill_tree()
    child.kill_tree()
    assert child.poll() == 0


def test_what_a_program_leaves_running_on_purpose_is_left_alone() -> None:
    with _shell("setsid sleep 1000 >/dev/null & echo $!") as (child, (daemon,)):
        assert child.wait(LONG) == 0
    assert _lives(daemon)
    os.kill(daemon, signal.SIGKILL)


def test_nothing_is_left_when_the_block_fails() -> None:
    with pytest.raises(ValueError, match="ours"), _shell("sleep 1000 & echo $!; wait") as (child, pids):
        raise ValueError("ours")
    assert not any(_lives(pid) for pid in (child.pid, *pids))


def test_a_short_program_gives_its_status_and_both_streams() -> None:
    found = children.run(("/bin/sh", "-c", "echo out; echo err >&2; exit 3"), deadline=LONG)
    assert found == (3, "out\nerr\n")


def test_output_that_is_no_text_is_shown_as_well_as_it_can_be() -> None:
    assert children.run(("printf", r"a\377b"), deadline=LONG) == (0, "a\ufffdb")


def test_a_short_program_that_is_not_short_is_killed() -> None:
    with pytest.raises(DeadlineError, match="sleep did not end in time"):
        children.run(("sleep", "1000"), deadline=Deadline.after(SOON_S))


def test_one_that_closes_its_output_and_hangs_is_killed() -> None:
    with pytest.raises(DeadlineError):
        children.run(("/bin/sh", "-c", "exec >&- 2>&-; sleep 1000"), deadline=Deadline.after(SOON_S))


def test_one_that_writes_without_end_is_killed() -> None:
    with pytest.raises(DeadlineError, match="yes did not end in time"):
        children.run(("yes",), deadline=Deadline.after(SOON_S))


def test_of_much_output_the_beginning_is_kept() -> None:
    status, text = children.run(("seq", "1000000"), deadline=LONG)
    assert status == 0
    assert len(text) == 1024 * 1024
    assert text.startswith("1\n2\n3\n")


def test_what_outlives_its_parent_and_holds_the_output_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(DeadlineError):
        children.run(("/bin/sh", "-c", f"sleep 1000 & echo $! > {note}"), deadline=Deadline.after(SOON_S))
    assert not _lives(int(note.read_text()))


def test_its_standard_input_is_empty() -> None:
    assert children.run(("cat",), deadline=LONG) == (0, "")


def test_the_environment_can_be_given(tmp_path: Path) -> None:
    with (
        (tmp_path / "out").open("wb") as out,
        Child(("/usr/bin/env",), stdout=out.fileno(), env={"A": "1"}) as child,
    ):
        child.wait(LONG)
    assert (tmp_path / "out").read_text() == "A=1\n"


def test_streams_are_nobodys_unless_they_are_given() -> None:
    with Child(("sleep", "1000")) as child:
        assert {os.readlink(f"/proc/{child.pid}/fd/{fd}") for fd in (0, 1, 2)} == {os.devnull}
