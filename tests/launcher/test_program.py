"""The program itself: its size, its arguments, how it installs itself, and where its socket may lie."""

from __future__ import annotations

import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.launcher.conftest import SOURCE, Start


def run(launcher: Path, env: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the launcher to its end."""
    return subprocess.run([launcher, *arguments], env=env, capture_output=True, text=True, timeout=20)


def test_the_source_stays_small_enough_to_be_read_at_once() -> None:
    assert len((SOURCE / "launch.c").read_text().splitlines()) <= 300


def test_the_program_needs_nothing_of_the_image_it_runs_in(builds: Path) -> None:
    headers = subprocess.run(["readelf", "-lW", builds / "launch"], check=True, capture_output=True, text=True)
    assert "LOAD" in headers.stdout
    assert "INTERP" not in headers.stdout


def test_it_names_its_protocol(launcher: Path, env: dict[str, str]) -> None:
    done = run(launcher, env, "version")
    assert (done.returncode, done.stdout) == (0, "crikpy-launch 1\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no command"),
        (["--"], "no command"),
        (["--agent-wait", "1"], "no command"),
        (["--verbose", "true"], "--verbose: bad option or value"),
        (["--agent-wait", "soon", "true"], "--agent-wait: bad option or value"),
        (["--agent-wait", "-1", "true"], "--agent-wait: bad option or value"),
        (["--term-wait"], "--term-wait: bad option or value"),
        (["--term-wait", "99999999999", "true"], "--term-wait: bad option or value"),
        (["--socket", "relative/path", "true"], "--socket: bad option or value"),
        (["--socket", "/" + "n" * 100, "true"], "--socket: bad option or value"),
        (["--socket"], "--socket: bad option or value"),
    ],
)
def test_bad_usage_is_told_in_one_line(
    launcher: Path, env: dict[str, str], arguments: list[str], says: str
) -> None:
    done = run(launcher, env, *arguments)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith(f"crikpy-launch: {says}")
    assert "usage: launch [--socket PATH]" in done.stderr
    assert done.stderr.count("\n") == 1


def test_it_installs_itself_whole_over_an_older_one_that_runs(
    launcher: Path, env: dict[str, str], folder: Path
) -> None:
    assert run(launcher, env, "install", folder).returncode == 0
    installed = folder / "launch"
    words = ["--agent-wait", "0", "--socket", str(folder / "s"), "sh", "-c", "echo up; exec sleep 1000"]
    with subprocess.Popen([installed, *words], env=env, stdout=subprocess.PIPE) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == b"up\n", "before, a SIGTERM would end it as any program"
            assert run(launcher, env, "install", folder).returncode == 0
        finally:
            running.terminate()
        assert running.wait(20) == 143
    assert installed.read_bytes() == launcher.read_bytes()
    assert stat.S_IMODE(installed.stat().st_mode) == 0o755
    assert sorted(path.name for path in folder.iterdir() if path != folder / "s") == ["launch"]


def test_it_installs_itself_into_several_folders_relative_ones_too(
    launcher: Path, env: dict[str, str], folder: Path
) -> None:
    names = ("a", "b/c", "d")
    for name in names:
        (folder / name).mkdir(parents=True)
    words = [str(launcher), "install", "a", str(folder / "b" / "c"), "d"]
    done = subprocess.run(words, env=env, cwd=folder, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for name in names:
        assert (folder / name / "launch").read_bytes() == launcher.read_bytes()
        assert [path.name for path in (folder / name).iterdir()] == ["launch"]


def test_an_install_into_several_folders_names_the_one_that_failed(
    launcher: Path, env: dict[str, str], folder: Path
) -> None:
    for name in ("first", "last"):
        (folder / name).mkdir()
    done = run(launcher, env, "install", folder / "first", folder / "missing", folder / "last")
    assert (done.returncode, done.stderr) == (125, f"crikpy-launch: {folder}/missing: No such file or directory\n")
    assert (folder / "first" / "launch").exists()
    assert not (folder / "last" / "launch").exists()


def test_an_install_that_fails_says_why_and_leaves_nothing(
    launcher: Path, env: dict[str, str], folder: Path
) -> None:
    done = run(launcher, env, "install", folder / "missing")
    assert (done.returncode, done.stderr) == (125, f"crikpy-launch: {folder}/missing: No such file or directory\n")
    (folder / "launch").mkdir()
    done = run(launcher, env, "install", folder)
    assert (done.returncode, done.stderr) == (125, f"crikpy-launch: {folder}: Is a directory\n")
    assert [path.name for path in folder.iterdir()] == ["launch"]


def test_a_command_named_like_an_order_runs_after_the_dashes(
    launcher: Path, env: dict[str, str], folder: Path
) -> None:
    done = run(launcher, env, "--socket", folder / "s", "--agent-wait", "0", "--", "install", "--version")
    assert done.returncode == 0
    assert done.stdout.startswith("install (GNU coreutils)")


def test_a_socket_may_lie_deeper_than_an_address_is_long(start: Start, folder: Path) -> None:
    deep = folder / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    capsule = start("true", socket_path=deep / "launch.sock")
    assert capsule.connect().greeting == "crikpy-launch 1 waiting 0 -1"
    assert stat.S_ISSOCK((deep / "launch.sock").stat().st_mode)


def test_a_socket_left_by_an_earlier_launcher_is_replaced(start: Start, folder: Path) -> None:
    assert start("true", agent_wait=0).wait() == 0
    assert (folder / "launch.sock").is_socket()
    assert start("true").connect().greeting == "crikpy-launch 1 waiting 0 -1"


def test_whoever_reaches_the_socket_may_connect_for_trust_is_by_credentials(start: Start, folder: Path) -> None:
    start("true", before=["sh", "-c", 'umask 077; exec "$@"', "-"]).connect()
    assert stat.S_IMODE((folder / "launch.sock").stat().st_mode) == 0o666


def test_without_a_socket_the_job_starts_at_once_with_a_warning(start: Start, folder: Path) -> None:
    capsule = start("sh", "-c", "echo started; exit 3", socket_path=folder / "missing" / "launch.sock")
    assert capsule.wait() == 3
    assert capsule.stdout == "started\n"
    assert "No such file or directory" in capsule.stderr
    assert "starts without its agent" in capsule.stderr


def test_a_launcher_without_a_free_descriptor_waits_for_one_in_peace(start: Start) -> None:
    few = ["sh", "-c", 'ulimit -n 12; exec "$@"', "-"]
    capsule = start("sleep", "1000", agent_wait=0, before=few)
    peers = [capsule.connect() for _ in range(6)]  # 12 less standard input and output, folder, signals, listener
    with socket.socket(socket.AF_UNIX) as queued:
        queued.settimeout(20)
        queued.connect(str(capsule.socket_path))
        before = capsule.first.cpu_times()
        assert start("true", agent_wait=1, socket_path=capsule.socket_path.with_name("b")).wait() == 0
        after = capsule.first.cpu_times()
        assert after.user + after.system - before.user - before.system < 0.5
        assert peers[1].ask("status").startswith("ok running ")
        peers[0].close()
        assert queued.recv(4096).startswith(b"crikpy-launch 1 running ")


def test_a_launcher_that_gets_no_signals_steps_aside_for_its_job(builds: Path) -> None:
    # Three descriptors leave none for signalfd; the job is the launcher itself, since it needs none to be loaded.
    argv = ["sh", "-c", 'ulimit -n 3; exec "$0" --agent-wait 3600 -- "$0" version', f"{builds}/launch"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (0, "crikpy-launch 1\n")
