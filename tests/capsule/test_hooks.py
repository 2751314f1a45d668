"""Speaking with a job about its checkpoints: whatever listens there, and whatever it says, is borne."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crikpy.aio.clock import Deadline
from crikpy.capsule.hooks import Answer, JobListener, listeners
from crikpy.errors import CapsuleError, DeadlineError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as whoever saves jobs does")

OURS = Path("/proc/self")
"""As if this process were the launcher: what is in its PID namespace belongs to its capsule."""

LISTENER = """
import os, socket, struct, sys, time
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1])
spare = [socket.socket() for _ in range(5)]
print("ready", flush=True)
if sys.argv[2] == "deaf":
    sys.stdin.read()
    listener.setblocking(False)
    try:
        print(listener.recv(100), flush=True)
    except BlockingIOError:
        print("nothing", flush=True)
    sys.exit()
while True:
    request, notes, _, _ = listener.recvmsg(512, 64)
    [pipe] = struct.unpack("i", notes[0][2])
    answer = sys.argv[2].encode("latin-1").replace(b"REQUEST", request)
    if answer.startswith(b"dribble"):
        while True:
            os.write(pipe, b"x")
            time.sleep(0.05)
    if answer != b"silence":
        try:
            os.write(pipe, answer)
        except OSError:
            pass
        os.close(pipe)
"""


@contextmanager
def listening(folder: Path, answer: str, *before: str) -> Iterator[tuple[int, str, subprocess.Popen[str]]]:
    """Lend a process that listens and answers so: its PID, the path of its socket, itself."""
    path = str(folder / "job-1.sock")
    words = (*before, sys.executable, "-c", textwrap.dedent(LISTENER), path, answer)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process.pid, path, process
        finally:
            process.kill()


def _ask(folder: Path, answer: str, *, within_s: float = 20.0) -> Answer:
    with listening(folder, answer) as (pid, path, _), JobListener(OURS, pid, path) as found:
        return found.ask("checkpoint 10.0", Deadline.after(within_s))


def test_a_request_is_answered(tmp_path: Path) -> None:
    assert _ask(tmp_path, "ready\n") == Answer(ready=True, word="ready")
    (other := tmp_path / "other").mkdir()
    assert _ask(other, "failed REQUEST\n") == Answer(
        ready=False, word="failed", reason="crikpy-job 1 checkpoint 10.0"
    )


def test_what_a_job_says_is_made_fit_to_be_shown(tmp_path: Path) -> None:
    assert _ask(tmp_path, "failed \x1b[2J\xe9 \r x\n").reason == "\ufffd[2J\ufffd \ufffd x"


@pytest.mark.parametrize("answer", ["", "ready", "what?\n", "\n", "\1\2\n", "ready" + "x" * 5000 + "\n"])
def test_nonsense_is_one_error(tmp_path: Path, answer: str) -> None:
    with pytest.raises(CapsuleError):
        _ask(tmp_path, answer)


@pytest.mark.parametrize("answer", ["silence", "dribble"])
def test_who_does_not_answer_is_not_waited_for_longer_than_that(tmp_path: Path, answer: str) -> None:
    with pytest.raises((DeadlineError, CapsuleError)):
        _ask(tmp_path, answer, within_s=0.3)


def test_a_request_that_nobody_took_is_taken_back(tmp_path: Path) -> None:
    with listening(tmp_path, "deaf") as (pid, path, process):
        with JobListener(OURS, pid, path) as found, pytest.raises(DeadlineError):
            found.ask("checkpoint 10.0", Deadline.after(0.1))
        assert process.communicate("")[0] == "nothing\n"


def test_what_has_become_of_a_job_waits_until_it_listens(tmp_path: Path) -> None:
    with listening(tmp_path, "deaf") as (pid, path, process):
        with JobListener(OURS, pid, path) as found, pytest.raises(DeadlineError):
            found.ask("after moved", Deadline.after(0.1), take_back=False)
        assert "after moved" in process.communicate("")[0]


def test_who_does_not_read_at_all_is_given_up_on(tmp_path: Path) -> None:
    faults: set[type[Exception]] = set()
    with listening(tmp_path, "deaf") as (pid, path, _), JobListener(OURS, pid, path) as found:
        for _ in range(1000):
            try:
                found.ask("after moved", Deadline.after(0), take_back=False)
            except (CapsuleError, DeadlineError) as fault:
                faults.add(type(fault))
    assert faults == {CapsuleError, DeadlineError}


def test_a_process_of_another_pid_namespace_is_not_spoken_with(tmp_path: Path) -> None:
    with listening(tmp_path, "ready\n", "unshare", "--pid", "--fork", "--kill-child") as (pid, path, _):
        [inner] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        with pytest.raises(CapsuleError, match="does not belong"):
            JobListener(OURS, int(inner), path)


def test_a_socket_of_the_name_that_is_somebody_elses_is_not_spoken_with(tmp_path: Path) -> None:
    with listening(tmp_path, "ready\n") as (_, path, _), pytest.raises(CapsuleError, match="no such socket"):
        JobListener(OURS, os.getpid(), path)


def test_a_process_that_is_gone_is_one_error(tmp_path: Path) -> None:
    with listening(tmp_path, "ready\n") as (pid, path, process):
        process.kill()
        process.wait()
        with pytest.raises(CapsuleError):
            JobListener(OURS, pid, path)


def _launcher(folder: Path) -> Path:
    """Return what looks like a launcher's folder below /proc, with a root in it."""
    (folder / "root/.crikpy").mkdir(parents=True)
    return folder


def test_only_names_of_such_sockets_count_and_not_too_many(tmp_path: Path) -> None:
    launcher = _launcher(tmp_path)
    for name in (
        "job-7.sock",
        "job-12.sock",
        "launch.sock",
        "job-x.sock",
        "job-1.sock.sock",
        "job-12345678901.sock",
    ):
        (launcher / "root/.crikpy" / name).touch()
    assert listeners(launcher, "/.crikpy") == {"job-12.sock": 12, "job-7.sock": 7}
    for number in range(1000):
        (launcher / f"root/.crikpy/job-{number}.sock").touch()
    assert len(listeners(launcher, "/.crikpy")) == 64


def test_a_link_is_not_followed_to_them(tmp_path: Path) -> None:
    launcher = _launcher(tmp_path)
    (launcher / "root/.crikpy/job-7.sock").touch()
    (launcher / "root/there").symlink_to(".crikpy")
    assert listeners(launcher, "/there") == {}
    assert listeners(launcher, "/nowhere") == {}
