"""The launcher as a first process: starts its job clean, reaps, passes signals on, exits as the job did."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.launcher.capsule import names, until
from tests.launcher.conftest import Start

FORWARDED = [
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCONT,
    signal.SIGALRM,
    signal.SIGRTMIN,
    signal.SIGRTMAX,
]

COUNT_SIGNALS = """
import signal, sys
for number in map(int, sys.argv[1:]):
    signal.signal(number, lambda number, _: print("got", number, flush=True))
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137), ("kill -USR1 $$", 138)]
)
def test_the_launcher_exits_as_its_job_did(start: Start, script: str, status: int) -> None:
    assert start("sh", "-c", script, agent_wait=0).wait() == status


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [
        ("no-such-command", 127, "No such file or directory"),
        ("/no/such/command", 127, "No such file or directory"),
        ("/dev/null/command", 127, "Not a directory"),
        ("", 127, "No such file or directory"),
        ("/etc/passwd", 126, "Permission denied"),
        ("/tmp", 126, "Permission denied"),
    ],
)
def test_a_command_that_cannot_run_ends_as_in_a_shell(
    start: Start, command: str, status: int, reason: str
) -> None:
    capsule = start(command, agent_wait=0)
    assert capsule.wait() == status
    assert capsule.stderr == f"crikpy-launch: {command}: {reason}\n"


def test_without_an_agent_the_job_starts_after_the_wait(start: Start) -> None:
    capsule = start("echo", "started", agent_wait=1)
    assert capsule.ask("status") == "ok waiting 0 -1"
    assert capsule.wait() == 0
    assert capsule.stdout == "started\n"


def test_an_agent_that_only_watches_does_not_delay_the_start(start: Start) -> None:
    capsule = start("true", agent_wait=1)
    with capsule.connect() as peer:
        assert peer.event() == "event ended 0"
    assert capsule.wait() == 0


def test_the_job_inherits_standard_input_and_output_as_they_are(start: Start, folder: Path) -> None:
    (folder / "input").write_text("some input")
    with (folder / "input").open("rb") as source:
        capsule = start("cat", agent_wait=0, stdin=source.fileno())
    assert capsule.wait() == 0
    assert capsule.stdout == "some input"


def test_the_job_starts_with_default_signals_whatever_the_launcher_inherited(start: Start) -> None:
    spoiled = ["env", "--ignore-signal=HUP,CHLD,PIPE,USR1", "--block-signal=USR2,TERM"]
    capsule = start("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status", agent_wait=0, before=spoiled)
    assert capsule.wait() == 0
    assert [line.split()[1] for line in capsule.stdout.splitlines()] == ["0" * 16] * 2


def test_the_job_leads_a_session_of_its_own(start: Start) -> None:
    capsule = start("cat", "/proc/self/stat", agent_wait=0)
    capsule.wait()
    pid, _name, _state, parent, group, session = capsule.stdout.split()[:6]
    assert (parent, group, session) == ("1", pid, pid)


def test_the_job_gets_none_of_the_launchers_descriptors(start: Start) -> None:
    capsule = start("ls", "/proc/self/fd", agent_wait=0)
    capsule.wait()
    assert capsule.stdout.split() == ["0", "1", "2", "3"]  # the fourth is the folder that ls reads


def test_the_job_keeps_umask_and_working_directory(start: Start, folder: Path) -> None:
    inherited = ["sh", "-c", f'umask 027; cd {folder}; exec "$@"', "-"]
    capsule = start("sh", "-c", "umask; pwd", agent_wait=0, before=inherited)
    capsule.wait()
    assert capsule.stdout == f"0027\n{folder}\n"


_KEEPS_NO_ORPHANS = (
    sys.executable,
    "-c",
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 0, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])",
)


def test_orphans_become_children_of_the_job_as_of_a_first_process(start: Start) -> None:
    capsule = start("sh", "-c", "(sleep 999 &); exec sleep 1000", agent_wait=0)
    until(lambda: names(capsule.job) == ["sleep"], "its orphan")
    (orphan,) = capsule.job.children()
    orphan.kill()
    until(lambda: orphan.status() == psutil.STATUS_ZOMBIE, "an end of which nobody asks")
    assert capsule.job.children() == [orphan]


def test_the_children_of_the_job_keep_no_orphans(start: Start) -> None:
    capsule = start("sh", "-c", "sh -c '(sleep 999 &); exec sleep 1000'; true", agent_wait=0)
    until(lambda: names(capsule.job) == ["sleep", "sleep"], "the orphan beside its parent")


def test_orphans_of_a_job_that_keeps_none_are_reaped_and_their_end_is_not_the_jobs(start: Start) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do (true &); done; exec sleep 1000"
    capsule = start(*_KEEPS_NO_ORPHANS, "sh", "-c", script, agent_wait=0)
    until(lambda: names(capsule.first) == ["sleep"], "only the job")
    assert capsule.alive()


def test_outside_a_namespace_the_launcher_is_its_orphans_reaper(
    launcher: Path, folder: Path, env: dict[str, str]
) -> None:
    argv = ["--socket", f"{folder}/launch.sock", "--agent-wait", "0", "--"]
    script = (*_KEEPS_NO_ORPHANS, "sh", "-c", "(sleep 1000 &); exec sleep 1001")
    process = subprocess.Popen([launcher, *argv, *script], env=env)
    seen = psutil.Process(process.pid)
    until(lambda: len(seen.children()) == 2 and names(seen) == ["sleep", "sleep"], "the orphan as a child")
    job, orphan = sorted(seen.children(), key=lambda child: child.cmdline(), reverse=True)
    orphan.kill()
    until(lambda: seen.children() == [job], "the orphan reaped")
    job.kill()
    assert process.wait(20) == 137


def test_a_stopped_job_is_not_an_ended_one(start: Start) -> None:
    capsule = start("sh", "-c", 'kill -STOP $$; echo "went on"; exit 6', agent_wait=0)
    until(lambda: capsule.job.status() == psutil.STATUS_STOPPED, "a stopped job")
    peer = capsule.connect()
    assert peer.ask("status").startswith("ok running ")
    capsule.signal(signal.SIGCONT)
    assert capsule.wait() == 6
    assert capsule.stdout == "went on\n"


def test_signals_go_on_to_the_job(start: Start) -> None:
    numbers = [str(int(number)) for number in FORWARDED]
    capsule = start(sys.executable, "-c", COUNT_SIGNALS, *numbers, agent_wait=0)
    capsule.prints("ready")
    for number in FORWARDED:
        capsule.signal(number)
        capsule.prints(f"got {int(number)}\n")


def test_a_signal_before_the_start_is_forgotten(start: Start) -> None:
    capsule = start("sleep", "0.1")
    peer = capsule.connect()
    capsule.signal(signal.SIGHUP)
    capsule.signal(signal.SIGINT)
    assert peer.ask("start").startswith("ok running ")
    assert capsule.wait() == 0
