"""Which processes are the job: its tree, not what left it, and not those who only came to look."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from crikpy.capsule.trees import find_tree
from crikpy.errors import CapsuleError
from tests.capsule.namespaces import PATIENCE_S, inside, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make namespaces")


def _sleeper(init: int, seconds: int) -> int:
    """Return the PID of the process in the namespace that sleeps so long, once it does."""
    last = time.monotonic() + PATIENCE_S
    space = os.readlink(f"/proc/{init}/ns/pid")
    while time.monotonic() < last:
        for process in psutil.process_iter():
            try:
                if (
                    process.cmdline() == ["sleep", str(seconds)]
                    and os.readlink(f"/proc/{process.pid}/ns/pid") == space
                ):
                    return process.pid
            except (psutil.NoSuchProcess, OSError):
                continue
    raise AssertionError(f"nobody sleeps {seconds} s")


@contextmanager
def _visitor(init: int, seconds: int) -> Iterator[int]:
    """Lend a process that entered the namespace from outside."""
    with subprocess.Popen(["nsenter", f"--target={init}", "--pid", "sleep", str(seconds)]) as entered:
        pid = _sleeper(init, seconds)
        yield pid
        psutil.Process(pid).kill()
        entered.wait()


def test_a_job_of_one_process_is_its_root() -> None:
    with inside("sleep 1001 &") as init:
        root = _sleeper(init, 1001)
        found = find_tree(init, root)
        assert (found.members, found.strays) == ((root,), ())


def test_the_root_and_all_that_descends_from_it_are_members_the_root_first() -> None:
    script = "sh -c 'sleep 1001 & sh -c \"sleep 1002 & sleep 1003 & wait\" & wait' &"
    with inside(script) as init:
        sleepers = {_sleeper(init, seconds) for seconds in (1001, 1002, 1003)}
        root = psutil.Process(_sleeper(init, 1001)).ppid()
        found = find_tree(init, root)
        assert found.members[0] == root
        assert set(found.members) == {
            root,
            *(child.pid for child in psutil.Process(root).children(recursive=True)),
        }
        assert sleepers < set(found.members)
        assert found.strays == ()


def test_what_left_the_tree_is_a_stray_with_its_descendants() -> None:
    # The middle shell ends, so that its child becomes one of the first process.
    script = 'sh -c \'sleep 1001 & sh -c "sh -c \\"sleep 1002 & wait\\" &"; wait\' &'
    with inside(script) as init:
        root = psutil.Process(_sleeper(init, 1001)).ppid()
        stray = _sleeper(init, 1002)
        parent = psutil.Process(stray).ppid()
        members = {root, _sleeper(init, 1001)}
        until(lambda: set(find_tree(init, root).members) == members, "the middle shell's end")
        assert find_tree(init, root).strays == (parent, stray)


def test_somebody_who_entered_is_none_of_the_jobs() -> None:
    with inside("sleep 1001 &") as init, _visitor(init, 1002) as visitor:
        root = _sleeper(init, 1001)
        found = find_tree(init, root)
        assert visitor not in (*found.members, *found.strays)
        assert (found.members, found.strays) == ((root,), ())


def test_without_a_launcher_there_is_no_tree() -> None:
    with inside("sleep 1001 &") as init:
        pass
    with pytest.raises(CapsuleError, match="is gone"):
        find_tree(init, init)


def test_what_a_sandbox_runs_is_nested_and_what_is_born_meanwhile_is_not() -> None:
    with inside("sh -c 'while :; do sleep 0.05 & done' &") as init:
        until(lambda: len(psutil.Process(init).children(recursive=True)) > 1, "a job that forks")
        (root,) = (child.pid for child in psutil.Process(init).children() if child.name() == "sh")
        assert [find_tree(init, root).nested for _ in range(8)] == [()] * 8
    with inside("sh -c 'unshare --pid --fork sh -c \"sleep 1001 & wait\"; true' &") as init:
        until(lambda: len(psutil.Process(init).children(recursive=True)) == 4, "a sandbox")
        (root,) = (child.pid for child in psutil.Process(init).children())
        assert len(find_tree(init, root).nested) == 2
