"""Signals reach a capsule's processes and nobody else, even when its launcher's PID is somebody else's now."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from crikpy.aio.clock import Deadline
from crikpy.errors import CapsuleError
from crikpy.flows.stopping import Inhabitants
from tests.capsule.hostile import take_pid

_PATIENCE_S = 20.0

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a PID namespace")

LAUNCHER = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
"""Stands for a launcher, with a job that has a child."""

JOB = "import subprocess; subprocess.run(['sleep', '1000'])"


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = Deadline.after(_PATIENCE_S)
    while not condition():
        assert not deadline.expired(), f"never saw: {what}"
        time.sleep(0.01)


@pytest.fixture
def launcher() -> Iterator[psutil.Process]:
    """The first process of a PID namespace of its own, with two others below it."""
    words = ("unshare", "--pid", "--fork", "--kill-child", "--", sys.executable, "-c", LAUNCHER, JOB)
    with subprocess.Popen(words) as outer:
        made = psutil.Process(outer.pid)
        try:
            until(lambda: len(made.children(recursive=True)) == 3, "the whole tree")
            yield made.children()[0]
        finally:
            outer.kill()


def _states(launcher: psutil.Process) -> set[str]:
    return {process.status() for process in launcher.children(recursive=True)}


def test_they_are_let_go_but_for_those_that_were_stopped_before(launcher: psutil.Process) -> None:
    job, child = launcher.children(recursive=True)
    with Inhabitants(launcher.pid) as inhabitants:
        inside = inhabitants.pids()
        assert inside.keys() == {job.pid, child.pid}
        for pid in inside:
            os.kill(pid, signal.SIGSTOP)
        until(lambda: _states(launcher) == {psutil.STATUS_STOPPED}, "both stopped")
        inhabitants.let_go(but=[inside[job.pid]])
        until(lambda: child.status() != psutil.STATUS_STOPPED, "the child going on")
        assert job.status() == psutil.STATUS_STOPPED
        assert launcher.status() != psutil.STATUS_STOPPED


def test_they_are_killed_without_their_launcher(launcher: psutil.Process) -> None:
    job, child = launcher.children(recursive=True)
    with Inhabitants(launcher.pid) as inhabitants:
        os.kill(launcher.pid, signal.SIGSTOP)  # it would end with its job
        inhabitants.kill()
        until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child's end")
        until(lambda: job.status() == psutil.STATUS_ZOMBIE, "the job's end")
        assert launcher.status() == psutil.STATUS_STOPPED
        assert not inhabitants.gone()


def test_there_are_none_any_more_when_the_launcher_has_ended(launcher: psutil.Process) -> None:
    with Inhabitants(launcher.pid) as inhabitants:
        launcher.kill()
        assert inhabitants.gone(within_s=_PATIENCE_S)
        assert inhabitants.pids() == {}
        inhabitants.let_go(but=())


def test_a_process_that_got_the_launchers_pid_is_not_taken_for_it(launcher: psutil.Process) -> None:
    with Inhabitants(launcher.pid) as inhabitants:
        launcher.kill()
        until(lambda: not psutil.pid_exists(launcher.pid), "a free PID")
        with take_pid(launcher.pid) as stranger:
            try:
                # Asked only: if it were taken for the launcher, all of this machine's processes would be its.
                assert inhabitants.pids() == {}
            finally:
                stranger.kill()


def test_a_launcher_that_is_gone_is_told() -> None:
    with subprocess.Popen(("true",)) as gone:
        pass
    with pytest.raises(CapsuleError, match="is gone"):
        Inhabitants(gone.pid)
