"""Entering a capsule: its namespaces and no others, its cgroups, and PIDs that are where they were wanted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.aio.clock import Deadline
from crikpy.capsule import entering
from crikpy.errors import CapsuleError, DeadlineError, NodeError
from tests.capsule.namespaces import inside, run, until
from tests.chaos.memory import memory_group

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make namespaces")

LONG = Deadline.after(86_400)
NOBODY = 2**22 + 1
"""Above the largest PID that Linux ever gives."""


@pytest.fixture
def init() -> Iterator[int]:
    """The first process of a PID namespace with a mount namespace of its own."""
    with inside() as pid:
        yield pid


def _next_pid(init: int) -> int:
    """Return the PID inside of the next process of the namespace."""
    return int(run(["nsenter", f"--target={init}", "--pid", "--mount", "sh", "-c", "echo $$"]))


def _space(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def test_the_next_process_gets_a_pid_above_the_raised_one(init: int) -> None:
    assert _next_pid(init) < 9000
    entering.raise_last_pid(init, 9000, LONG)
    assert _next_pid(init) == 9001
    assert _next_pid(init) == 9002


def test_the_pids_of_the_node_are_left_alone(init: int) -> None:
    limit, last = entering.pid_limit(), Path("/proc/sys/kernel/ns_last_pid")
    wanted = 1000 + (int(last.read_text()) + limit // 2) % (limit - 2000)  # as far away as can be
    entering.raise_last_pid(init, wanted, LONG)
    assert _next_pid(init) == wanted + 1
    assert abs(int(last.read_text()) - wanted) > limit // 10


def test_a_job_of_the_highest_pids_has_the_next_ones_wrapped_round(init: int) -> None:
    entering.raise_last_pid(init, entering.clear_last_pid(entering.pid_limit() - 1), LONG)
    assert 300 < _next_pid(init) < 400


@pytest.mark.parametrize("wrong", [10**9, -5])
def test_a_pid_that_the_kernel_refuses_is_an_error_of_the_node(init: int, wrong: int) -> None:
    with pytest.raises(NodeError, match="could not be raised") as caught:
        entering.raise_last_pid(init, wrong, LONG)
    assert "CAP_" in caught.value.remedy


def test_no_pid_is_raised_past_the_deadline(init: int) -> None:
    with pytest.raises(DeadlineError):
        entering.raise_last_pid(init, 9000, Deadline.after(0))


def test_of_a_launcher_that_is_gone_nothing_can_be_known() -> None:
    for act in (
        lambda: entering.raise_last_pid(NOBODY, 9000, LONG),
        lambda: entering.members(NOBODY),
        lambda: entering.dump_entry(NOBODY),
    ):
        with pytest.raises(CapsuleError, match=f"the launcher .process {NOBODY}. is gone"):
            act()


def test_a_launcher_that_has_ended_but_was_not_reaped_is_gone() -> None:
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(CapsuleError, match="is gone"):
            entering.dump_entry(ended.pid)


@given(highest=st.integers(min_value=1, max_value=2**22))
def test_the_cleared_pid_is_above_the_jobs_or_wrapped_round(highest: int) -> None:
    cleared = entering.clear_last_pid(highest)
    assert cleared == (highest if highest + 1000 < entering.pid_limit() else 300)
    assert cleared + 1 < entering.pid_limit()


def test_every_process_of_the_namespace_is_a_member_under_both_of_its_numbers() -> None:
    with inside("sleep 1000 & sh -c 'sleep 1000 & wait' &") as init:
        names = ["sh", "sh", "sleep", "sleep"]
        until(
            lambda: sorted(psutil.Process(pid).name() for pid in entering.members(init)) == names, "both sleepers"
        )
        found = entering.members(init)
        family = {init, *(child.pid for child in psutil.Process(init).children(recursive=True))}
        assert family == set(found)
        assert found[init] == 1
        assert os.getpid() not in found
        for outer, inner in found.items():
            name = run(["nsenter", f"--target={init}", "--pid", "--mount", "cat", f"/proc/{inner}/comm"])
            assert name.strip() == psutil.Process(outer).name()


def test_a_namespace_below_the_capsules_is_none_of_its_members() -> None:
    with inside("unshare --pid --fork sleep 4711 &") as init:

        def sleeper() -> list[psutil.Process]:
            family = psutil.Process(init).children(recursive=True)
            return [child for child in family if child.cmdline() == ["sleep", "4711"]]

        until(lambda: bool(sleeper()), "the sleeper in the nested namespace")
        assert sleeper()[0].pid not in entering.members(init)


def test_a_pid_inside_is_that_of_the_innermost_namespace(init: int) -> None:
    assert entering.inner_pid(init) == 1
    assert entering.inner_pid(os.getpid()) == os.getpid()


def test_a_dump_enters_every_namespace_that_is_the_capsules_own() -> None:
    kinds = ("--mount-proc", "--net", "--ipc", "--uts", "--cgroup")
    with inside(kinds=kinds) as init:
        read = "for kind in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$kind; done"
        found = run([*entering.dump_entry(init), "/bin/sh", "-c", read]).split()
        assert found == [_space(init, kind) for kind in ("mnt", "pid", "net", "ipc", "uts", "cgroup")]


def test_a_namespace_that_is_shared_with_the_node_is_not_entered_again(init: int) -> None:
    words = entering.dump_entry(init)
    *options, end = words[words.index("/usr/bin/nsenter") + 1 :]
    assert (options, end) == ([f"--mount=/proc/{init}/ns/mnt", f"--pid=/proc/{init}/ns/pid"], "--")
    assert run([*entering.dump_entry(init), "/bin/readlink", "/proc/self/ns/net"]).strip() == _space("self", "net")


def test_whoever_enters_for_a_dump_is_in_no_cgroup_of_ours(init: int) -> None:
    with memory_group(100) as group:
        read = [*group.entered(), *entering.dump_entry(init), "/bin/cat", "/proc/self/cgroup"]
        found = [line.split(":", 2)[2] for line in run(read).splitlines()]
    assert set(found) == {"/"}


def test_what_is_given_by_descriptor_is_reached_from_inside(init: int, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("from the node")
    folder = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        found = subprocess.run(
            [*entering.dump_entry(init), "/bin/cat", f"/proc/self/fd/{folder}/note"],
            pass_fds=[folder],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        os.close(folder)
    assert found.stdout == "from the node"


def _writable_hierarchy() -> Path | None:
    for place in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        if (place / "cgroup.procs").exists() and os.access(place / "cgroup.procs", os.W_OK):
            return place
    return None


def test_a_restore_joins_the_capsules_cgroups_before_it_enters(init: int) -> None:
    hierarchy = _writable_hierarchy()
    if hierarchy is None:
        pytest.skip("no cgroup can be made here")
    group = hierarchy / f"crikpy-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cgroup.procs").write_text(str(init))
        entry = entering.restore_entry(init)
        assert str(group / "cgroup.procs") in entry
        found = run([*entry, "/bin/sh", "-c", "cat /proc/self/cgroup; readlink /proc/self/ns/mnt"])
        assert f":/{group.name}\n" in found
        assert found.splitlines()[-1] == _space(init, "mnt")
        (hierarchy / "cgroup.procs").write_text(str(init))
    finally:
        group.rmdir()


def test_a_restore_that_cannot_join_does_not_start(init: int, tmp_path: Path) -> None:
    entry = list(entering.restore_entry(init))
    entry[entry.index("--") : entry.index("--")] = [str(tmp_path / "no" / "cgroup.procs")]
    mark = tmp_path / "started"
    found = subprocess.run([*entry, "/usr/bin/touch", str(mark)], capture_output=True)
    assert found.returncode != 0
    assert not mark.exists()


def test_words_with_spaces_and_quotes_arrive_as_they_are(init: int) -> None:
    words = ["a b", "it's", '"', "$HOME", "--", "*"]
    show = "import sys; print(sys.argv[1:])"
    assert run([*entering.restore_entry(init), sys.executable, "-c", show, *words]).strip() == str(words)


def test_a_process_with_a_name_that_is_no_text_is_read_all_the_same() -> None:
    name = Path("/proc/self/comm")
    before = name.read_bytes().rstrip(b"\n")
    name.write_bytes(b"job-\xc3")  # a character cut in half, as the kernel cuts long names
    try:
        assert entering.inner_pid(os.getpid()) == os.getpid()
        assert os.getpid() in entering.members(os.getpid())
    finally:
        name.write_bytes(before)
