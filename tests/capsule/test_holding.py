"""A process that is held stays the one that is meant, though another gets its PID."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from crikpy.aio.clock import Deadline
from crikpy.capsule import entering
from crikpy.capsule.holding import HeldProcess, pidfd_of
from crikpy.capsule.mounts import read_mounts
from crikpy.capsule.stdio import open_replacements
from crikpy.errors import CapsuleError, CrikpyError, FilesystemError, NodeError, NoSuchJobError
from crikpy.flows.stopping import Inhabitants
from crikpy.model.manifest import StdioEnd
from tests.capsule.hostile import take_pid
from tests.capsule.namespaces import inside, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make namespaces")

OUT = StdioEnd(fd=1, target="pipe:[1]")


@pytest.fixture(autouse=True)
def _leaves_no_descriptor() -> Iterator[None]:
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@contextlib.contextmanager
def _replaced() -> Iterator[tuple[HeldProcess, int]]:
    """Lend a held launcher that has ended, whose PID a process of the machine has got, and a pidfd of it."""
    with inside("sleep 100 &") as init, HeldProcess(init) as held:
        assert held.pid == init
        known = os.dup(held.fileno())
        os.kill(init, signal.SIGKILL)
        until(lambda: not psutil.pid_exists(init), "a free PID")
        stranger = take_pid(init)
        try:
            yield held, known
            assert stranger.poll() is None, "the stranger has been hit"
        finally:
            stranger.kill()
            stranger.wait()
            os.close(known)


def test_nothing_is_seen_of_who_got_its_pid_and_nothing_done_to_him() -> None:
    with _replaced() as (held, known):
        assert held.gone()
        held.signal(signal.SIGKILL)
        for act in (
            lambda: entering.members(held.folder),
            lambda: entering.dump_entry(held.folder),
            lambda: entering.raise_last_pid(held.folder, 9000, Deadline.after(5)),
            lambda: pidfd_of(held.folder),
            lambda: HeldProcess(held.pid, known),
            lambda: Inhabitants(held.pid, known),
        ):
            with pytest.raises(CapsuleError, match="is gone"):
                act()
        with pytest.raises(NoSuchJobError):
            read_mounts(held.folder)
        with pytest.raises(FilesystemError):
            open_replacements(held.folder, [OUT])
        with pytest.raises(ProcessLookupError):
            (held.folder / "root").lstat()


def test_words_that_enter_a_capsule_do_not_enter_the_namespaces_of_who_got_its_pid() -> None:
    with inside() as init, HeldProcess(init) as held:
        words = entering.dump_entry(held.folder)
        assert subprocess.run([*words, "/bin/true"], timeout=20).returncode == 0
        os.kill(init, signal.SIGKILL)
        until(lambda: not psutil.pid_exists(init), "a free PID")
        with take_pid(init) as stranger:
            entered = subprocess.run([*words, "/bin/true"], capture_output=True, timeout=20)
            stranger.kill()
        assert entered.returncode != 0


def _runs(pid: int) -> bool:
    return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_process_of_a_capsule_that_ended_since_is_not_signalled_by_its_number() -> None:
    with inside("sleep 100 & sleep 100 &") as init, Inhabitants(init) as inhabitants:
        until(lambda: len(inhabitants.pids()) == 2, "two sleepers")
        with subprocess.Popen(("sleep", "1000")) as stranger:
            # As if it had got the number of one of them after that was found.
            inhabitants._signal(stranger.pid, signal.SIGKILL)
            with pytest.raises(subprocess.TimeoutExpired):
                stranger.wait(0.2)
            stranger.kill()
        inhabitants.kill()
        until(lambda: not any(map(_runs, inhabitants.pids())), "the end of both")


def test_a_pipe_that_the_launcher_may_not_write_is_not_opened_for_writing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with subprocess.Popen(("sleep", "1000"), stdout=reader) as launcher:
            with pytest.raises(FilesystemError, match="other end"):
                open_replacements(launcher.pid, [OUT])
            launcher.kill()
    finally:
        os.close(reader)


_SWAPS = """
import os, sys
pipe, file = os.dup(1), os.open(sys.argv[1], os.O_RDONLY)
print(flush=True)
while True:
    os.dup2(file, 1)
    os.dup2(pipe, 1)
"""


def test_a_launcher_that_exchanges_its_output_has_nothing_but_its_pipe_opened(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("not for writing")
    with subprocess.Popen(("python3", "-c", _SWAPS, str(tmp_path / "f")), stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        launcher.stdout.readline()
        opened = []
        for _ in range(2000):
            with contextlib.suppress(CrikpyError):
                ((descriptor, _),) = open_replacements(launcher.pid, [OUT])
                opened.append(os.readlink(f"/proc/self/fd/{descriptor}"))
                os.close(descriptor)
        launcher.kill()
    assert opened
    assert all(link.startswith("pipe:") for link in opened), set(opened)


def test_a_descriptor_that_means_something_else_by_now_is_not_taken_for_a_process() -> None:
    with subprocess.Popen(("sleep", "1000")) as process, subprocess.Popen(("sleep", "1000")) as other:
        for known in (os.open("/dev/null", os.O_RDONLY), os.pidfd_open(other.pid)):
            with pytest.raises(CapsuleError):
                HeldProcess(process.pid, known)
            os.close(known)
        with pytest.raises(CapsuleError):
            HeldProcess(process.pid, known)
        process.kill()
        other.kill()


def test_one_that_is_gone_is_told() -> None:
    with subprocess.Popen(("true",)) as ended:
        pass
    with pytest.raises(CapsuleError):
        HeldProcess(ended.pid)
    with pytest.raises((CapsuleError, NodeError)):
        entering.dump_entry(ended.pid)
